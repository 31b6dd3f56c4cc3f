"""Winograd's convolution: several rows of output from fewer multiplications, in sums that stay in registers.

The algorithm is applied to rows alone, so that columns and images stay one long row in memory: the rows that a tile of
output sees are evaluated at a few points, and each point has a correlation of its own, of filters with a single row.
Rounding errors are up to four times those of direct sums, about 1e-6 in float32, relative to the largest value in the
tile: a pixel of 1e6 among ones, or an infinite one, affects all rows of its tile.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from xpcnn.backend import Array
from xpcnn.ops.cpu.bounds import Bounds, unbounded
from xpcnn.ops.cpu.compiler import VECTOR_BYTES, flat, kernel, lanes
from xpcnn.ops.cpu.correlation import GRADIENT_TILES, correlation_tile, padded, tile_for, tiled, turned, untiled
from xpcnn.ops.cpu.tile import (
    add_number,
    add_outer,
    add_products,
    add_sums,
    load_rows,
    save_tile,
    store_rows,
    zeros,
)
from xpcnn.ops.cpu.toom_cook import TILE, from_points, slopes_at_points, transforms
from xpcnn.ops.cpu.winograd_steps import evaluate_rows
from xpcnn.ops.window import Pair, Window
from xpcnn.ops.workspace import Workspace

#: Filters and channels from which on this is faster than direct sums.
MANY = 8
#: Vectors in a row from which on it is: fewer images have little to gain from transformed filters.
LEAST_VECTORS = 3
#: Bytes of values from which columns are computed at once, for the first-level cache.
L1_BYTES = 24 * 2**10
#: Bytes of values from which a weight gradient is computed at once, for the second-level cache and a part of the third.
L2_BYTES = 2**20


def suits(x: Array, weight: Array, window: Window, groups: int, output: Pair) -> bool:
    """Whether this is faster than direct sums, for images (n, channels, height, width) and an output of a size."""
    taps = window.kernel[0]
    rows, columns = map(min, output, x.shape[2:])  # of the output and of the input's gradient
    return (
        groups == 1
        and min(weight.shape[:2]) >= MANY
        and window.strides == (1, 1)
        and window.dilation[0] == 1
        and window.reach is not None
        and rows >= TILE.get(taps, rows + 1)
        and columns * len(x) >= LEAST_VECTORS * lanes(x.dtype)
    )


def correlate(
    x: Array, weight: Array, bias: Array | None, y: Array, window: Window, bounds: Bounds, workspace: Workspace
) -> None:
    """Write the correlation of images with filters, plus the bias.

    x, y: with the batch last; bounds: numbers outside of these are written as these.
    """
    n, channels, height, width = x.shape
    filters, _, taps, _ = weight.shape
    (top, _), (left, right) = window.padding
    of_filters = transforms(taps, x.dtype.name).filters
    points = len(of_filters)
    tile = correlation_tile(filters, y.shape[3] * n, x.dtype)
    assert tile is not None  # rows have LEAST_VECTORS at least
    by_row = tiled(weight.transpose(2, 0, 1, 3), tile[0], workspace)
    transformed = np.matmul(of_filters, by_row.reshape(taps, -1)).reshape(-1)
    length, halo, together = y.shape[3] * n, (window.extent[1] - 1) * n, tile[1] * lanes(x.dtype)
    pitch = (left + width + right) * n
    block = max((L1_BYTES // (channels * x.itemsize) - halo) // together, 1) * together
    block = min(block, -(-length // together) * together)
    values = workspace.scratch((points * channels * pitch,), x.dtype, "values")
    products = workspace.scratch((points * (filters + -filters % tile[0]) * block,), x.dtype, "products")
    geometry = channels, height, width * n, filters, y.shape[2], length, top, left * n, pitch, block
    _correlation(*tile, taps)(
        flat(x), transformed, padded(bias, 1, filters, tile[0], y.dtype, workspace), flat(y),
        _offsets(window, channels, pitch, n), values, products, bounds, geometry,
    )  # fmt: skip


def weight_gradient(x: Array, dy: Array, dweight: Array, window: Window, workspace: Workspace) -> None:
    """Write the gradient of the filters (filters, channels, kh, kw)."""
    n, channels, height, width = x.shape
    filters, _, taps, kw = dweight.shape
    (top, _), (left, _) = window.padding
    of_filters = transforms(taps, x.dtype.name).filters
    points = len(of_filters)
    tile, vector = tile_for(filters, channels * kw, GRADIENT_TILES), lanes(x.dtype)
    length, halo, tiles = dy.shape[3] * n, (window.extent[1] - 1) * n, -(-dy.shape[2] // TILE[taps])
    column_bytes = points * (channels + filters) * x.itemsize
    block = max((L2_BYTES // column_bytes - halo) // vector, 1) * vector
    block = min(block, -(-length // vector) * vector)
    at_once = max(1, min(tiles, L2_BYTES // ((block + halo) * column_bytes)))
    offsets = _offsets(window, channels, block + halo, n)
    offsets = np.concatenate((offsets, np.zeros(-len(offsets) % tile[1], np.int64)))
    planes = np.arange(filters + -filters % tile[0]).clip(max=filters - 1) * block
    values = workspace.scratch((points * at_once * channels * (block + halo),), x.dtype, "values")
    slopes = workspace.scratch((points * at_once * filters * block,), x.dtype, "slopes")
    of_tile = -(-tile[0] * tile[1] // vector) * vector
    sums = workspace.scratch((points, len(planes) // tile[0], len(offsets) // tile[1], of_tile), x.dtype, "sums")
    sums[...] = 0
    geometry = channels, height, width * n, filters, dy.shape[2], length, top, left * n, block, halo, at_once
    _gradient(*tile, taps)(flat(x), flat(dy), sums.reshape(-1), offsets, planes, values, slopes, geometry)
    gradient = np.matmul(of_filters.T, untiled(sums, tile, filters, channels * kw).reshape(points, -1))
    dweight[...] = gradient.reshape(taps, filters, channels, kw).transpose(1, 2, 0, 3)


def input_gradient(dy: Array, weight: Array, dx: Array, window: Window, workspace: Workspace) -> None:
    """Write the gradient of images."""
    reach = window.reach
    assert reach is not None  # or it would not suit
    correlate(dy, turned(weight), None, dx, replace(window, padding=reach), unbounded(dx.dtype), workspace)


@functools.lru_cache(256)
def _offsets(window: Window, channels: int, pitch: int, n: int) -> Array:
    """Return where the cells of a filter's row are in (channels, pitch)."""
    columns = np.arange(window.kernel[1]) * (window.dilation[1] * n)
    return (np.arange(channels)[:, None] * pitch + columns).ravel()


