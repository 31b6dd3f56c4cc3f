"""Steps of Winograd's convolution: filters and images are evaluated at points, where products are summed."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from xpcnn.ops.cpu.compiler import VECTOR_BYTES, compiled, kernel
from xpcnn.ops.cpu.tile import add_outer, add_saved, load_rows, save_tile, store_rows, zeros
from xpcnn.ops.cpu.toom_cook import TILE, at_points, filters_at_points


@functools.partial(compiled, inline="always")
def evaluate_rows(
    taps: int, points: int, x: Any, start: int, length: int, rows: Any, first: int, values: Any, to: int, apart: int,
    count: int,
) -> None:  # fmt: skip
    """Write a row of values for each point, from column ``first`` of an image on, with zeros outside it.

    rows: the first of the rows from ``start`` on that is inside the image, and the one after the last; apart: how far
    apart the points are.
    """
    lanes = VECTOR_BYTES // x.itemsize
    left, right = max(0, -first), min(count, length - first)
    for point in range(points):
        values[to + point * apart : to + point * apart + left] = 0
        values[to + point * apart + right : to + point * apart + count] = 0
    whole = left + (right - left) // lanes * lanes
    for column in range(left, whole, lanes):
        seen = load_rows(points, x, start + first + column, length, rows[0], rows[1], None)
        store_rows(at_points(taps, seen), values, to + column, apart, None)
    if whole < right:
        seen = load_rows(points, x, start + first + whole, length, rows[0], rows[1], right - whole)
        store_rows(at_points(taps, seen), values, to + whole, apart, right - whole)


@functools.partial(compiled, inline="always")
def evaluate_columns(
    taps: int, at_once: int, points_down: int, points_across: int, of_rows: Any, pitch: int, tiles: int, columns: int,
    n: int, values: Any, to: int, number: int, width: int, leap: int, apart: int,
) -> None:  # fmt: skip
    """Write the values at all points, for tiles side by side, from those of rows (points_down, pitch).

    columns: from the first tile to the end of the output; number: of the first vector, of which ``width`` are together
    and ``leap`` elements are between those; apart: how far apart points are.
    """
    lanes = VECTOR_BYTES // values.itemsize
    for tile in range(tiles):
        at = min(tile * at_once, columns - at_once) * n  # the last tile computes some columns again
        for v in range(0, n, lanes):
            image, place = min(v, n - lanes), to + number // width * leap + number % width * lanes
            for i in range(points_down):
                seen = load_rows(points_across, of_rows, at + image + i * pitch, n, 0, points_across, None)
                store_rows(at_points(taps, seen), values, place + i * points_across * apart, apart, None)
            number += 1


@functools.cache
def filters_by_point(height: int, kh: int, kw: int) -> Callable[..., None]:
    """Return the kernel that writes filters of kh x kw by point, each (blocks, channels, ``height`` filters)."""
    points_down, points_across = TILE[kh] + kh - 1, TILE[kw] + kw - 1
    points = points_down * points_across

    def by_points(weight: Any, by_cell: Any, by_point: Any) -> None:
        filters, channels, _, _ = weight.shape
        lanes, size = VECTOR_BYTES // by_cell.itemsize, (filters + height - 1) // height * height * channels
        of_cell, of_point = len(by_cell) // (kh * kw), len(by_point) // points
        for f in range(size // channels):
            for channel in range(channels):
                at = (f // height * channels + channel) * height + f % height
                for i in range(kh):
                    for j in range(kw):
                        by_cell[(i * kw + j) * of_cell + at] = weight[f, channel, i, j] if f < filters else 0
        for v in range(0, size, lanes):
            place = min(v, size - lanes)
            for j in range(kw):
                seen = load_rows(kh, by_cell, place + j * of_cell, kw * of_cell, 0, kh, None)
                store_rows(filters_at_points(kh, seen), by_point, place + j * of_point, kw * of_point, None)
            for i in range(points_down - 1, -1, -1):  # from the last on, so that none is in the way of another
                seen = load_rows(kw, by_point, place + i * kw * of_point, of_point, 0, kw, None)
                store_rows(filters_at_points(kw, seen), by_point, place + i * points_across * of_point, of_point, None)

    return kernel(by_points)


@functools.partial(compiled, inline="always")
def multiply(
    height: int, width: int, a: Any, a_at: int, a_pitch: int, apart: int, step: int, b: Any, b_at: int, b_pitch: int,
    c: Any, c_at: int, c_pitch: int, rows: int, columns: int, depth: int, add: bool,
) -> None:  # fmt: skip
    """Write, or add, the product of two matrices (rows, depth) and (depth, columns), in whole tiles.

    a_pitch: elements of the first for a row; apart, step: from row to row of a tile, and from element to element;
    b_pitch: for a column of the second, which is in blocks (depth, columns of a tile).
    """
    together = width * (VECTOR_BYTES // b.itemsize)
    for row in range(0, rows, height):
        for column in range(0, columns, together):
            total, at, place = zeros(height, width, b), a_at + row * a_pitch, b_at + column * b_pitch
            for _ in range(depth):
                total = add_outer(total, a, at, apart, b, place, None)
                at += step
                place += together
            to = c_at + row * c_pitch + column
            if add:
                total = add_saved(total, c, to, c_pitch)
            save_tile(total, c, to, c_pitch)
