"""An ensemble: several classifiers as one network, which answers with the mean of their probabilities.

Lakshminarayanan, Pritzel and Blundell, "Simple and scalable predictive uncertainty estimation using deep ensembles",
2017.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xpcnn import metrics, optimizers
from xpcnn.data import Preprocessing
from xpcnn.data.digests import with_digests
from xpcnn.layers import BatchNorm, Branches, Layer
from xpcnn.layers.activation import Activation
from xpcnn.layers.configs import from_plain, kinds, to_plain
from xpcnn.model.model import Sequential

HostArray = np.ndarray[Any, Any]
#: So small that the normalisations below divide by what they are given.
_EPSILON = 1e-12


def ensemble(models: Sequence[Sequential]) -> Sequential:
    """Return a model that averages the calibrated probabilities of classifiers with the same classes and images.

    Each one is a branch: a normalisation from the first one's mean and standard deviation of the images to its own, its
    layers up to the logits, a division by its temperature, and its softmax or sigmoid. Both normalisations are frozen.
    If an image may have several labels, the threshold of each is the mean of those of all models.

    models: at least two, with as many outputs and the same decoding, each of which ends with softmax, or with sigmoid
    if it has one output or several labels. Raises ValueError for others, saying which one and why.
    """
    first = models[0]
    for number, model in enumerate(models, 1):
        if (model.thresholds is None) != (first.thresholds is None):
            gives, other = ("one class" if one.thresholds is None else "several labels" for one in (model, first))
            raise ValueError(f"model {number} gives an image {gives}, and the first gives it {other}")
        for what, own, expected in (
            ("classes", model.class_names, first.class_names),
            ("outputs", model.network.output_shape, first.network.output_shape),
            ("images", model.network.input_shape, first.network.input_shape),
        ):
            if own != expected:
                raise ValueError(f"model {number} has other {what} than the first: {own}, not {expected}")
    values: dict[str, HostArray] = {}
    branches = [_branch(model, first, f"model_{number}", values) for number, model in enumerate(models, 1)]
    result = Sequential([Branches(branches, merge="average")], first.network.input_shape, first.backend, first.seed)
    result.set_weights(result.get_weights() | values)
    result.class_names, result.preprocessing = first.class_names, first.preprocessing
    thresholds = [model.thresholds for model in models if model.thresholds is not None]
    result.thresholds = tuple(float(one) for one in np.mean(thresholds, axis=0)) if thresholds else None
    result.epochs = max(model.epochs for model in models)
    for model in models:
        if model.digests is None:
            result.digests = None
            break
        result.digests = with_digests(result.digests, model.digests)
    if first.optimizer is not None and first.loss is not None:
        result.compile(
            optimizers.get(first.optimizer.config()), first.loss, [metrics.get(one.config()) for one in first.metrics]
        )
    return result


def _branch(model: Sequential, first: Sequential, name: str, values: dict[str, HostArray]) -> list[Layer]:
    """Return the layers of one model, with ``name`` before their names, and add their arrays to ``values``."""
    plain = [_renamed(to_plain(layer), name) for layer in model.layers]
    activation = _without_activation(plain, model, name)
    values |= {f"{name}.{key}": value for key, value in model.get_weights().items()}
    layers: list[Layer] = from_plain(plain, kinds())
    mean, std = _difference(model.preprocessing, first.preprocessing, name)
    if any(mean) or any(one != 1 for one in std):
        layers.insert(0, _normalization(f"{name}.standardization", mean, std, values))
    if model.temperature != 1:
        count = model.network.output_shape[0]
        layers.append(_normalization(f"{name}.temperature", (0.0,) * count, (model.temperature,) * count, values))
    return [*layers, Activation(activation, name=f"{name}.probabilities")]


def _renamed(plain: Any, name: str) -> Any:
    """Return a plain layer with ``name`` before its own, and before those of the layers inside."""
    if isinstance(plain, list):
        return [_renamed(one, name) for one in plain]
    if not isinstance(plain, Mapping):
        return plain
    inside = {key: _renamed(value, name) for key, value in plain.items()}
    return inside | {"name": f"{name}.{plain['name']}"} if "layer" in plain else inside


def _without_activation(plain: list[Any], model: Sequential, name: str) -> str:
    """Remove the last activation, softmax or sigmoid, from the plain layers, and return what it is."""
    wanted = "sigmoid" if model.network.output_shape == (1,) or model.thresholds is not None else "softmax"
    last = plain[-1]
    if last["layer"] == wanted or (last["layer"] == "activation" and last["activation"] == wanted):
        del plain[-1]
    elif last.get("activation") == wanted:
        last["activation"] = None
    else:
        raise ValueError(f"{name.replace('_', ' ')} does not end with {wanted}, but with {model.layers[-1]!r:.100}")
    return wanted


def _difference(
    own: Preprocessing | None, first: Preprocessing | None, name: str
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the mean and the standard deviation by which images that ``first`` has normalised are as ``own`` does."""
    if own is None or first is None or own.decoding != first.decoding or own.per_image != first.per_image:
        ranges = own is not None and first is not None and own.decoding.range != first.decoding.range
        raise ValueError(
            f"{name.replace('_', ' ')} maps other values to black and white than the first, which --range prevents"
            if ranges
            else f"{name.replace('_', ' ')} prepares images in another way than the first"
        )
    if own.per_image:
        return (), ()
    pairs = [*zip(own.mean, own.std, first.mean, first.std, strict=True)]
    return (
        tuple((mean - other) / scale for mean, _, other, scale in pairs),
        tuple(std / scale for _, std, _, scale in pairs),
    )


def _normalization(name: str, mean: Sequence[float], std: Sequence[float], values: dict[str, HostArray]) -> BatchNorm:
    """Return a frozen layer that subtracts a mean and divides by a standard deviation."""
    layer = BatchNorm(epsilon=_EPSILON, name=name)
    layer.trainable = False
    values[f"{name}.running_mean"] = np.array(mean, dtype=np.float32)
    values[f"{name}.running_var"] = np.square(np.array(std)).astype(np.float32)
    return layer