@functools.cache
def _correlation(height: int, width: int, taps: int) -> Callable[..., None]:
    """Return the kernel for tiles of ``height`` filters and ``width`` vectors, and filters of ``taps`` rows."""
    at_once = TILE[taps]
    points = at_once + taps - 1

    def correlation(
        x: Any, weight: Any, bias: Any, y: Any, offsets: Any, values: Any, products: Any, bounds: Any, geometry: Any
    ) -> None:
        channels, image_rows, row_length, filters, rows, length, top, left, pitch, block = geometry
        lanes = VECTOR_BYTES // x.itemsize
        together, cells, plane = width * lanes, len(offsets), rows * length
        of_values, of_products = len(values) // points, len(products) // points
        for tile_row in range(0, rows, at_once):
            row = min(tile_row, rows - at_once)  # the last tile computes some rows again
            inside = max(0, top - row), min(points, image_rows + top - row)
            for channel in range(channels):
                start, to = (channel * image_rows + row - top) * row_length, channel * pitch
                evaluate_rows(taps, points, x, start, row_length, inside, -left, values, to, of_values, pitch)
            for begin in range(0, length, block):
                span, at = min(block, length - begin), 0
                for point in range(points):
                    to = point * of_products
                    for _ in range(0, filters, height):
                        for begin_column in range(0, span, together):
                            column = begin + min(begin_column, span - together)
                            sums, start, place = zeros(height, width, x), at, point * of_values + column
                            for cell in range(cells):
                                sums = add_outer(sums, weight, start, 1, values, place + offsets[cell], None)
                                start += height
                            save_tile(sums, products, to, together)
                            to += height * together
                        at += height * cells
                at = 0
                for first in range(0, filters, height):
                    for begin_column in range(0, span, together):
                        column = begin + min(begin_column, span - together)
                        for f in range(first, min(first + height, filters)):
                            for part in range(width):
                                start = at + ((f - first) * width + part) * lanes
                                place = f * plane + row * length + column + part * lanes
                                at_each = load_rows(points, products, start, of_products, 0, points, None)
                                result = add_number(from_points(taps, at_each), bias[f], bounds)
                                store_rows(result, y, place, length, None)
                        at += height * together

    return kernel(correlation)


