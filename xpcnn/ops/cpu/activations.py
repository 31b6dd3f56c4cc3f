"""ReLU, one pass over memory forward and one backward."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpcnn.backend import Array, ArrayModule
from xpcnn.ops.activations import Backward
from xpcnn.ops.cpu.compiler import BLOCK, flat, kernel, summing_kernel
from xpcnn.ops.workspace import Workspace, to_batch_last


def relu(xp: ArrayModule, x: Array, workspace: Workspace, y: Array | None = None) -> tuple[Array, Backward]:
    """As :func:`xpcnn.ops.activations.relu`."""
    rows = to_batch_last(x, workspace)
    if y is None:
        y = workspace.like(x)
        _relu(flat(rows), flat(y))
    elif y is rows:
        _relu_in_place(flat(y))
    else:
        y[...] = relu(xp, x, workspace)[0]

    return y, lambda dy: relu_gradient(dy, y, workspace)


def relu6(xp: ArrayModule, x: Array, workspace: Workspace, y: Array | None = None) -> tuple[Array, Backward]:
    """As :func:`xpcnn.ops.activations.relu6`."""
    y = workspace.like(x) if y is None else y
    xp.clip(x, 0.0, 6.0, out=y)

    def backward(dy: Array) -> Array:
        dx = workspace.like(dy)
        _relu6_gradient(flat(to_batch_last(dy, workspace)), flat(to_batch_last(y, workspace)), flat(dx))
        return dx

    return y, backward


def relu_gradient(dy: Array, y: Array, workspace: Workspace) -> Array:
    """Return dy where y is above 0, else 0."""
    dx = workspace.like(dy)
    _relu_gradient(flat(to_batch_last(dy, workspace)), flat(to_batch_last(y, workspace)), flat(dx))
    return dx


@kernel
def _relu(x: Any, y: Any) -> None:
    zero = x.dtype.type(0)
    for i in range(len(x)):
        y[i] = zero if x[i] < zero else x[i]  # what is not a number stays so


@kernel
def _relu_in_place(x: Any) -> None:  # _relu on two arrays in the same memory would not be vectorised
    zero = x.dtype.type(0)
    for i in range(len(x)):
        x[i] = zero if x[i] < zero else x[i] + zero  # without the sum LLVM would branch and write negative ones alone


@kernel
def _relu_gradient(dy: Any, y: Any, dx: Any) -> None:
    zero = y.dtype.type(0)
    for i in range(len(dy)):
        dx[i] = dy[i] * dy.dtype.type(y[i] > zero)  # what is not a number stays so


@kernel
def _relu6_gradient(dy: Any, y: Any, dx: Any) -> None:
    for i in range(len(dy)):
        dx[i] = dy[i] * dy.dtype.type((y[i] > 0) & (y[i] < 6))


@summing_kernel
def bias_activation_gradient(
    dy: Any, y: Any, bounds: Any, dx: Any, sums: Any, channels: int, rows: int, length: int, first: int, step: int,
    plane: int,
) -> None:  # fmt: skip
    """Write dy, or 0 where y is at a bound, to rows of dx, and its sum over each channel.

    dx: flat, its rows ``step`` and its channels ``plane`` elements apart, from ``first`` on.
    """
    low, high = bounds
    bounded = low > -np.inf
    for channel in range(channels):
        total = dy.dtype.type(0)
        for row in range(rows):
            at = (channel * rows + row) * length
            place = first + channel * plane + row * step
            source, mask, target = dy[at : at + length], y[at : at + length], dx[place : place + length]
            part = dy.dtype.type(0)
            for i in range(length):
                value = source[i] if not bounded or (mask[i] > low) & (mask[i] < high) else dy.dtype.type(0)
                target[i] = value
                part += value
            total += part
        sums[channel] = total


@summing_kernel
def sum_channels(dy_rows: Any, sums: Any) -> None:
    """Write the sum of each channel, a row."""
    for channel in range(len(dy_rows)):
        row, total = dy_rows[channel], 0.0
        for first in range(0, len(row), BLOCK):
            block = row[first : first + BLOCK]
            part = row.dtype.type(0)
            for i in range(len(block)):
                part += block[i]
            total += part
        sums[channel] = total


@kernel
def add_bias(y: Any, bias: Any, bounds: Any) -> None:
    """Add a bias to each channel of y, flat, in place; results outside of the bounds become these."""
    size, (low, high) = len(y) // len(bias), bounds
    for channel in range(len(bias)):
        part, shift = y[channel * size : (channel + 1) * size], bias[channel]
        for i in range(size):
            value = part[i] + shift
            value = low if value < low else value
            part[i] = high if value > high else value
