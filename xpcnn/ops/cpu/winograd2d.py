"""Winograd's convolution in two dimensions: 4 x 4 outputs from 36 products instead of 144, for filters of 3 x 3.

As along rows (:mod:`xpcnn.ops.cpu.winograd`), and then along columns: with the batch last, one column and the next are
as far apart as there are images, and vectors hold images. At each point, sums over channels are products of matrices.
So are those of the filters' gradient over positions and images, for which vectors hold channels.

Rounding errors were up to 1e-5 of the largest result in float32, with normally distributed images and filters, about
ten times those of direct sums, and in the filters' gradient 30 times. As along rows, a pixel of 1e6 among ones, or an
infinite one, affects its whole tile.
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
from xpcnn.ops.cpu.correlation import padded, tile_for, turned
from xpcnn.ops.cpu.tile import (
    add_number,
    load_rows,
    save_tile,
    store_rows,
    transposed,
)
from xpcnn.ops.cpu.toom_cook import TILE, at_points, from_points, slopes_at_points, transforms
from xpcnn.ops.cpu.winograd_steps import evaluate_columns, evaluate_rows, filters_by_point, multiply
from xpcnn.ops.window import Pair, Window
from xpcnn.ops.workspace import Workspace

#: Filters and channels from which on this is faster than along rows alone, for filters with tiles of this size.
MANY, LARGEST = 16, 4
#: Tiles (rows, vectors) of a product that fill the registers or, in narrow blocks, waste few columns.
TILES = {64: ((8, 2), (8, 1), (5, 2)), 32: ((4, 2), (5, 2)), 16: ((4, 2), (5, 2))}[VECTOR_BYTES]
#: Bytes of values from which a block of output is computed, for the second-level cache.
CORRELATION_BYTES = 2**18
#: Filters whose products are computed before they are transformed, so that products stay there, too.
FILTERS_AT_ONCE = 16
#: Bytes of values from which a weight gradient is computed at once, for that cache and a part of the third.
GRADIENT_BYTES = 2**20


def suits(x: Array, weight: Array, window: Window, groups: int, output: Pair) -> bool:
    """Whether this is the fastest way, for images (n, channels, height, width) and an output of a size."""
    sizes = zip(window.kernel, map(min, output, x.shape[2:]), strict=True)  # of the output and the input's gradient
    return (
        groups == 1
        and min(weight.shape[:2]) >= MANY
        and window.strides == window.dilation == (1, 1)
        and window.reach is not None
        and all(TILE.get(taps) == LARGEST <= size for taps, size in sizes)
        and len(x) >= lanes(x.dtype)
        and -len(x) % lanes(x.dtype) <= len(x) // 3  # images that are in two vectors
    )


def correlate(
    x: Array, weight: Array, bias: Array | None, y: Array, window: Window, bounds: Bounds, workspace: Workspace
) -> None:
    """As :func:`xpcnn.ops.cpu.winograd.correlate`."""
    n, channels, height, width = x.shape
    filters, _, kh, kw = weight.shape
    rows, columns = y.shape[2:]
    (top, _), (left, _) = window.padding
    vector = lanes(x.dtype)
    points, vectors = (TILE[kh] + kh - 1) * (TILE[kw] + kw - 1), -(-n // vector)
    each = points * channels * vectors * VECTOR_BYTES
    down, across = _block((rows, columns), window.kernel, CORRELATION_BYTES // each)
    tile = tile_for(filters, down * across * vectors, TILES)
    positions = -(-down * across * vectors // tile[1]) * tile[1] * vector
    at_once = max(1, FILTERS_AT_ONCE // tile[0]) * tile[0]
    whole = filters + -filters % tile[0]
    by_cell = _parts(kh * kw, whole * channels, x.dtype, workspace, "cells")
    by_point = _parts(points, whole * channels, x.dtype, workspace, "filters")
    filters_by_point(tile[0], kh, kw)(weight, by_cell, by_point)
    values = _parts(points, channels * positions, x.dtype, workspace, "values")
    products = _parts(points, at_once * positions, x.dtype, workspace, "products")
    of_rows = _parts(TILE[kh] + kh - 1, (across * TILE[kw] + kw - 1) * n, x.dtype, workspace, "rows")
    geometry = channels, height, width * n, filters, rows, columns, n, top, left, down, across, positions, at_once
    start = padded(bias, 1, filters, tile[0], y.dtype, workspace)
    _correlation(*tile, kh, kw)(flat(x), by_point, start, flat(y), values, products, of_rows, bounds, geometry)


def input_gradient(dy: Array, weight: Array, dx: Array, window: Window, workspace: Workspace) -> None:
    """As :func:`xpcnn.ops.cpu.winograd.input_gradient`."""
    reach = window.reach
    assert reach is not None  # or it would not suit
    correlate(dy, turned(weight), None, dx, replace(window, padding=reach), unbounded(dx.dtype), workspace)


def weight_gradient(x: Array, dy: Array, dweight: Array, window: Window, workspace: Workspace) -> None:
    """As :func:`xpcnn.ops.cpu.winograd.weight_gradient`."""
    n, channels, height, width = x.shape
    filters, _, kh, kw = dweight.shape
    rows, columns = dy.shape[2:]
    (top, _), (left, _) = window.padding
    of_filters, vector = _of_filters(window.kernel, x.dtype.name), lanes(x.dtype)
    points = len(of_filters)
    tile = tile_for(filters, -(-channels // vector), TILES)
    padded_filters, padded_channels = filters + -filters % tile[0], channels + -channels % (tile[1] * vector)
    each = points * (padded_filters + padded_channels) * n * x.itemsize
    down, across = _block((rows, columns), window.kernel, GRADIENT_BYTES // each)
    positions = down * across * n
    seen = (across * TILE[kw] + kw - 1) * n * vector
    values = _parts(points, positions * padded_channels, x.dtype, workspace, "values")
    slopes = _parts(points, positions * padded_filters, x.dtype, workspace, "slopes")
    of_rows = _parts(TILE[kh] + kh - 1, seen, x.dtype, workspace, "rows")
    sums = workspace.scratch((points, padded_filters * padded_channels), x.dtype, "sums")
    sums[...] = 0
    geometry = (
        channels, height, width, filters, rows, columns, n, top, left, down, across, padded_filters, padded_channels
    )  # fmt: skip
    _gradient(*tile, kh, kw, vector)(flat(x), flat(dy), sums.reshape(-1), values, slopes, of_rows, geometry)
    gradient = np.matmul(sums.T, of_filters).reshape(padded_filters, padded_channels, kh, kw)
    dweight[...] = gradient[:filters, :channels]


@functools.cache
def _of_filters(kernel: Pair, dtype: str) -> Array:
    """Return the matrix from a filter's cells, one after the other, to its values at all points."""
    down, across = (transforms(taps, "float64").filters for taps in kernel)
    return np.kron(down, across).astype(dtype)


