"""Convolution and the max pooling that follows it, as one operation."""

from __future__ import annotations

from dataclasses import replace

from xpcnn.backend import Array, ArrayModule
from xpcnn.ops.convolution import Backward, convolution
from xpcnn.ops.pooling import ROWS, extreme, extreme_along, extreme_pool
from xpcnn.ops.window import Window
from xpcnn.ops.workspace import Workspace

#: From this many filters on, products are fast enough to leave nothing to gain by widening them.
MANY_FILTERS = 32


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
    lie apart in memory, instead of between neighbouring columns.
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
    wide_weight = xp.zeros((count, filters, channels, kh, kw + count - 1), dtype=weight.dtype)
    for column in range(count):
        wide_weight[column, ..., column : column + kw] = weight
    wide_window = replace(window, kernel=(kh, kw + count - 1), strides=(window.strides[0], count))
    wide_weight = wide_weight.reshape(count * filters, channels, kh, kw + count - 1)
    wide, convolution_backward = convolution(xp, x, wide_weight, wide_window, workspace, padding_mode=padding_mode)
    columns = [wide[:, column * filters : (column + 1) * filters] for column in range(count)]
    across, winners = extreme(xp, columns, workspace, largest=True, training=training)
    y, down_backward = extreme_along(xp, across, pool, ROWS, workspace, largest=True, training=training)

    def backward(dy: Array, dweight: Array, input_gradient: bool) -> Array | None:
        dacross = down_backward(dy)
        dwide = workspace.batch_last(wide.shape, dy.dtype)
        for column, winner in enumerate(winners):
            xp.multiply(dacross, winner, out=dwide[:, column * filters : (column + 1) * filters])
        dwide_weight = workspace.empty(wide_weight.shape, dy.dtype)
        dx = convolution_backward(dwide, dwide_weight, input_gradient)
        shifted = dwide_weight.reshape(count, *weight.shape[:3], kw + count - 1)
        dweight[...] = shifted[0, ..., :kw]
        for column in range(1, count):
            dweight += shifted[column, ..., column : column + kw]
        return dx

    return y, backward
