"""Convolution and the max pooling that follows it, as one operation."""

from __future__ import annotations

from dataclasses import replace

from xpcnn.backend import Array, ArrayModule
from xpcnn.ops.convolution import (
    Backward,
    border,
    convolution,
    correlate,
    gradients,
    grouped,
    weight_gradient,
)
from xpcnn.ops.pooling import COLUMNS, ROWS, extreme, extreme_along, extreme_pool, spread
from xpcnn.ops.products import MANY_FILTERS
from xpcnn.ops.window import Window, pad
from xpcnn.ops.workspace import Workspace


def pooled_convolution(
    xp: ArrayModule,
    x: Array,
    weight: Array,
    window: Window,
    workspace: Workspace,
    *,
    pool: Window,
    groups: int = 1,
    padding_mode: str = "zeros",
    training: bool = True,
) -> tuple[Array, Backward]:
    """Return the max-pooled convolution of x, and its backward function, as :func:`convolution` does.

    With few filters, the columns of a pooling window are computed as so many filters of a wider kernel, each shifted by
    one column: a product with more rows, and the largest of the columns is then taken between whole channels, which
    lie apart in memory, instead of between neighbouring columns. So does backward where the weight's gradient is all
    that is wanted; the input's is that of the plain convolution.
    """
    if _by_columns(weight, window, pool, groups):
        return _columns_as_filters(xp, x, weight, window, pool, workspace, padding_mode, training)
    y, convolution_backward = convolution(xp, x, weight, window, workspace, groups=groups, padding_mode=padding_mode)
    y, pool_backward = extreme_pool(xp, y, pool, workspace, largest=True, training=training)

    def backward(dy: Array, dweight: Array, input_gradient: bool) -> Array | None:
        return convolution_backward(pool_backward(dy), dweight, input_gradient)

    return y, backward


def _by_columns(weight: Array, window: Window, pool: Window, groups: int) -> bool:
    """Whether the pool's columns may be, and are worth being, computed as filters."""
    return (
        weight.shape[0] < MANY_FILTERS
        and groups == 1
        and not pool.is_padded
        and 1 < pool.kernel[1] <= 3
        and pool.kernel[1] == pool.strides[1]
        and window.strides[1] == window.dilation[1] == 1
    )


def _columns_as_filters(
    xp: ArrayModule,
    x: Array,
    weight: Array,
    window: Window,
    pool: Window,
    workspace: Workspace,
    padding_mode: str,
    training: bool,
) -> tuple[Array, Backward]:
    filters, channels, kh, kw = weight.shape
    count = pool.kernel[1]
    wide = workspace.empty((count, filters, channels, kh, kw + count - 1), weight.dtype)
    wide[...] = 0
    for column in range(count):
        wide[column, ..., column : column + kw] = weight
    wide = wide.reshape(count * filters, channels, kh, kw + count - 1)
    wide_window = replace(window, kernel=wide.shape[2:], strides=(window.strides[0], count))
    padded = pad(xp, x, window.padding, border(padding_mode), workspace)
    by_column = correlate(xp, padded, grouped(wide, 1), wide_window, workspace)
    columns = [by_column[:, column * filters : (column + 1) * filters] for column in range(count)]
    across = workspace.like(columns[0])
    winners = [workspace.batch_last(across.shape, xp.bool_) for _ in columns[:-1]] if training else []
    extreme(xp, columns, across, winners, largest=True)
    y, down_backward = extreme_along(xp, across, pool, ROWS, workspace, largest=True, training=training)

    def backward(dy: Array, dweight: Array, input_gradient: bool) -> Array | None:
        dacross = down_backward(dy)
        if input_gradient:
            shape = (len(x), filters, *window.unpadded.output_size(*padded.shape[2:]))
            dcolumns = spread(xp, dacross, winners, shape, pool, COLUMNS, workspace)
            return gradients(
                xp, padded, weight, dcolumns, dweight, window, workspace,
                groups=1, padding_mode=padding_mode, input_gradient=True,
            )  # fmt: skip
        dwide, dby_column = workspace.empty(wide.shape, dy.dtype), workspace.like(by_column)
        dcolumns = [dby_column[:, column * filters : (column + 1) * filters] for column in range(count)]
        for winner, dcolumn in zip(winners, dcolumns, strict=False):
            xp.multiply(dacross, winner, out=dcolumn)
        last = dacross
        for dcolumn in dcolumns[:-1]:
            last = xp.subtract(last, dcolumn, out=dcolumns[-1])
        weight_gradient(xp, padded, dby_column, dwide, wide_window, workspace)
        shifted = dwide.reshape(count, *weight.shape[:3], kw + count - 1)
        dweight[...] = shifted[0, ..., :kw]
        for column in range(1, count):
            dweight += shifted[column, ..., column : column + kw]
        return None

    return y, backward
