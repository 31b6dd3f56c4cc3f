"""Convolutions with filters of a single cell: products of matrices, for which BLAS is faster than direct sums."""

from __future__ import annotations

import numpy as np

from xpcnn.backend import Array
from xpcnn.ops.cpu.activations import add_bias
from xpcnn.ops.cpu.compiler import flat
from xpcnn.ops.cpu.correlation import turned
from xpcnn.ops.window import Pair, Window
from xpcnn.ops.workspace import Workspace, channel_rows

#: Filters and channels from which on BLAS is faster.
MANY = 8


def suits(x: Array, weight: Array, window: Window, groups: int, output: Pair) -> bool:
    """Whether a product computes a convolution, and is faster than direct sums."""
    return groups == 1 and window == Window((1, 1), dilation=window.dilation) and min(weight.shape[:2]) >= MANY


def correlate(
    x: Array, weight: Array, bias: Array | None, y: Array, window: Window, workspace: Workspace, *, relu: bool
) -> None:
    """As :func:`xpcnn.ops.cpu.winograd.correlate`."""
    np.matmul(weight.reshape(len(weight), -1), channel_rows(x), out=channel_rows(y))
    if relu or bias is not None:
        add_bias(flat(y), np.zeros(len(weight), y.dtype) if bias is None else bias, relu)


def weight_gradient(x: Array, dy: Array, dweight: Array, window: Window, workspace: Workspace) -> None:
    """As :func:`xpcnn.ops.cpu.winograd.weight_gradient`."""
    np.matmul(channel_rows(dy), channel_rows(x).T, out=dweight.reshape(len(dweight), -1))


def input_gradient(dy: Array, weight: Array, dx: Array, window: Window, workspace: Workspace) -> None:
    """As :func:`xpcnn.ops.cpu.winograd.input_gradient`."""
    correlate(dy, turned(weight), None, dx, window, workspace, relu=False)
