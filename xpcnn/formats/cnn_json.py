"""Models as JSON, a dictionary of layers by name: the format of an article that builds a ``CNN`` class from scratch.

``{"model": "CNN", "Input Layer": {"type": "Conv2d", "weights": […], …}, "Flatten1": {…}, …}``. The format is
channels-last: kernels are (rows, columns, channels, filters), dense weights (features, neurons), and images are
flattened in the order (rows, columns, channels).
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from xpcnn import files
from xpcnn.backend import ArrayModule, to_host
from xpcnn.layers import AveragePool2D, Conv2D, Dense, Dropout, Flatten, Layer, MaxPool2D, MinPool2D, Upsample2D
from xpcnn.model import Sequential
from xpcnn.model.state import check_finite
from xpcnn.parameters import Shape
from xpcnn.program import memory_bound

HostArray = np.ndarray[Any, Any]

POOLS: dict[str, type[MaxPool2D] | type[MinPool2D] | type[AveragePool2D]] = {
    "max": MaxPool2D, "min": MinPool2D, "average": AveragePool2D
}  # fmt: skip
ACTIVATIONS = (None, "relu", "sigmoid", "tanh", "softmax", "linear")
#: Larger files are refused: parsing one takes up to thirty times its size in memory.
MOST_BYTES = 2**26


def load(path: files.PathLike, xp: ArrayModule | str | None = None) -> Sequential:
    """Load a model from a JSON file.

    The padding "zero" adds one cell of zeros on every side, "same" repeats the edge by one cell, as in the article.
    Raises FileNotFoundError, and ValueError if the file is not JSON of this format, has an unknown kind of layer, or
    contains arrays that do not fit.
    """
    try:
        entries = _entries(path)
        layers = [_layer(entry) for entry in entries]
        input_shape = shape = _channels_first(entries[0]["input_shape"])
        for layer, entry in zip(layers, entries, strict=True):
            shape = layer.connect(shape)
            _check_sizes(layer, entry)
        model = Sequential(layers, input_shape, xp)
        memory_bound.check_size(model.network)
        weights = {}
        for (layer, flattened), entry in zip(_with_flattened(model.layers), entries, strict=True):
            if isinstance(layer, Conv2D | Dense):
                for name, array in _arrays(layer, flattened, entry):
                    with np.errstate(over="ignore"):  # values that overflow become infinite and are refused below
                        weights[f"{layer.name}.{name}"] = array.astype(np.float32)
        check_finite(weights)
        model.set_weights(weights)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError, OverflowError) as error:
        raise ValueError(f"{str(path)!r} does not contain a model in this format: {files.reason_of(error)}") from error
    return model


def save(model: Sequential, path: files.PathLike) -> None:
    """Write a model as JSON.

    Raises ValueError for a layer or padding that the format does not support, and OSError if the path cannot be
    written. How images are normalised is not part of the format.
    """
    values = {name: to_host(array) for name, array in model.parameters.items()}
    described: dict[str, Any] = {"model": "CNN"}
    for number, (layer, flattened) in enumerate(_with_flattened(model.layers)):
        kind = _KINDS.get(type(layer))
        if kind is None or getattr(layer, "groups", 1) != 1 or getattr(layer, "dilation", (1, 1)) != (1, 1):
            raise ValueError(
                f"The format does not support {layer!r}. Supported layers: {', '.join(sorted(set(_KINDS.values())))}."
            )
        entry = _described(layer, kind)
        for name in ("weight", "bias"):
            if f"{layer.name}.{name}" in values:
                plural = "weights" if name == "weight" else "biases"
                entry[plural] = _outward(layer, flattened, values[f"{layer.name}.{name}"]).tolist()
        named = "Input Layer" if number == 0 else f"{kind}{number}"
        described[f"Out Layer({kind})" if number == len(model.layers) - 1 else named] = entry
    files.write_json(path, described)


_KINDS: dict[type[Layer], str] = {
    Conv2D: "Conv2d", Dense: "FFL", Flatten: "Flatten", Dropout: "Dropout", Upsample2D: "Upsample",
    MaxPool2D: "Pool2d", MinPool2D: "Pool2d", AveragePool2D: "Pool2d",
}  # fmt: skip


def _entries(path: files.PathLike) -> list[Mapping[str, Any]]:
    """Return the layers of a file, in order."""
    place = Path(path)
    if place.stat().st_size > MOST_BYTES:
        raise ValueError(f"it is larger than {MOST_BYTES:,} bytes")
    described = json.loads(place.read_text(encoding="utf-8"))
    if not isinstance(described, dict) or described.get("model") != "CNN" or len(described) < 2:
        raise ValueError('it is not a dictionary with "model": "CNN" and at least one layer')
    return [entry for name, entry in described.items() if name != "model"]


def _layer(entry: Mapping[str, Any]) -> Layer:
    """Return the layer that an entry describes."""
    kind, activation = entry["type"], entry.get("activation")
    if activation not in ACTIVATIONS:
        raise ValueError(f"unknown activation {reprlib.repr(activation)}")
    if kind == "FFL":
        return Dense(int(entry["neurons"]), activation, use_bias=bool(entry["isbias"]))
    if kind == "Conv2d":
        padding = entry["padding"]
        if padding not in (None, "zero", "same"):
            raise ValueError(f"unknown padding {reprlib.repr(padding)}")
        return Conv2D(
            int(entry["filters"]), _pair(entry["kernel_size"]), _pair(entry.get("stride", (1, 1))),
            0 if padding is None else 1, "edge" if padding == "same" else "zeros",
            activation=activation, use_bias=bool(entry["isbias"]),
        )  # fmt: skip
    if kind == "Pool2d":
        return POOLS[entry["kind"]](_pair(entry["kernel_size"]), _pair(entry.get("stride") or entry["kernel_size"]))
    if kind == "Dropout":
        return Dropout(float(entry["prob"]))
    if kind == "Upsample":
        return Upsample2D(_pair(entry["kernel_size"]))
    if kind == "Flatten":
        return Flatten()
    raise ValueError(f"unknown layer type {reprlib.repr(kind)}")


def _check_sizes(layer: Layer, entry: Mapping[str, Any]) -> None:
    """Check that the arrays in an entry match those that its layer declares, before memory is allocated for them."""
    for declaration, name in zip(layer.declarations, ("weights", "biases"), strict=False):
        received = np.size(entry[name])
        if declaration.size != received:
            raise ValueError(
                f"{declaration.full_name!r}: expected shape {declaration.shape}. Received: {received} {name}."
            )


def _pair(value: Any) -> tuple[int, int]:
    """Return the first two values as rows and columns; a single number stands for both."""
    rows, columns = (value, value) if isinstance(value, int | float) else value[:2]
    return int(rows), int(columns)


def _with_flattened(layers: Iterable[Layer]) -> Iterator[tuple[Layer, Shape | None]]:
    """Yield each layer and, after a Flatten up to the next Dense, the image shape before flattening; else None."""
    flattened: Shape | None = None
    for layer in layers:
        yield layer, flattened
        if isinstance(layer, Flatten):
            flattened = layer.input_shape if len(layer.input_shape) == 3 else flattened
        elif isinstance(layer, Dense):
            flattened = None


def _arrays(layer: Layer, flattened: Shape | None, entry: Mapping[str, Any]) -> Iterator[tuple[str, HostArray]]:
    """Yield the names and arrays of a layer in xpcnn's axis order."""
    weight = np.array(entry["weights"], dtype=np.float64)
    if isinstance(layer, Conv2D):
        yield "weight", weight.transpose(3, 2, 0, 1)
    elif flattened is not None:
        channels, rows, columns = flattened
        yield "weight", weight.reshape(rows, columns, channels, -1).transpose(3, 2, 0, 1).reshape(weight.shape[1], -1)
    else:
        yield "weight", weight.T
    if entry["isbias"]:
        yield "bias", np.array(entry["biases"], dtype=np.float64).reshape(-1)


