"""A network as data for the page: its nodes with BatchNorm folded, and its weights in 16 bits with a scale a filter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from xpcnn.layers import (
    ELU,
    GELU,
    Activation,
    AdaptiveAveragePool2D,
    Add,
    Average,
    AveragePool2D,
    BatchNorm,
    Concatenate,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalAveragePool2D,
    GlobalMaxPool2D,
    HardSigmoid,
    HardSwish,
    Layer,
    LeakyReLU,
    MaxPool2D,
    MinPool2D,
    Multiply,
    ReLU,
    ReLU6,
    Reshape,
    Sigmoid,
    SiLU,
    Softmax,
    Tanh,
    Upsample2D,
)
from xpcnn.layers.activation import applies
from xpcnn.model import Sequential
from xpcnn.ops.window import Window
from xpcnn.program.fuse import fold
from xpcnn.program.program import INPUT
from xpcnn.report.explanation import explained

HostArray = np.ndarray[Any, Any]
Fields = dict[str, Any]

_MOST = 2**15 - 1


class Arrays:
    """The arrays of a page, in one run of 16-bit integers and one of float32; each is named by (start, length)."""

    def __init__(self) -> None:
        self._weights: list[HostArray] = []
        self._numbers: list[HostArray] = []

    def weight(self, values: HostArray) -> Fields:
        """Add the weights of filters, (filters, …), and return where they and their scales are."""
        rows = values.reshape(len(values), -1)
        scales = np.abs(rows).max(axis=1, initial=0) / _MOST
        kept = self.numbers(scales)
        safe = np.where(scales > 0, scales, 1)[:, np.newaxis]
        return {"weight": _append(self._weights, np.rint(rows / safe).astype("<i2")), "scales": kept}

    def numbers(self, values: HostArray) -> tuple[int, int]:
        """Add float32 numbers and return where they are; raise ValueError if one overflows."""
        with np.errstate(over="ignore"):
            rounded = values.astype("<f4")
        if not np.isfinite(rounded).all():
            raise ValueError("The model's weights, with BatchNorm folded, are too large for float32. Retrain it.")
        return _append(self._numbers, rounded)

    def content(self) -> tuple[bytes, bytes]:
        """Return the bytes of the integers and of the numbers."""
        return tuple(b"".join(one.tobytes() for one in kind) for kind in (self._weights, self._numbers))  # type: ignore[return-value]


def _append(kept: list[HostArray], values: HostArray) -> tuple[int, int]:
    start = sum(one.size for one in kept)
    kept.append(values.ravel())
    return start, values.size


def describe(model: Sequential, arrays: Arrays) -> Fields:
    """Return the nodes of a model, its answer and the slot that Grad-CAM explains, and add its weights to ``arrays``.

    Raises ValueError for a layer that the page does not know.
    """
    network = model.network
    values = {name: value.astype(np.float64) for name, value in network.host_values().items()}
    params: dict[str, dict[str, HostArray]] = {}
    for node in network.nodes:
        own = (*node.layer.declarations, *node.layer.buffers)
        params.setdefault(node.layer.name, {}).update({d.name: values[d.full_name] for d in own})
    nodes, folds = fold(network.nodes)
    for one in folds:
        params[one.layer.name] = one.params(np, params)
    last, answer = nodes[-1], ""
    if any(applies(last.layer, name) for name in ("softmax", "sigmoid")):
        nodes, answer = nodes[:-1], last.layer.activation  # type: ignore[attr-defined]
    several = network.output_shape[0] > 1
    if answer == "sigmoid" and several and model.temperature != 1 and model.loss and model.loss.activation == answer:
        answer = "softmax"  # as predict calibrates logits
    slot = explained(network)
    shapes = {INPUT: network.input_shape} | {node.output: node.layer.output_shape for node in network.nodes}
    return {
        "nodes": [
            {
                "inputs": node.inputs,
                "output": node.output,
                "from": shapes[node.inputs[0]],
                "shape": node.layer.output_shape,
                **_fields(node.layer, params[node.layer.name], arrays),
            }
            for node in nodes
        ],
        "last": last.inputs[0] if answer else last.output,
        "answer": {"activation": answer, "temperature": model.temperature},
        "explained": {"slot": slot, "shape": shapes[slot]},
    }


def _fields(layer: Layer, params: Mapping[str, HostArray], arrays: Arrays) -> Fields:
    describe_layer = LAYERS.get(type(layer))
    if describe_layer is None:
        raise ValueError(
            f"The layer {layer.name or layer.kind()!r} of the class {type(layer).__name__} is a custom layer, which a "
            "page cannot run. Use layers of xpcnn.layers instead, not subclasses of them."
        )
    return describe_layer(layer, params, arrays)


def _filters(params: Mapping[str, HostArray], arrays: Arrays) -> Fields:
    bias = params.get("bias")
    return arrays.weight(params["weight"]) | ({} if bias is None else {"bias": arrays.numbers(bias)})


def _convolution(layer: Conv2D, params: Mapping[str, HostArray], arrays: Arrays) -> Fields:
    about = {"op": "convolution", "groups": layer.groups, "edge": layer.padding_mode == "edge"}
    return about | {"window": _window(layer.window)} | _filters(params, arrays)


def _window(window: Window) -> Fields:
    return {name: getattr(window, name) for name in ("kernel", "strides", "padding", "dilation")}


def _normalization(layer: BatchNorm, params: Mapping[str, HostArray], arrays: Arrays) -> Fields:
    scale = params["weight"] / np.sqrt(params["running_var"] + layer.epsilon)
    shift = params["bias"] - params["running_mean"] * scale
    return {"op": "affine", "scale": arrays.numbers(scale), "shift": arrays.numbers(shift)}


def _activation(layer: Activation, params: Mapping[str, HostArray], arrays: Arrays) -> Fields:
    if layer.activation == "leaky_relu":
        return {"op": "leaky_relu", "slope": 0.01}
    return {"op": "same" if layer.activation == "linear" else layer.activation}


def _plain(op: str) -> Callable[..., Fields]:
    return lambda layer, params, arrays: {"op": op}


def _pool(op: str) -> Callable[..., Fields]:
    return lambda layer, params, arrays: {"op": op, "window": _window(layer.window)}


def _global_average(layer: Layer, params: Mapping[str, HostArray], arrays: Arrays) -> Fields:
    _, *size = layer.input_shape
    return {"op": "average_pool", "window": _window(Window((size[0], size[1]))), "shape": (*layer.output_shape, 1, 1)}


#: By layer class, the function that describes it: its ``op`` is a name in layers.js.
LAYERS: dict[type[Layer], Callable[..., Fields]] = {
    Conv2D: _convolution,
    Dense: lambda layer, params, arrays: {"op": "dense", **_filters(params, arrays)},
    MaxPool2D: _pool("max_pool"),
    MinPool2D: _pool("min_pool"),
    AveragePool2D: _pool("average_pool"),
    AdaptiveAveragePool2D: _plain("average_pool"),
    GlobalAveragePool2D: _global_average,
    GlobalMaxPool2D: _plain("global_max_pool"),
    Upsample2D: lambda layer, params, arrays: {"op": "upsample", "size": layer.size},
    BatchNorm: _normalization,
    **dict.fromkeys((Dropout, Flatten, Reshape), _plain("same")),
    **dict.fromkeys((Activation, ReLU, ReLU6, ELU, GELU, SiLU, HardSwish), _activation),
    **dict.fromkeys((Sigmoid, HardSigmoid, Tanh, Softmax), _activation),
    LeakyReLU: lambda layer, params, arrays: {"op": "leaky_relu", "slope": layer.slope},
    Add: _plain("add"),
    Average: _plain("average"),
    Multiply: _plain("multiply"),
    Concatenate: _plain("concatenate"),
}
