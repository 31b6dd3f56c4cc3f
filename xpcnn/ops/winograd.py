"""Winograd convolution: several output rows at once, with fewer multiplications, from products of transformed rows.

A filter of r rows gives m output rows from m + r - 1 products instead of m r: the values of polynomials at that many
points, which determine them (Winograd, "Arithmetic complexity of computations", 1980; Lavin and Gray, "Fast algorithms
for convolutional neural networks", CVPR 2016). Here it is applied along the rows only, where memory is contiguous; the
columns are lowered as usual. Each transform is a product with a small constant matrix.

A tile is the m + r - 1 image rows that m output rows see. Rows beyond the last whole tile are left to the direct
method. Rounding errors are up to four times those of the direct method, about 1e-6 in float32, relative to the largest
value in the tile: a pixel of 1e6 among ones, or an infinite one, affects all rows of its tile.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from xpcnn.backend import Array, ArrayModule, is_host
from xpcnn.ops.products import few_results, small_products
from xpcnn.ops.window import Window
from xpcnn.ops.workspace import Workspace, strided

#: Output rows per tile, by the number of filter rows.
TILE = {taps: min(4, 9 - taps) for taps in range(3, 8)}
#: Where polynomials are evaluated, besides infinity: small values, to limit rounding errors.
POINTS = tuple(Fraction(point) for point in ("0", "1", "-1", "2", "-2", "1/2", "-1/2"))
#: With at least this many filters, and weights in one row of all of them, this was faster than the direct method: 1.07
#: times with 8 filters of 8x3x3, 1.3 with 32 of 16x3x3, 1.5 with 64 of 64x3x3, 1.9 with 128 of 128x5x5 (shards of 16
#: images, one core).
MANY_FILTERS = 8
MANY_WEIGHTS = 200


class Transforms(NamedTuple):
    """The matrices in y = outputs (filters w * inputs x), for the rows of y, w and x; * is elementwise."""

    inputs: Array
    filters: Array
    outputs: Array


@functools.cache
def transforms(taps: int, dtype: str) -> Transforms:
    """Return the Toom-Cook matrices for filters with ``taps`` rows.

    >>> inputs, filters, outputs = transforms(3, "float64")
    >>> w, x = np.array([3.0, 1.0, 2.0]), np.array([1.0, 5.0, -2.0, 7.0, 0.0, 1.0])
    >>> (outputs @ ((filters @ w) * (inputs @ x))).round(9).tolist(), np.correlate(x, w).tolist()
    ([4.0, 27.0, 1.0, 23.0], [4.0, 27.0, 1.0, 23.0])
    """
    rows = TILE[taps]
    points = POINTS[: rows + taps - 2]
    inputs, filters = [], []
    for point in points:
        others = [other for other in points if other != point]
        scale = functools.reduce(lambda product, other: product * (point - other), others, Fraction(1))
        inputs.append([*_polynomial(others), Fraction(0)])
        filters.append([point**power / scale for power in range(taps)])
    inputs.append(_polynomial(points))
    filters.append([Fraction(power == taps - 1) for power in range(taps)])
    outputs = [[*(point**power for point in points), Fraction(power == rows - 1)] for power in range(rows)]
    return Transforms(*(np.array(matrix, dtype=np.float64).astype(dtype) for matrix in (inputs, filters, outputs)))


def _polynomial(roots: list[Fraction] | tuple[Fraction, ...]) -> list[Fraction]:
    """Return the coefficients, lowest first, of the product of all (x - root)."""
    coefficients = [Fraction(1)]
    for root in roots:
        times_x, times_root = [Fraction(0), *coefficients], [*(c * root for c in coefficients), Fraction(0)]
        coefficients = [a - b for a, b in zip(times_x, times_root, strict=True)]
    return coefficients


def suits(xp: ArrayModule, window: Window, filters: int, depth: int, rows: int) -> bool:
    """Return whether Winograd is faster for this many output rows. depth: channels times columns of a filter."""
    taps = window.kernel[0]
    return (
        is_host(xp)
        and window.strides[0] == window.dilation[0] == 1
        and rows >= TILE.get(taps, rows + 1)
        and filters >= MANY_FILTERS
        and filters * depth >= MANY_WEIGHTS
    )


def correlate(xp: ArrayModule, padded: Array, filters: Array, window: Window, y: Array, workspace: Workspace) -> int:
    """Write the output rows that whole tiles cover, and return their number.

    padded: already padded images; filters: (filters, channels, kh, kw); both images and y with the batch last.
    """
    count, channels, taps, kw = filters.shape
    matrices, m = transforms(taps, padded.dtype.name), TILE[taps]
    n, tiles, width = len(y), y.shape[2] // m, y.shape[3]
    kernel = _transformed_filters(xp, filters, matrices, workspace)
    y_rows = y.transpose(1, 2, 3, 0)
    for block in _blocks(tiles, width, len(kernel) * channels * kw * n * y.itemsize, workspace.column_bytes):
        at_once, size = block.tiles, block.columns * n
        halves, parts = small_products(count, channels * kw, block.columns, n)
        columns = _lower(xp, padded, window, matrices.inputs, block, parts, workspace)
        products = workspace.scratch((at_once, len(kernel), count, size), y.dtype, "products")
        cut = products.reshape(at_once, len(kernel), halves, count // halves, parts, size // parts)
        xp.matmul(
            kernel.reshape(len(kernel), 1, halves, count // halves, -1),
            columns[:, :, :, None],
            out=cut.transpose(0, 1, 4, 2, 3, 5),
        )
        rows = block.rows_of(y_rows, m).reshape(count, at_once, m, size)
        xp.matmul(matrices.outputs, products.swapaxes(1, 2), out=rows.swapaxes(0, 1))
    return int(tiles * m)


def weight_gradient(
    xp: ArrayModule, padded: Array, dy: Array, window: Window, workspace: Workspace
) -> tuple[Array, int]:
    """Return the weight's gradient from the output rows that whole tiles cover, and their number.

    padded, dy: with the batch last in memory; gradient: (kh, channels, kw, filters).
    """
    (taps, kw), channels, count = window.kernel, padded.shape[1], dy.shape[1]
    matrices, m, depth = transforms(taps, padded.dtype.name), TILE[taps], channels * kw
    n, tiles, width, values = len(dy), dy.shape[2] // m, dy.shape[3], len(matrices.inputs)
    parts = few_results(depth, count)
    dy_rows = dy.transpose(1, 2, 3, 0)
    total: Array = 0
    for block in _blocks(tiles, width, values * depth * n * dy.itemsize, workspace.column_bytes):
        at_once, size = block.tiles, block.columns * n
        columns = _lower(xp, padded, window, matrices.inputs, block, 1, workspace)
        rows = block.rows_of(dy_rows, m).reshape(count, at_once, m, size)
        dvalues = workspace.scratch((at_once, values, count, size), dy.dtype, "dvalues")
        xp.matmul(matrices.outputs.T, rows.swapaxes(0, 1), out=dvalues.swapaxes(1, 2))
        products = workspace.scratch((at_once, values, parts, depth // parts, count), dy.dtype, "products")
        cut = columns.reshape(at_once, values, parts, depth // parts, size)
        total = xp.matmul(cut, dvalues.swapaxes(2, 3)[:, :, None], out=products).sum(axis=0) + total
    gradient = xp.matmul(matrices.filters.T, total.reshape(values, -1))
    return gradient.reshape(taps, channels, kw, count), tiles * m


class _Block(NamedTuple):
    """The tiles, and the columns of their output, that are computed at once."""

    first_tile: int
    tiles: int
    first_column: int
    columns: int

    def rows_of(self, images: Array, m: int) -> Array:
        """View this block's rows and columns in images (channels, rows, columns, n), with m rows per tile."""
        rows = slice(self.first_tile * m, (self.first_tile + self.tiles) * m)
        return images[:, rows, self.first_column : self.first_column + self.columns]


