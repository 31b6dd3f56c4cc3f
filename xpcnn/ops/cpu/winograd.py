"""Winograd's convolution: several rows of output from fewer multiplications, in sums that stay in registers.

The algorithm is applied to rows alone, so that columns and images stay one long row in memory: the rows that a tile of
output sees are evaluated at a few points, and each point has a correlation of its own, of filters with a single row.
Rounding errors are up to four times those of direct sums, about 1e-6 in float32, relative to the largest value in the
tile: a pixel of 1e6 among ones, or an infinite one, affects all rows of its tile.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from xpcnn.backend import Array
from xpcnn.ops.cpu.compiler import VECTOR_BYTES, compiled, flat, kernel, lanes
from xpcnn.ops.cpu.correlation import CORRELATION_TILES, GRADIENT_TILES, add_lanes, padded, tile_for, tiled
from xpcnn.ops.cpu.tile import add_outer, add_products, add_scaled, filled, load_tile, save_tile, write_rows, zeros
from xpcnn.ops.cpu.toom_cook import TILE, transforms
from xpcnn.ops.window import Pair, Window
from xpcnn.ops.workspace import Workspace

#: Filters and channels from which on this is faster than direct sums.
MANY = 8
#: Most bytes of values from which a weight gradient is computed at once.
CACHE_BYTES = 2**20


def suits(x: Array, weight: Array, window: Window, groups: int, output: Pair) -> bool:
    """Whether this is faster than direct sums, for images (n, channels, height, width) and an output of a size."""
    taps, (rows, columns) = window.kernel[0], output
    shortest = min(columns, x.shape[3]) * len(x)
    return (
        groups == 1
        and min(weight.shape[:2]) >= MANY
        and window.strides == (1, 1)
        and window.dilation[0] == 1
        and all(max(around) < k for around, k in zip(window.padding, window.extent, strict=True))
        and rows >= TILE.get(taps, rows + 1)
        and shortest >= max(width for _, width in CORRELATION_TILES) * lanes(x.dtype)
    )


def correlate(
    x: Array, weight: Array, bias: Array | None, y: Array, window: Window, workspace: Workspace, *, relu: bool
) -> None:
    """Write the correlation of images with filters, plus the bias.

    x, y: with the batch last; relu: whether negative numbers are written as 0.
    """
    n, channels, height, width = x.shape
    filters, _, taps, kw = weight.shape
    (top, _), (left, right) = window.padding
    inputs, of_filters, outputs = transforms(taps, x.dtype.name)
    tile = tile_for(filters, CORRELATION_TILES)
    by_row = weight.transpose(2, 0, 1, 3).reshape(taps, -1)
    weight = np.matmul(of_filters, by_row).reshape(len(inputs), filters, channels * kw)
    pitch = (left + width + right) * n
    values = workspace.scratch((len(inputs) * channels * pitch,), x.dtype, "values")
    products = workspace.scratch((len(inputs) * tile[0] * tile[1] * lanes(x.dtype),), x.dtype, "products")
    geometry = channels, height, width * n, filters, y.shape[2], y.shape[3] * n, top, left * n, pitch
    _correlation(*tile)(
        flat(x), tiled(weight, tile[0], workspace), padded(bias, filters, tile[0], y.dtype, workspace), flat(y),
        inputs, outputs, _offsets(window, channels, pitch, n), values, products, relu, geometry,
    )  # fmt: skip


def weight_gradient(x: Array, dy: Array, dweight: Array, window: Window, workspace: Workspace) -> None:
    """Write the gradient of the filters (filters, channels, kh, kw)."""
    n, channels, height, width = x.shape
    filters, _, taps, kw = dweight.shape
    (top, _), (left, right) = window.padding
    inputs, of_filters, outputs = transforms(taps, x.dtype.name)
    tile, vector = tile_for(filters, GRADIENT_TILES), lanes(x.dtype)
    length = dy.shape[3] * n
    whole = -(-length // vector) * vector  # what a row of the gradient lacks in a last vector is zeros
    pitch = (left + width + right) * n + whole - length
    offsets = _offsets(window, channels, pitch, n)
    offsets = np.concatenate((offsets, np.zeros(-len(offsets) % tile[1], np.int64)))
    planes = np.arange(filters + -filters % tile[0]).clip(max=filters - 1) * whole
    row_bytes = len(inputs) * (channels * pitch + filters * whole) * x.itemsize
    at_once = max(1, min(CACHE_BYTES // row_bytes, -(-dy.shape[2] // TILE[taps])))
    values = workspace.scratch((len(inputs) * at_once * channels * pitch,), x.dtype, "values")
    slopes = workspace.scratch((len(inputs) * at_once * filters * whole,), x.dtype, "slopes")
    sums = workspace.scratch((len(inputs), len(planes) * len(offsets) * vector), x.dtype, "sums")
    sums[:] = 0
    geometry = channels, height, width * n, filters, dy.shape[2], length, top, left * n, pitch, whole, at_once
    _gradient(*tile)(
        flat(x), flat(dy), sums.reshape(-1), inputs, np.ascontiguousarray(outputs.T), offsets, planes, values, slopes,
        geometry,
    )  # fmt: skip
    products = workspace.empty((len(inputs), filters, channels * kw), x.dtype)
    for of_point, product in zip(sums, products, strict=True):
        add_lanes(of_point.reshape(-1, vector), product.reshape(-1), filters, channels * kw, len(offsets), *tile)
    gradient = np.matmul(of_filters.T, products.reshape(len(inputs), -1))
    dweight[...] = gradient.reshape(taps, filters, channels, kw).transpose(1, 2, 0, 3)


@functools.lru_cache(256)
def _offsets(window: Window, channels: int, pitch: int, n: int) -> Array:
    """Return where the cells of a filter's row are in (channels, pitch)."""
    columns = np.arange(window.kernel[1]) * (window.dilation[1] * n)
    return (np.arange(channels)[:, None] * pitch + columns).ravel()


