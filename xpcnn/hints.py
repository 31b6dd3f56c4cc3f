"""Suggestions for unknown names: misspelled ones, and those of Keras, PyTorch or other libraries."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence

_CROSS_ENTROPY = (
    "categorical_crossentropy sparse_categorical_crossentropy CrossEntropyLoss NLLLoss nll softmax_cross_entropy "
    "log_loss"
)
_BINARY = "BCE BCELoss BCEWithLogitsLoss binary_cross_entropy_with_logits"
_SCHEDULE = "a schedule as the learning rate, such as Adam(schedules.OneCycle(1e-2, steps))"

#: By kind: xpcnn's name, and other libraries' names for it that are not similar enough to be found by spelling.
FOREIGN = {
    "name": {
        "Sequential": "Model Net Network",
        "load": "load_model models",
        "layers": "nn",
        "optimizers": "optim",
        "callbacks": "callback",
    },
    "layer": {
        "AveragePool2D": "AveragePooling2D AvgPool2d",
        "BatchNorm": "BatchNormalization BatchNorm1d BatchNorm2d",
        "Conv2D": "Convolution2D Convolution",
        'Conv2D(..., padding="same")': "ZeroPadding2D ZeroPad2d",
        "Conv2D(..., groups=channels)": "DepthwiseConv2D SeparableConv2D",
        "Dense": "Linear FullyConnected",
        "Dropout": "SpatialDropout2D Dropout2d",
        "GlobalAveragePool2D": "GlobalAveragePooling2D GlobalAvgPool2D AdaptiveAvgPool2d",
        "GlobalMaxPool2D": "GlobalMaxPooling2D AdaptiveMaxPool2d",
        "MaxPool2D": "MaxPooling2D MaxPooling",
        "Reshape": "View Unflatten",
        "Residual": "Add Skip BasicBlock",
        "Upsample2D": "UpSampling2D Upsample",
        'Activation("linear")': "Identity",
        "Sequential([...], input_shape=(channels, height, width))": "Input InputLayer",
        "data.Preprocessing": "Rescaling Normalization",
        'fit(..., augment="light")': "RandomFlip RandomRotation RandomTranslation RandomZoom",
    },
    "activation": {"leaky_relu": "lrelu", "linear": "identity none", "sigmoid": "logistic"},
    "loss": {"cross_entropy": _CROSS_ENTROPY, "binary_cross_entropy": _BINARY, "mse": "MSELoss L2Loss squared_error"},
    "metric": {
        "accuracy": "acc categorical_accuracy sparse_categorical_accuracy binary_accuracy",
        "top_5": "top5 top_k_categorical_accuracy sparse_top_k_categorical_accuracy",
        "f1": "f1_score FBeta",
        "calibration_error": "ece",
        "cross_entropy": _CROSS_ENTROPY,
        "binary_cross_entropy": _BINARY,
        "mse": "MSELoss",
    },
    "optimizer": {"sgd": "momentum nesterov gradient_descent"},
    "initializer": {
        "glorot_normal": "xavier_normal xavier",
        "glorot_uniform": "xavier_uniform",
        "he_normal": "kaiming_normal kaiming random_normal truncated_normal variance_scaling",
        "he_uniform": "kaiming_uniform random_uniform",
    },
    "schedule": {
        "constant": "ConstantLR",
        "cosine": "CosineDecay CosineAnnealing CosineAnnealingLR",
        "callbacks.ReduceLROnPlateau": "ReduceLROnPlateau",
        "exponential": "ExponentialDecay ExponentialLR",
        "one_cycle": "OneCycleLR",
        "step_decay": "StepLR MultiStepLR PiecewiseConstantDecay",
        "warm_up": "LinearLR",
    },
    "callback": {
        "SaveBest, SaveLast or Checkpoint": "ModelCheckpoint",
        "AveragedWeights": "ExponentialMovingAverage SwapEMAWeights StochasticWeightAveraging",
        "Callback": "LambdaCallback",
        "Checkpoint": "BackupAndRestore",
        "StopOnNaN": "TerminateOnNaN",
        _SCHEDULE: "LearningRateScheduler",
    },
    "backend": {"cupy": "cuda gpu", "numpy": "cpu"},
    "precision": {"bfloat16": "bf16", "float16": "fp16 half", "float32": "fp32", "tf32": "tensorfloat32"},
    "option": {
        "--backend": "--device --gpu --cpu",
        "--from": "--weights --pretrained --start",
        "--image-size": "--size --img-size --imgsz",
        "--lr": "--learning-rate",
        "--out": "--output --output-dir --save-dir",
        "--threads": "--workers --num-workers --jobs",
    },
}

#: The similarity, from 0 to 1, from which one spelling is suggested for another.
_ALIKE = 0.7


def meant_by(kind: str, given: object, known: Sequence[str] | Mapping[str, str]) -> str | None:
    """Return the most likely meaning of an unknown name of some kind, or None.

    known: the valid names, or {spelling: suggestion}.

    >>> meant_by("layer", "Linear", ["Conv2D", "Dense"])
    'Dense'
    >>> meant_by("option", "--batchsize", ["--batch-size", "--epochs"])
    '--batch-size'
    """
    if not isinstance(given, str):
        return None
    called = known if isinstance(known, Mapping) else {name: name for name in known}
    near, word = {_folded(spelling): name for spelling, name in called.items()}, _folded(given)
    for name, others in FOREIGN.get(kind, {}).items():
        if word not in near and word in map(_folded, others.split()):
            return near.get(_folded(name), name)
    alike = difflib.get_close_matches(word, near, 1, _ALIKE)
    return near[alike[0]] if alike else None


def did_you_mean(kind: str, given: object, known: Sequence[str] | Mapping[str, str]) -> str:
    """Return " Did you mean x?", to append to a sentence, or "".

    >>> did_you_mean("loss", "sparse_categorical_crossentropy", ["cross_entropy", "mse"])
    ' Did you mean cross_entropy?'
    """
    meant = meant_by(kind, given, known)
    return f" Did you mean {meant}?" if meant else ""


def no_attribute(module: str, kind: str, given: str, known: Sequence[str] | Mapping[str, str]) -> AttributeError:
    """Return the error for a name that a module does not have."""
    hint = did_you_mean(kind, given, known)
    told = f"module {module!r} has no attribute {given!r}" + (f".{hint}" if hint else "")
    return AttributeError(told, name=given, obj=None)  # without obj, Python does not add its own suggestion


def _folded(name: str) -> str:
    """Return a name for comparison: without case, hyphens and underscores."""
    return re.sub("[^a-z0-9]", "", name.lower())
