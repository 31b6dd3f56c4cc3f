"""Batch normalisation, each function one pass over memory."""

from __future__ import annotations

from typing import Any

from xpcnn.backend import Array, ArrayModule
from xpcnn.ops.cpu.compiler import BLOCK, kernel, summing_kernel
from xpcnn.ops.normalization import Moments
from xpcnn.ops.workspace import Workspace, channel_rows, to_batch_last


def moments(xp: ArrayModule, x: Array, workspace: Workspace) -> Moments:
    """As :func:`xpcnn.ops.normalization.moments`."""
    rows = channel_rows(to_batch_last(x, workspace))
    channels, count = rows.shape
    mean, squares = workspace.empty((channels,), x.dtype), workspace.empty((channels,), x.dtype)
    _moments(rows, mean, squares)
    return Moments(count, mean, squares)


def normalize(
    xp: ArrayModule, x: Array, mean: Array, std: Array, weight: Array, bias: Array, workspace: Workspace
) -> Array:
    """As :func:`xpcnn.ops.normalization.normalize`."""
    y = workspace.like(x)
    _normalize(channel_rows(to_batch_last(x, workspace)), mean, std, weight, bias, channel_rows(y))
    return y


def gradient_sums(xp: ArrayModule, dy: Array, x: Array, mean: Array, workspace: Workspace) -> Array:
    """As :func:`xpcnn.ops.normalization.gradient_sums`."""
    sums = workspace.empty((2, len(mean)), dy.dtype)
    _gradient_sums(
        channel_rows(to_batch_last(dy, workspace)), channel_rows(to_batch_last(x, workspace)), mean, sums[0], sums[1]
    )
    return sums


def normalize_backward(
    xp: ArrayModule,
    dy: Array,
    x: Array,
    mean: Array,
    sums: Array,
    count: int,
    std: Array,
    weight: Array,
    workspace: Workspace,
) -> Array:
    """As :func:`xpcnn.ops.normalization.normalize_backward`."""
    dx = workspace.like(dy)
    shift, slope = sums[0] * (1.0 / count), sums[1] / (std * std) * (1.0 / count)
    rows, dy_rows = channel_rows(to_batch_last(x, workspace)), channel_rows(to_batch_last(dy, workspace))
    _normalize_backward(dy_rows, rows, mean, shift, slope, std, weight, channel_rows(dx))
    return dx


@summing_kernel
def _moments(rows: Any, means: Any, squares: Any) -> None:
    for channel in range(len(rows)):
        row = rows[channel]
        count, mean, square = 0, 0.0, 0.0
        for first in range(0, len(row), BLOCK):  # the second loop over a block finds it in the cache
            block = row[first : first + BLOCK]
            block_sum = row.dtype.type(0)
            for i in range(len(block)):
                block_sum += block[i]
            block_mean = row.dtype.type(block_sum / len(block))
            block_square = row.dtype.type(0)
            for i in range(len(block)):
                distance = block[i] - block_mean
                block_square += distance * distance
            count += len(block)
            apart = block_mean - mean
            mean += apart * (len(block) / count)
            square += block_square + apart * apart * ((count - len(block)) * len(block) / count)
        means[channel], squares[channel] = mean, square


@kernel
def _normalize(rows: Any, mean: Any, std: Any, weight: Any, bias: Any, y_rows: Any) -> None:
    for channel in range(len(rows)):
        row, y = rows[channel], y_rows[channel]
        middle, scale, shift = mean[channel], weight[channel] / std[channel], bias[channel]
        for i in range(len(row)):
            y[i] = (row[i] - middle) * scale + shift


@summing_kernel
def _gradient_sums(dy_rows: Any, rows: Any, mean: Any, sums: Any, products: Any) -> None:
    for channel in range(len(rows)):
        row, dy_row, middle = rows[channel], dy_rows[channel], mean[channel]
        total, product = 0.0, 0.0
        for first in range(0, len(row), BLOCK):
            block, dy = row[first : first + BLOCK], dy_row[first : first + BLOCK]
            block_total, block_product = row.dtype.type(0), row.dtype.type(0)
            for i in range(len(block)):
                block_total += dy[i]
                block_product += dy[i] * (block[i] - middle)
            total += block_total
            product += block_product
        sums[channel], products[channel] = total, product


@kernel
def _normalize_backward(
    dy_rows: Any, rows: Any, mean: Any, shift: Any, slope: Any, std: Any, weight: Any, dx_rows: Any
) -> None:
    for channel in range(len(rows)):
        row, dy, dx = rows[channel], dy_rows[channel], dx_rows[channel]
        middle, ascent, start, scale = mean[channel], slope[channel], shift[channel], weight[channel] / std[channel]
        for i in range(len(row)):
            dx[i] = (dy[i] - ((row[i] - middle) * ascent + start)) * scale