@functools.cache
def _gradient(height: int, width: int, taps: int) -> Callable[..., None]:
    """Return the kernel for tiles of ``height`` filters and ``width`` cells, and filters of ``taps`` rows."""
    at_once = TILE[taps]
    points = at_once + taps - 1

    def gradient(
        x: Any, dy: Any, sums: Any, offsets: Any, planes: Any, values: Any, slopes: Any, geometry: Any
    ) -> None:
        channels, image_rows, row_length, filters, rows, length, top, left, block, halo, tiles = geometry
        lanes, pitch = VECTOR_BYTES // x.itemsize, block + halo
        of_values, of_slopes = channels * pitch, filters * block
        for tile_row in range(0, rows, at_once * tiles):
            count = min(tiles, (rows - tile_row + at_once - 1) // at_once)
            for begin in range(0, length, block):
                span = min(block, length - begin)
                whole = (span + lanes - 1) // lanes * lanes  # what is missing in the last vector is zeros
                for tile in range(count):
                    row = min(tile_row + tile * at_once, rows - at_once)
                    inside = max(0, top - row), min(points, image_rows + top - row)
                    for channel in range(channels):
                        start, to = (channel * image_rows + row - top) * row_length, tile * of_values + channel * pitch
                        evaluate_rows(
                            taps, points, x, start, row_length, inside, begin - left, values, to, tiles * of_values,
                            whole + halo,
                        )  # fmt: skip
                    own = tile_row + tile * at_once - row  # the last tile has rows that another has, too
                    for f in range(filters):
                        start, to = (f * rows + row) * length + begin, tile * of_slopes + f * block
                        for column in range(0, span - lanes + 1, lanes):
                            seen = load_rows(at_once, dy, start + column, length, own, at_once, None)
                            store_rows(slopes_at_points(taps, seen), slopes, to + column, tiles * of_slopes, None)
                        if span < whole:
                            column = whole - lanes
                            seen = load_rows(at_once, dy, start + column, length, own, at_once, span - column)
                            store_rows(slopes_at_points(taps, seen), slopes, to + column, tiles * of_slopes, None)
                at = 0
                for point in range(points):
                    for f in range(0, len(planes), height):
                        for cell in range(0, len(offsets), width):
                            total = zeros(height, width, x)
                            for tile in range(count):
                                x_at, dy_at = (point * tiles + tile) * of_values, (point * tiles + tile) * of_slopes
                                end = dy_at + whole
                                while dy_at < end:  # LLVM would unroll a loop over a range
                                    total = add_products(
                                        total, slopes, dy_at, planes, f, values, x_at, offsets, cell, None
                                    )
                                    dy_at += lanes
                                    x_at += lanes
                            at += add_sums(total, sums, at)

    return kernel(gradient)
