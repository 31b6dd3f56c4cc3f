"""Convolutions with filters of a single cell: products of matrices, for which BLAS is faster than direct sums."""

from __future__ import annotations

import numpy as np

from xpcnn.backend import Array
from xpcnn.ops.cpu import correlation
from xpcnn.ops.cpu.activations import add_bias
from xpcnn.ops.cpu.bounds import Bounds, unbounded
from xpcnn.ops.cpu.compiler import flat
from xpcnn.ops.window import Pair, Window
from xpcnn.ops.workspace import Workspace, channel_rows

#: Filters and channels from which on BLAS is faster.
MANY = 8
#: Channels below which direct sums, which need no second pass for bias and activation, are as fast forward.
FEW, LEAST_LENGTH = 64, 256


def suits(x: Array, weight: Array, window: Window, groups: int, output: Pair) -> bool:
    """Whether a product computes a convolution, and is faster than direct sums."""
    return groups == 1 and window == Window((1, 1), dilation=window.dilation) and min(weight.shape[:2]) >= MANY


def correlate(
    x: Array, weight: Array, bias: Array | None, y: Array, window: Window, bounds: Bounds, workspace: Workspace
) -> None:
    """As :func:`xpcnn.ops.cpu.winograd.correlate`."""
    n, channels, rows, columns = x.shape
    if channels < FEW and columns * n >= LEAST_LENGTH:
        planes = correlation.Rows(flat(x), np.arange(channels) * (rows * columns * n), columns * n)
        filters = weight.reshape(1, len(weight), channels)
        correlation.correlate(planes, filters, bias, flat(y), rows, columns * n, bounds, workspace)
        return
    np.matmul(weight.reshape(len(weight), -1), channel_rows(x), out=channel_rows(y))
    if bias is not None or bounds != unbounded(y.dtype):
        add_bias(flat(y), np.zeros(len(weight), y.dtype) if bias is None else bias, bounds)


def weight_gradient(x: Array, dy: Array, dweight: Array, window: Window, workspace: Workspace) -> None:
    """As :func:`xpcnn.ops.cpu.winograd.weight_gradient`."""
    np.matmul(channel_rows(dy), channel_rows(x).T, out=dweight.reshape(len(dweight), -1))


def input_gradient(dy: Array, weight: Array, dx: Array, window: Window, workspace: Workspace) -> None:
    """As :func:`xpcnn.ops.cpu.winograd.input_gradient`."""
    correlate(dy, correlation.turned(weight), None, dx, window, unbounded(dx.dtype), workspace)
