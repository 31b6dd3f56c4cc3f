"""The ONNX form of each layer: a table that maps layer classes to functions that add their nodes to a graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from xpcnn.formats.onnx_graph import Graph
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
from xpcnn.ops.pooling import adaptive_windows
from xpcnn.ops.window import Window


def add_layer(graph: Graph, layer: Layer, x: Sequence[str], values: Mapping[str, np.ndarray[Any, Any]]) -> str:
    """Add the nodes of a layer to a graph and return the name of the last node's output.

    x: the names of the layer's inputs. values: all arrays of the network by name. Raises ValueError if the layer's
    class is not in :data:`LAYERS`.
    """
    add = LAYERS.get(type(layer))
    if add is None:
        raise ValueError(
            f"The layer {layer.name or layer.kind()!r} of the class {type(layer).__name__} is a custom layer, which "
            "cannot be exported to ONNX. Use layers of xpcnn.layers instead, not subclasses of them."
        )
    graph.layer = layer.name or graph.layer  # a part without a name, such as an activation, uses its layer's name
    declarations = (*layer.declarations, *layer.buffers)
    return add(graph, layer, *x, [graph.constant(d.full_name, values[d.full_name]) for d in declarations])


def _nothing(graph: Graph, layer: Layer, x: str, arrays: Sequence[str]) -> str:
    return x


def _convolution(graph: Graph, layer: Conv2D, x: str, arrays: Sequence[str]) -> str:
    window = layer.window
    if layer.padding_mode == "edge" and window.is_padded:
        (top, bottom), (left, right) = window.padding
        pads = graph.constant(f"{graph.layer}/pads", [0, 0, top, left, 0, 0, bottom, right], np.int64)
        x, window = graph.add("Pad", x, pads, mode="edge"), window.unpadded
    return graph.add("Conv", x, *arrays, **_sizes(window), dilations=window.dilation, group=layer.groups)


def _dense(graph: Graph, layer: Dense, x: str, arrays: Sequence[str]) -> str:
    return graph.add("Gemm", x, *arrays, transB=1)


def _max_pool(graph: Graph, layer: MaxPool2D, x: str, arrays: Sequence[str]) -> str:
    return graph.add("MaxPool", x, **_sizes(layer.window))


def _min_pool(graph: Graph, layer: MinPool2D, x: str, arrays: Sequence[str]) -> str:
    return graph.add("Neg", graph.add("MaxPool", graph.add("Neg", x), **_sizes(layer.window)))


def _average_pool(graph: Graph, layer: AveragePool2D, x: str, arrays: Sequence[str]) -> str:
    return graph.add("AveragePool", x, **_sizes(layer.window), count_include_pad=0)


def _sizes(window: Window) -> dict[str, Sequence[int]]:
    """Return the attributes of a window that convolution and pooling share."""
    (top, bottom), (left, right) = window.padding
    return {"kernel_shape": window.kernel, "strides": window.strides, "pads": (top, left, bottom, right)}


def _adaptive_average(graph: Graph, layer: AdaptiveAveragePool2D, x: str, arrays: Sequence[str]) -> str:
    """Multiply by matrices that average rows, and columns."""
    rows, columns = map(_averaging, layer.input_shape[1:], layer.output_size)
    x = graph.add("MatMul", graph.constant(f"{graph.layer}/rows", rows), x)
    return graph.add("MatMul", x, graph.constant(f"{graph.layer}/columns", columns.T))


def _averaging(size: int, count: int) -> np.ndarray[Any, Any]:
    """Return the matrix (count, size) that averages the windows of an adaptive pooling."""
    matrix = np.zeros((count, size), np.float32)
    for row, window in zip(matrix, adaptive_windows(size, count), strict=True):
        row[window] = 1 / (window.stop - window.start)
    return matrix


def _global_average(graph: Graph, layer: Layer, x: str, arrays: Sequence[str]) -> str:
    return graph.add("ReduceMean", x, axes=(2, 3), keepdims=0)


def _global_max(graph: Graph, layer: Layer, x: str, arrays: Sequence[str]) -> str:
    return graph.add("ReduceMax", x, axes=(2, 3), keepdims=0)


def _upsample(graph: Graph, layer: Upsample2D, x: str, arrays: Sequence[str]) -> str:
    scales = graph.constant(f"{graph.layer}/scales", (1, 1, *layer.size))
    no_region = ""
    repeat = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return graph.add("Resize", x, no_region, scales, **repeat)


def _normalization(graph: Graph, layer: BatchNorm, x: str, arrays: Sequence[str]) -> str:
    return graph.add("BatchNormalization", x, *arrays, epsilon=layer.epsilon)


def _reshape(graph: Graph, layer: Reshape, x: str, arrays: Sequence[str]) -> str:
    as_in_input = 0
    return graph.add("Reshape", x, graph.constant(f"{graph.layer}/shape", (as_in_input, *layer.output_shape), np.int64))


def _activation(graph: Graph, layer: Activation, x: str, arrays: Sequence[str]) -> str:
    if layer.activation == "linear":
        return x
    if layer.activation == "silu":
        return graph.add("Mul", x, graph.add("Sigmoid", x))
    if layer.activation == "gelu":  # whose own operator many versions of ONNX lack
        one, root, half = (
            graph.constant(f"{graph.layer}/{what}", number)
            for what, number in (("one", 1.0), ("root", 0.5**0.5), ("half", 0.5))
        )
        below = graph.add("Add", graph.add("Erf", graph.add("Mul", x, root)), one)
        return graph.add("Mul", graph.add("Mul", x, below), half)
    if layer.activation == "relu6":
        return graph.add("Clip", x, *(graph.constant(f"{graph.layer}/{limit}", limit) for limit in (0, 6)))
    operator, attributes = ACTIVATIONS[layer.activation]
    return graph.add(operator, x, **attributes)


def _leaky_relu(graph: Graph, layer: LeakyReLU, x: str, arrays: Sequence[str]) -> str:
    return graph.add("LeakyRelu", x, alpha=layer.slope)


def _add(graph: Graph, layer: Add, x: str, *others_and_arrays: Any) -> str:
    *others, _ = others_and_arrays
    for other in others:
        x = graph.add("Add", x, other)
    return x


def _average(graph: Graph, layer: Average, *inputs_and_arrays: Any) -> str:
    *inputs, _ = inputs_and_arrays
    return graph.add("Mean", *inputs)


def _multiply(graph: Graph, layer: Multiply, x: str, factor: str, arrays: Sequence[str]) -> str:
    if len(layer.factor_shape) < len(layer.output_shape):
        as_in_input = 0
        shape = graph.constant(f"{graph.layer}/shape", (as_in_input, *layer.factor_shape, 1, 1), np.int64)
        factor = graph.add("Reshape", factor, shape)
    return graph.add("Mul", x, factor)


def _concatenate(graph: Graph, layer: Concatenate, *inputs_and_arrays: Any) -> str:
    *inputs, _ = inputs_and_arrays
    return graph.add("Concat", *inputs, axis=1)


#: The operator and attributes of each activation that has one operator.
ACTIVATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "relu": ("Relu", {}),
    "leaky_relu": ("LeakyRelu", {"alpha": 0.01}),
    "elu": ("Elu", {"alpha": 1.0}),
    "hard_swish": ("HardSwish", {}),
    "sigmoid": ("Sigmoid", {}),
    "hard_sigmoid": ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}),
    "tanh": ("Tanh", {}),
    "softmax": ("Softmax", {"axis": 1}),
}

#: By layer class, the function that adds its nodes: add(graph, layer, *inputs, arrays) returns the output's name.
#: arrays: the names of the layer's parameters, then of its buffers, which is also the order that ONNX expects.
LAYERS: dict[type[Layer], Callable[..., str]] = {
    Conv2D: _convolution,
    Dense: _dense,
    MaxPool2D: _max_pool,
    MinPool2D: _min_pool,
    AveragePool2D: _average_pool,
    AdaptiveAveragePool2D: _adaptive_average,
    GlobalAveragePool2D: _global_average,
    GlobalMaxPool2D: _global_max,
    Upsample2D: _upsample,
    BatchNorm: _normalization,
    Dropout: _nothing,
    Flatten: _reshape,
    Reshape: _reshape,
    Activation: _activation,
    **dict.fromkeys((ReLU, ReLU6, ELU, GELU, SiLU, HardSwish, Sigmoid, HardSigmoid, Tanh, Softmax), _activation),
    LeakyReLU: _leaky_relu,
    Add: _add,
    Average: _average,
    Multiply: _multiply,
    Concatenate: _concatenate,
}