def _blocks(tiles: int, width: int, cell_bytes: int, budget: int) -> Iterator[_Block]:
    """Cut tiles and columns into blocks that fit the budget. cell_bytes: size of one lowered column of one tile."""
    cells = max(1, budget // cell_bytes)
    tiles_at_once, columns_at_once = max(1, cells // width), min(width, cells)
    for tile in range(0, tiles, tiles_at_once):
        for column in range(0, width, columns_at_once):
            yield _Block(tile, min(tiles_at_once, tiles - tile), column, min(columns_at_once, width - column))


def _transformed_filters(xp: ArrayModule, filters: Array, matrices: Transforms, workspace: Workspace) -> Array:
    """Return the filters evaluated at each point: (points, filters, channels kw)."""
    count, channels, taps, kw = filters.shape
    by_row = workspace.scratch((taps, count, channels, kw), filters.dtype, "filters")
    xp.copyto(by_row, filters.transpose(2, 0, 1, 3))
    values = workspace.empty((len(matrices.filters), count, channels * kw), filters.dtype)
    xp.matmul(matrices.filters, by_row.reshape(taps, -1), out=values.reshape(len(values), -1))
    return values


def _lower(
    xp: ArrayModule, padded: Array, window: Window, inputs: Array, block: _Block, parts: int, workspace: Workspace
) -> Array:
    """Return a block's tiles evaluated at each point, their columns lowered and cut into equal parts.

    (tiles, points, parts, channels kw, columns / parts n)
    """
    n, channels = padded.shape[:2]
    (taps, kw), sw, dw, item = window.kernel, window.strides[1], window.dilation[1], padded.itemsize
    seen_columns = (block.columns - 1) * sw + (kw - 1) * dw + 1
    _, channel, row, column = padded.strides
    tiles = strided(
        xp,
        padded[:, :, block.first_tile * TILE[taps] :, block.first_column * sw :],
        (block.tiles, channels, len(inputs), seen_columns * n),
        (TILE[taps] * row, channel, row, item),
    )
    values = workspace.scratch((block.tiles, len(inputs), channels, seen_columns, n), padded.dtype, "values")
    xp.matmul(inputs, tiles, out=values.reshape(block.tiles, len(inputs), channels, -1).swapaxes(1, 2))
    columns = block.columns // parts
    lowered = workspace.scratch((block.tiles, len(inputs), parts, channels, kw, columns, n), padded.dtype, "lowered")
    tile, value, channel, column, image = values.strides
    strides = (tile, value, columns * sw * column, channel, dw * column, sw * column, image)
    xp.copyto(lowered, strided(xp, values, lowered.shape, strides))
    return lowered.reshape(block.tiles, len(inputs), parts, channels * kw, columns * n)