def _block(output: Pair, kernel: Pair, most: int) -> Pair:
    """Return how many tiles, down and across, are computed at once: at most so many, and blocks are about equal."""
    down, across = (-(-size // TILE[taps]) for size, taps in zip(output, kernel, strict=True))
    wide = -(-across // -(-across // max(1, min(most, across))))
    high = -(-down // -(-down // max(1, min(most // wide, down))))
    return high, wide


def _parts(number: int, size: int, dtype: np.dtype[Any], workspace: Workspace, use: str) -> Array:
    """Return memory for parts of a size, apart by an odd number of cache lines, or they would compete for a few."""
    line = 64 // dtype.itemsize
    return workspace.scratch((number * (-(-size // line) | 1) * line,), dtype, use)


@functools.cache
def _correlation(height: int, width: int, kh: int, kw: int) -> Callable[..., None]:
    """Return the kernel for products in tiles of ``height`` and ``width`` vectors, and filters of kh x kw."""
    tr, tc = TILE[kh], TILE[kw]
    points_down, points_across = tr + kh - 1, tc + kw - 1
    points = points_down * points_across

    def correlation(
        x: Any, weight: Any, bias: Any, y: Any, values: Any, products: Any, of_rows: Any, bounds: Any, geometry: Any
    ) -> None:
        (
            channels, image_rows, row_length, filters, rows, columns, n, top, left, down, across, positions, at_once
        ) = geometry  # fmt: skip
        lanes, pitch = VECTOR_BYTES // x.itemsize, len(of_rows) // points_down
        together, vectors = width * lanes, (n + lanes - 1) // lanes
        of_weights, of_values, of_products = len(weight) // points, len(values) // points, len(products) // points
        for tile_row in range(0, rows, tr * down):
            tiles_down = min(down, (rows - tile_row + tr - 1) // tr)
            for tile_column in range(0, columns, tc * across):
                tiles = min(across, (columns - tile_column + tc - 1) // tc)
                first = min(tile_column, columns - tc)
                for channel in range(channels):
                    for r in range(tiles_down):
                        row = min(tile_row + r * tr, rows - tr)  # the last tile computes some rows again
                        inside = max(0, top - row), min(points_down, image_rows + top - row)
                        start = (channel * image_rows + row - top) * row_length
                        evaluate_rows(
                            kh, points_down, x, start, row_length, inside, (first - left) * n, of_rows, 0, pitch,
                            (tiles * tc + kw - 1) * n,
                        )  # fmt: skip
                        evaluate_columns(
                            kw, tc, points_down, points_across, of_rows, pitch, tiles, columns - first, n, values,
                            channel * together, r * tiles * vectors, width, channels * together, of_values,
                        )  # fmt: skip
                for group in range(0, filters, at_once):
                    some = min(at_once, filters - group)
                    for point in range(points):
                        multiply(
                            height, width, weight, point * of_weights + group * channels, channels, 1, height,
                            values, point * of_values, channels, products, point * of_products, positions,
                            some, tiles_down * tiles * vectors * lanes, channels, False,
                        )  # fmt: skip
                    for f in range(some):
                        start = f * positions
                        for r in range(tiles_down):
                            row = min(tile_row + r * tr, rows - tr)
                            for c in range(tiles):
                                column = min(tile_column + c * tc, columns - tc)
                                place = (((group + f) * rows + row) * columns + column) * n
                                for v in range(0, n, lanes):
                                    image = min(v, n - lanes)  # the last vector has some images again
                                    for i in range(points_down):
                                        at = i * points_across * of_products + start
                                        seen = load_rows(
                                            points_across, products, at, of_products, 0, points_across, None
                                        )
                                        store_rows(from_points(kw, seen), of_rows, i * tc * lanes, lanes, None)
                                    for j in range(tc):
                                        seen = load_rows(
                                            points_down, of_rows, j * lanes, tc * lanes, 0, points_down, None
                                        )
                                        result = add_number(from_points(kh, seen), bias[group + f], bounds)
                                        store_rows(result, y, place + j * n + image, columns * n, None)
                                    start += lanes

    return kernel(correlation)


@functools.cache
def _gradient(height: int, width: int, kh: int, kw: int, lanes: int) -> Callable[..., None]:
    """Return the kernel for such products and filters, and vectors of ``lanes`` elements."""
    tr, tc = TILE[kh], TILE[kw]
    points_down, points_across = tr + kh - 1, tc + kw - 1
    points = points_down * points_across

    def gradient(x: Any, dy: Any, sums: Any, values: Any, slopes: Any, of_rows: Any, geometry: Any) -> None:
        channels, image_rows, image_columns, filters, rows, columns, n, top, left, down, across, high, wide = geometry
        pitch, positions, of_image = len(of_rows) // points_down, down * across * n, image_rows * image_columns * n
        of_values, of_slopes, together = len(values) // points, len(slopes) // points, width * lanes
        for tile_row in range(0, rows, tr * down):
            tiles_down = min(down, (rows - tile_row + tr - 1) // tr)
            for tile_column in range(0, columns, tc * across):
                tiles = min(across, (columns - tile_column + tc - 1) // tc)
                first = min(tile_column, columns - tc)
                span = tiles * tc + kw - 1
                begin, end = max(0, left - first), min(span, image_columns + left - first)
                for part in range(0, wide, lanes):
                    channel = min(part, channels - 1)  # what is beyond is computed, and not used
                    for r in range(tiles_down):
                        row = min(tile_row + r * tr, rows - tr)
                        for i in range(points_down):
                            to, seen_row = i * pitch, row + i - top
                            if 0 <= seen_row < image_rows:
                                start = channel * of_image + (seen_row * image_columns + first - left) * n
                                of_rows[to : to + begin * n * lanes] = 0
                                of_rows[to + end * n * lanes : to + span * n * lanes] = 0
                                for v in range(begin * n, end * n, lanes):
                                    place = min(v, end * n - lanes)
                                    seen = load_rows(lanes, x, start + place, of_image, 0, channels - channel, None)
                                    save_tile(transposed(seen), of_rows, to + place * lanes, lanes)
                            else:
                                of_rows[to : to + span * n * lanes] = 0
                        for place in range(0, span * n * lanes, lanes):
                            seen = load_rows(points_down, of_rows, place, pitch, 0, points_down, None)
                            store_rows(at_points(kh, seen), of_rows, place, pitch, None)
                        evaluate_columns(
                            kw, tc, points_down, points_across, of_rows, pitch, tiles, columns - first, n * lanes,
                            values, part // together * together * positions + part % together, r * tiles * n, 1,
                            together, of_values,
                        )  # fmt: skip
                for each in range(high):
                    f = min(each, filters - 1)
                    for r in range(tiles_down):
                        row = min(tile_row + r * tr, rows - tr)
                        own = tile_row + r * tr - row  # the last tile has rows that another has, too
                        start, length = ((f * rows + row) * columns + first) * n, min(tiles * tc, columns - first) * n
                        for v in range(0, length, lanes):
                            place = min(v, length - lanes)
                            seen = load_rows(tr, dy, start + place, columns * n, own, tr, None)
                            store_rows(slopes_at_points(kh, seen), of_rows, place, pitch, None)
                        to = each * positions + r * tiles * n
                        for c in range(tiles):
                            column = min(tile_column + c * tc, columns - tc)
                            own = tile_column + c * tc - column
                            for v in range(0, n, lanes):
                                image = min(v, n - lanes)
                                for i in range(points_down):
                                    at = (column - first) * n + image + i * pitch
                                    seen = load_rows(tc, of_rows, at, n, own, tc, None)
                                    place = to + c * n + image + i * points_across * of_slopes
                                    store_rows(slopes_at_points(kw, seen), slopes, place, of_slopes, None)
                for point in range(points):
                    multiply(
                        height, width, slopes, point * of_slopes, positions, positions, 1, values,
                        point * of_values, positions, sums, point * high * wide, wide, high, wide,
                        tiles_down * tiles * n, True,
                    )  # fmt: skip

    return kernel(gradient)