def _outward(layer: Layer, flattened: Shape | None, array: HostArray) -> HostArray:
    """Return an array of a layer in the format's axis order; :func:`_arrays` is the inverse."""
    if array.ndim == 4:
        return array.transpose(2, 3, 1, 0)
    if array.ndim == 1:
        return array[:, None] if isinstance(layer, Conv2D) else array
    if flattened is None:
        return array.T
    channels, rows, columns = flattened
    return array.reshape(-1, channels, rows, columns).transpose(2, 3, 1, 0).reshape(-1, len(array))


def _described(layer: Layer, kind: str) -> dict[str, Any]:
    """Return the format's entry for a layer, without its arrays."""
    activation = getattr(layer, "activation", None)
    if activation not in ACTIVATIONS:
        raise ValueError(
            f"The format does not support the activation {activation!r}. "
            f"Use one of: {', '.join(filter(None, ACTIVATIONS))}."
        )
    entry: dict[str, Any] = {
        "type": kind,
        "name": layer.name,
        "isbias": bool(getattr(layer, "use_bias", False)),
        "activation": activation,
        "input_shape": _channels_last(layer.input_shape),
        "output_shape": _channels_last(layer.output_shape),
        "parameters": sum(declaration.size for declaration in layer.declarations),
    }
    if isinstance(layer, Dense):
        entry["neurons"] = layer.units
    elif isinstance(layer, Conv2D):
        wanted = {((0, 0), (0, 0)): None, ((1, 1), (1, 1)): "same" if layer.padding_mode == "edge" else "zero"}
        if layer.window.padding not in wanted:
            raise ValueError(
                f"The format supports padding of one cell on every side, or none. Received: {layer.window.padding}."
            )
        channels = layer.declarations[0].shape[1]
        entry |= {"filters": layer.filters, "kernel_size": [*layer.kernel_size, channels, layer.filters]}
        entry |= {"stride": list(layer.strides), "padding": wanted[layer.window.padding]}
    elif isinstance(layer, Dropout):
        entry["prob"] = layer.rate
    elif isinstance(layer, Upsample2D):
        entry["kernel_size"] = list(layer.size)
    elif kind == "Pool2d":
        window = getattr(layer, "window")  # noqa: B009 (every kind of pooling has one)
        if window.is_padded:
            raise ValueError(f"The format does not support padding in pooling layers. Received: {layer!r}.")
        pool = next(name for name, pooling in POOLS.items() if type(layer) is pooling)
        entry |= {"kernel_size": list(window.kernel), "stride": list(window.strides), "kind": pool}
    return entry


def _channels_first(shape: Any) -> Shape:
    sizes = [int(size) for size in (shape if isinstance(shape, list) else [shape])]
    return tuple(sizes[-1:] + sizes[:-1])


def _channels_last(shape: Shape) -> list[int] | int:
    return shape[0] if len(shape) == 1 else [*shape[1:], shape[0]]
