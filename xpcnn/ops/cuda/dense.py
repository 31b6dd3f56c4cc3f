"""The product of a fully connected layer: a convolution of images of one cell."""

from __future__ import annotations

from xpcnn.backend import Array, ArrayModule
from xpcnn.ops.cuda.convolution import convolution
from xpcnn.ops.dense import Backward
from xpcnn.ops.window import Window
from xpcnn.ops.workspace import Workspace


def dense(
    xp: ArrayModule, x: Array, weight: Array, bias: Array | None, workspace: Workspace, *, relu: bool = False
) -> tuple[Array, Backward]:
    """As :func:`xpcnn.ops.dense.dense`."""
    y, convolution_backward = convolution(xp, _cells(x), _cells(weight), bias, Window((1, 1)), workspace, relu=relu)

    def backward(dy: Array, dweight: Array, dbias: Array | None, input_gradient: bool) -> Array | None:
        dx = convolution_backward(_cells(dy), _cells(dweight), dbias, input_gradient)
        return None if dx is None else dx[:, :, 0, 0]

    return y[:, :, 0, 0], backward


def _cells(matrix: Array) -> Array:
    """View (n, features) as images (n, features, 1, 1)."""
    return matrix[:, :, None, None]
