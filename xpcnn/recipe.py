"""Good defaults for training a classifier: optimiser, learning rate, loss, class weights."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpcnn import calibration, losses, optimizers, schedules
from xpcnn.layers import BatchNorm, Dense
from xpcnn.layers.activation import applies
from xpcnn.losses import Loss
from xpcnn.model import Sequential
from xpcnn.program.program import walk
from xpcnn.registry import check_int

#: Measured on blood cells, MNIST and the bundled digits: docs/results.md.
EPOCHS = 40
#: Few images are trained on for more epochs, so that there are this many steps, but for no more epochs than this.
FEWEST_STEPS, MOST_EPOCHS = 480, 120
BATCH_SIZE = 64
LEARNING_RATE = 4e-3
WEIGHT_DECAY = 0.05
LABEL_SMOOTHING = 0.05
#: What of a pretrained model is trained, and the fraction of the learning rate for the layers below the last.
PARTS = ("head", "last", "all")
BODY = 0.3


def compile(
    model: Sequential,
    steps: int,
    learning_rate: float = LEARNING_RATE,
    weight_decay: float = WEIGHT_DECAY,
    label_smoothing: float = LABEL_SMOOTHING,
    loss: Loss | None = None,
) -> None:
    """Compile a model for ``steps`` updates: AdamW under one cycle of the learning rate, cross-entropy, accuracy.

    Weight decay excludes biases and normalisation. A model with ``thresholds``, which gives an image several
    labels, gets binary cross-entropy and their macro F1. loss: use this one instead, without ``label_smoothing``.
    Raises ValueError for values out of range.

    >>> from xpcnn import layers
    >>> model = Sequential([layers.Flatten(), layers.Dense(3, activation="softmax")], input_shape=(1, 4, 4))
    >>> compile(model, steps=100)
    >>> model.optimizer.name, model.loss.label_smoothing
    ('adamw', 0.05)
    """
    schedule = schedules.OneCycle(learning_rate, max(2, check_int("steps", steps, 1)))
    optimizer = optimizers.AdamW(schedule, weight_decay=weight_decay)
    several = model.thresholds is not None
    own = (losses.BinaryCrossEntropy if several else losses.CrossEntropy)(label_smoothing)
    model.compile(optimizer, loss or own, ["multilabel_f1" if several else "accuracy"])


def calibrate_labels(model: Sequential, x: Any, y: Any, threads: int | None = None) -> tuple[float, ...]:
    """Calibrate the probability of each label, choose its threshold, and return the temperatures.

    x, y: images held out of training and their labels, (n, labels) of 0 and 1. Each label gets a temperature of its
    own (:func:`xpcnn.calibration.find_temperature`), by which the weights of the last dense layer are divided, and the
    threshold with the highest F1 (:func:`xpcnn.calibration.find_thresholds`). A label that no image has, or that all
    have, keeps temperature 1 and threshold 0.5.

    Raises ValueError for a model without ``thresholds``, or that does not end in a dense layer and a sigmoid.
    """
    dense = layer_of_labels(model)
    y = np.asarray(y)
    probabilities = model.predict(x, threads=threads)
    temperatures = tuple(
        1.0 if true.all() or not true.any() else calibration.find_temperature(p[:, None], true.astype(int))
        for p, true in zip(probabilities.T, y.T > 0.5, strict=True)
    )
    weights = model.get_weights()
    for declaration in dense.declarations:  # as sigmoid(z / temperature)
        of_label = np.array(temperatures, np.float32).reshape(-1, *[1] * (len(declaration.shape) - 1))
        weights[declaration.full_name] /= of_label
    model.set_weights(weights)
    model.thresholds = calibration.find_thresholds(model.predict(x, threads=threads), y)
    return temperatures


def layer_of_labels(model: Sequential) -> Dense:
    """Return the last layer of a model that gives an image several labels, before the sigmoid.

    Raises ValueError for a model without ``thresholds``, or that does not end in a dense layer and a sigmoid.
    """
    *_, dense, last = None, None, *(node.layer for node in model.network.nodes)
    if model.thresholds is None or not isinstance(dense, Dense) or last is None or not applies(last, "sigmoid"):
        raise ValueError(
            "Only a model with thresholds that ends in Dense and a sigmoid can be calibrated by label. Received: "
            f"thresholds {model.thresholds}, and {dense!r}, {last!r} at the end."
        )
    return dense


def epochs_for(images: int, batch_size: int = BATCH_SIZE) -> int:
    """Return a good number of epochs to train on so many images from nothing.

    :data:`EPOCHS`, or for few images as many as make :data:`FEWEST_STEPS`, at most :data:`MOST_EPOCHS`. Raises
    ValueError unless there are images.

    >>> epochs_for(10000), epochs_for(500), epochs_for(200)
    (40, 60, 120)
    """
    steps = -(-check_int("images", images, 1) // check_int("batch_size", batch_size, 1))
    return min(max(EPOCHS, -(-FEWEST_STEPS // steps)), MOST_EPOCHS)


def balanced(labels: Any, classes: int) -> dict[int, float]:
    """Return weights that give all classes the same influence: n / (classes x images of the class), 1 if it has none.

    >>> balanced([0, 0, 0, 1], 2)
    {0: 0.6666666666666666, 1: 2.0}
    """
    counts = np.bincount(np.asarray(labels), minlength=classes)
    present = int(np.count_nonzero(counts))
    return {label: len(labels) / (present * count) if count else 1.0 for label, count in enumerate(counts.tolist())}


def fine_tune(model: Sequential, part: str) -> None:
    """Freeze all of a pretrained model but a part: "head", its last layer with weights, "last", or "all".

    "last" is the last third of the layers with weights. Batch normalisation stays frozen, since its statistics are of
    more images than most folders have. What is trained below the head takes a fraction of the learning rate, which
    falls from :data:`BODY` to a third of it at the first layer (Howard and Ruder, "Universal language model
    fine-tuning", 2018).

    Raises ValueError for another part, and for a network whose last layer with weights is inside a block, such as an
    average of several networks.
    """
    if part not in PARTS:
        raise ValueError(f"part must be one of {', '.join(PARTS)}. Received: {part!r}.")
    head = [layer for layer in walk(model.layers) if layer.declarations][-1:]
    if head and head[0] not in model.layers:
        raise ValueError(
            f"The last layer with weights, {head[0].name!r}, is inside a block, so the layers before it cannot be told "
            "apart from it. Train all layers alike, without --fine-tune, or start from another model."
        )
    for layer in walk(model.layers):
        layer.trainable, layer.learning_rate_factor = True, 1.0  # whatever an earlier fit has left
    weighted = [layer for layer in walk(model.layers) if layer.declarations]
    normalizing = [layer for layer in weighted if isinstance(layer, BatchNorm)]
    learning = [layer for layer in weighted if not isinstance(layer, BatchNorm)]
    frozen = {"head": len(learning) - 1, "last": len(learning) * 2 // 3, "all": 0}[part]
    for layer in (*normalizing, *learning[:frozen]):
        layer.trainable = False
    for number, layer in enumerate(learning[:-1]):
        layer.learning_rate_factor = BODY * 3 ** (number / max(1, len(learning) - 2) - 1)


def freeze(model: Sequential, count: int) -> None:
    """Freeze the first ``count`` layers that have weights.

    Raises ValueError if no layer would be left to train.
    """
    weighted = [layer for layer in model.layers if any(part.declarations for part in [layer, *layer.sublayers()])]
    if not 0 <= check_int("count", count) < max(1, len(weighted)):
        raise ValueError(
            f"Cannot freeze {count} layers: the model has {len(weighted)} with weights. "
            "Leave at least the last one to train."
        )
    for layer in weighted[:count]:
        layer.trainable = False
