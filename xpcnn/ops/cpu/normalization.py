"""Batch normalisation, pooling and ReLU: one pass over memory for the statistics, one forward and one backward.

A channel is multiplied by one number, so the largest cell of a window stays the largest, or becomes the smallest where
the number is negative. Pooling therefore comes first, and all but the last pass see only the winners.
"""

from __future__ import annotations

from typing import Any

from xpcnn.backend import Array, ArrayModule
from xpcnn.ops import normalization as generic
from xpcnn.ops.cpu.compiler import BLOCK, kernel, summing_kernel
from xpcnn.ops.cpu.pooling import fits, pooled, unpooled_onto_lines
from xpcnn.ops.normalization import Backward, InputGradient, Moments, write_gradients
from xpcnn.ops.window import Window
from xpcnn.ops.workspace import Workspace, channel_rows, to_batch_last


def moments(xp: ArrayModule, x: Array, workspace: Workspace) -> Moments:
    """As :func:`xpcnn.ops.normalization.moments`."""
    rows = channel_rows(to_batch_last(x, workspace))
    channels, count = rows.shape
    mean, squares = workspace.empty((channels,), x.dtype), workspace.empty((channels,), x.dtype)
    _moments(rows, mean, squares)
    return Moments(count, mean, squares)


def batch_normalization(
    xp: ArrayModule,
    x: Array,
    mean: Array,
    std: Array,
    weight: Array,
    bias: Array,
    workspace: Workspace,
    *,
    pool: Window | None = None,
    relu: bool = False,
    training: bool = True,
) -> tuple[Array, Backward]:
    """As :func:`xpcnn.ops.normalization.batch_normalization`."""
    if pool is not None and not fits(pool):
        plain: Any = generic.batch_normalization
        return plain.__wrapped__(
            xp, x, mean, std, weight, bias, workspace, pool=pool, relu=relu, training=training
        )  # fmt: skip
    x = z = to_batch_last(x, workspace)
    if pool is not None:
        z, winners = pooled(x, pool, workspace, signs=weight, relu=False, training=training)
    y = workspace.like(z)
    _normalize(channel_rows(z), mean, std, weight, bias, relu, channel_rows(y))

    def backward(dy: Array, dweight: Array | None, dbias: Array | None) -> tuple[Array | None, InputGradient]:
        dy, sums = to_batch_last(dy, workspace), None
        if dweight is not None and dbias is not None:
            sums = workspace.empty((2, len(mean)), dy.dtype)
            _gradient_sums(channel_rows(dy), channel_rows(y), channel_rows(z), mean, relu, sums[0], sums[1])
            write_gradients(sums, std, dweight, dbias)

        def input_gradient(totals: Array | None, count: int) -> Array:
            lines = workspace.empty((len(mean), 4), dy.dtype)
            _lines(xp.zeros((2, len(mean)), dy.dtype) if totals is None else totals, count, mean, std, weight, lines)
            if pool is not None:
                return unpooled_onto_lines(dy, y, winners, pool, x, lines, workspace, relu=relu)
            dx = workspace.like(x)
            _input_gradient(channel_rows(dy), channel_rows(y), channel_rows(x), lines, relu, channel_rows(dx))
            return dx

        return sums, input_gradient

    return y, backward


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
def _normalize(rows: Any, mean: Any, std: Any, weight: Any, bias: Any, relu: bool, y_rows: Any) -> None:
    for channel in range(len(rows)):
        row, y = rows[channel], y_rows[channel]
        middle, scale, shift, zero = mean[channel], weight[channel] / std[channel], bias[channel], rows.dtype.type(0)
        for i in range(len(row)):
            value = (row[i] - middle) * scale + shift
            y[i] = zero if relu and value < zero else value  # what is not a number stays so


@summing_kernel
def _gradient_sums(dy_rows: Any, y_rows: Any, rows: Any, mean: Any, relu: bool, sums: Any, products: Any) -> None:
    for channel in range(len(rows)):
        row, dy_row, y_row, middle = rows[channel], dy_rows[channel], y_rows[channel], mean[channel]
        total, product = 0.0, 0.0
        for first in range(0, len(row), BLOCK):
            block, dy, y = row[first : first + BLOCK], dy_row[first : first + BLOCK], y_row[first : first + BLOCK]
            block_total, block_product = row.dtype.type(0), row.dtype.type(0)
            for i in range(len(block)):
                gradient = dy[i] if not relu or y[i] > 0 else row.dtype.type(0)
                block_total += gradient
                block_product += gradient * (block[i] - middle)
            total += block_total
            product += block_product
        sums[channel], products[channel] = total, product


@kernel
def _lines(sums: Any, count: int, mean: Any, std: Any, weight: Any, lines: Any) -> None:
    """Write scale, mean, slope and start of each channel: dx = scale dy + slope (x - mean) + start."""
    for channel in range(len(mean)):
        scale = weight[channel] / std[channel]
        slope = sums[1, channel] / (std[channel] * std[channel])
        lines[channel, 0], lines[channel, 1] = scale, mean[channel]
        lines[channel, 2], lines[channel, 3] = -scale * slope / max(1, count), -scale * sums[0, channel] / max(1, count)


@kernel
def _input_gradient(dy_rows: Any, y_rows: Any, rows: Any, lines: Any, relu: bool, dx_rows: Any) -> None:
    for channel in range(len(rows)):
        row, dy, y, dx = rows[channel], dy_rows[channel], y_rows[channel], dx_rows[channel]
        scale, middle, slope, start = lines[channel]
        for i in range(len(row)):
            gradient = dy[i] if not relu or y[i] > 0 else row.dtype.type(0)
            dx[i] = gradient * scale + ((row[i] - middle) * slope + start)