@functools.cache
def _correlation(height: int, width: int) -> Callable[..., None]:
    """Return the kernel for tiles of ``height`` filters and ``width`` vectors."""

    def correlation(
        x: Any, weight: Any, bias: Any, y: Any, inputs: Any, outputs: Any, offsets: Any, values: Any, products: Any,
        relu: bool, geometry: Any,
    ) -> None:  # fmt: skip
        channels, image_rows, row_length, filters, rows, length, top, left, pitch = geometry
        together, points, at_once = width * (VECTOR_BYTES // x.itemsize), len(inputs), len(outputs)
        cells, size, plane = len(offsets), height * together, rows * length
        padded_filters = len(bias)
        for tile_row in range(0, rows, at_once):
            row = min(tile_row, rows - at_once)  # the last tile computes some rows again
            for channel in range(channels):
                start = (channel * image_rows + row - top) * row_length
                inside = max(0, top - row), min(points, image_rows + top - row)
                _evaluate(inputs, x, start, row_length, inside, values, channel * pitch, channels * pitch, left, pitch)
            for first in range(0, filters, height):
                for begin in range(0, length, together):
                    column = min(begin, length - together)
                    for point in range(points):
                        sums = zeros(height, width, x)
                        at, place = (point * padded_filters + first) * cells, point * channels * pitch + column
                        for cell in range(cells):
                            sums = add_outer(sums, weight, at, values, place + offsets[cell], None)
                            at += height
                        save_tile(sums, products, point * size)
                    for i in range(at_once):
                        sums = filled(height, width, bias, first)
                        for point in range(points):
                            if outputs[i, point] != 0:
                                sums = add_scaled(sums, outputs[i, point], products, point * size)
                        place = first * plane + (row + i) * length + column
                        write_rows(sums, y, place, plane, filters - first, relu, None)

    return kernel(correlation)


@functools.cache
def _gradient(height: int, width: int) -> Callable[..., None]:
    """Return the kernel for tiles of ``height`` filters and ``width`` cells."""

    def gradient(
        x: Any, dy: Any, sums: Any, inputs: Any, outputs: Any, offsets: Any, planes: Any, values: Any, slopes: Any,
        geometry: Any,
    ) -> None:  # fmt: skip
        channels, image_rows, row_length, filters, rows, length, top, left, pitch, whole, tiles = geometry
        vector, points, at_once = VECTOR_BYTES // x.itemsize, len(inputs), outputs.shape[1]
        of_values, of_slopes = channels * pitch, filters * whole
        for tile_row in range(0, rows, at_once * tiles):
            count = min(tiles, (rows - tile_row + at_once - 1) // at_once)
            for tile in range(count):
                first = tile_row + tile * at_once
                row = min(first, rows - at_once)
                inside = max(0, top - row), min(points, image_rows + top - row)
                for channel in range(channels):
                    start, to = (channel * image_rows + row - top) * row_length, tile * of_values + channel * pitch
                    _evaluate(inputs, x, start, row_length, inside, values, to, tiles * of_values, left, pitch)
                for f in range(filters):  # of the last tile only the rows that no other has
                    start, to = (f * rows + row) * length, tile * of_slopes + f * whole
                    mine = first - row, at_once
                    _evaluate(outputs, dy, start, length, mine, slopes, to, tiles * of_slopes, 0, whole)
            at = 0
            for point in range(points):
                for f in range(0, len(planes), height):
                    for cell in range(0, len(offsets), width):
                        total = load_tile(height, width, sums, at)
                        for tile in range(count):
                            x_at = (point * tiles + tile) * of_values
                            dy_at = (point * tiles + tile) * of_slopes
                            end = dy_at + whole
                            while dy_at < end:  # LLVM would unroll a loop over a range
                                total = add_products(total, slopes, dy_at, planes, f, values, x_at, offsets, cell, None)
                                dy_at += vector
                                x_at += vector
                        save_tile(total, sums, at)
                        at += height * width * vector

    return kernel(gradient)


@compiled
def _evaluate(
    matrix: Any, x: Any, start: int, step: int, rows: tuple[int, int], values: Any, to: int, apart: int, left: int,
    pitch: int,
) -> None:  # fmt: skip
    """Write a row of values for each point, with zeros around: sums of rows of x, which lie ``step`` elements apart.

    rows: the first row that is inside the image, and the one after the last; apart: how far apart points are.
    """
    together = 2 * (VECTOR_BYTES // x.itemsize)
    for point in range(len(matrix)):
        values[to : to + left] = 0
        values[to + left + step : to + pitch] = 0
        for begin in range(0, step, together):
            column = min(begin, step - together)
            sums = zeros(1, 2, x)
            for row in range(*rows):
                if matrix[point, row] != 0:
                    sums = add_scaled(sums, matrix[point, row], x, start + row * step + column)
            save_tile(sums, values, to + left + column)
        to += apart
