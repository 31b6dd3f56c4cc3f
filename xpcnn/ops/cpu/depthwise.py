"""Depthwise convolutions, one filter for each channel: a row of sums at a time, from images without a border of zeros.

There are few sums for each number read, so what counts is that images are read once and nothing is copied.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from xpcnn.backend import Array
from xpcnn.ops.cpu import vector
from xpcnn.ops.cpu.bounds import Bounds, unbounded
from xpcnn.ops.cpu.compiler import VECTOR_BYTES, compiled, flat, kernel, lanes
from xpcnn.ops.cpu.tile import add_outer, add_products, add_sums, filled, write_rows, zeros
from xpcnn.ops.cpu.windows import cells_inside, sizes, windows_reaching
from xpcnn.ops.window import Pair, Window
from xpcnn.ops.workspace import Workspace

#: Vectors whose sums are in registers at once.
VECTORS = 4
_FIRST = np.zeros(1, np.int64)


def suits(x: Array, weight: Array, window: Window, groups: int, output: Pair) -> bool:
    """Whether each channel has one filter, and images fill vectors where columns are skipped."""
    return groups == len(weight) == x.shape[1] and (window.strides[1] == 1 or len(x) >= lanes(x.dtype))


def correlate(
    x: Array, weight: Array, bias: Array | None, y: Array, window: Window, bounds: Bounds, workspace: Workspace
) -> None:
    """As :func:`xpcnn.ops.cpu.winograd.correlate`."""
    start = workspace.scratch((len(weight),), y.dtype, "bias")
    start[...] = 0 if bias is None else bias
    unrolled = window.kernel if window.kernel in ((3, 3), (5, 5)) else (0, 0)
    _correlation(*unrolled)(flat(x), _filters(weight, workspace), start, flat(y), bounds, _geometry(x, y, window))


def weight_gradient(x: Array, dy: Array, dweight: Array, window: Window, workspace: Workspace) -> None:
    """As :func:`xpcnn.ops.cpu.winograd.weight_gradient`."""
    filters = workspace.scratch(dweight.shape, dweight.dtype, "filters")
    offsets = np.arange(window.kernel[1]) * (window.dilation[1] * len(x))
    sums = workspace.scratch((len(offsets) + lanes(x.dtype),), x.dtype, "sums")
    _weight_gradient(len(offsets))(
        flat(x), flat(dy), filters.reshape(-1), sums, _FIRST, offsets, _geometry(x, dy, window)
    )
    dweight[...] = filters


def input_gradient(dy: Array, weight: Array, dx: Array, window: Window, workspace: Workspace) -> None:
    """As :func:`xpcnn.ops.cpu.winograd.input_gradient`."""
    reach = window.reach
    if window.strides == (1, 1) and reach is not None:
        seen = replace(window, padding=reach)
        correlate(dy, weight[..., ::-1, ::-1], None, dx, seen, unbounded(dx.dtype), workspace)
    else:
        _input_gradient(flat(dy), _filters(weight, workspace), flat(dx), _geometry(dx, dy, window))


def _filters(weight: Array, workspace: Workspace) -> Array:
    filters = workspace.scratch(weight.shape, weight.dtype, "filters")
    filters[...] = weight
    return filters.reshape(-1)


def _geometry(x: Array, y: Array, window: Window) -> tuple[int, ...]:
    return sizes(window, x.shape[1], (x.shape[2], x.shape[3]), (y.shape[2], y.shape[3]), len(x))


@functools.cache
def _correlation(kernel_rows: int, kernel_columns: int) -> Callable[..., None]:
    """Return the kernel for windows of a size, or of any size for (0, 0)."""

    def correlation(x: Any, weight: Any, bias: Any, y: Any, bounds: Any, geometry: Any) -> None:
        channels, height, width, rows, columns, n, kh, kw, sh, sw, dh, dw, top, left = geometry
        kh, kw = kernel_rows or kh, kernel_columns or kw
        steps, lanes = (dh * width * n, dw * n), VECTOR_BYTES // x.itemsize
        first, stop = _whole(columns, kw, sw, dw, left, width)
        for channel in range(channels):
            at, cells = channel * rows * columns * n, channel * kh * kw
            for row in range(rows):
                inside_rows = cells_inside(row * sh - top, dh, kh, height)
                line = (channel * height + row * sh - top) * width * n
                column = 0
                while column < columns:
                    start, whole = line + (column * sw - left) * n, first <= column < stop
                    together = stop - column if whole and sw == 1 else 1  # columns that lie side by side
                    end = at + together * n
                    shift = start - at
                    if whole:
                        while at <= end - VECTORS * lanes:
                            sums = filled(1, VECTORS, bias, channel)
                            for i in range(inside_rows[0], inside_rows[1]):
                                for j in range(kw):
                                    place = at + shift + i * steps[0] + j * steps[1]
                                    sums = add_outer(sums, weight, cells + i * kw + j, 1, x, place, None)
                            write_rows(sums, y, at, 0, 1, bounds, None)
                            at += VECTORS * lanes
                        while at <= end - lanes:
                            sums = filled(1, 1, bias, channel)
                            for i in range(inside_rows[0], inside_rows[1]):
                                for j in range(kw):
                                    place = at + shift + i * steps[0] + j * steps[1]
                                    sums = add_outer(sums, weight, cells + i * kw + j, 1, x, place, None)
                            write_rows(sums, y, at, 0, 1, bounds, None)
                            at += lanes
                    inside_columns = (0, kw) if whole else cells_inside(column * sw - left, dw, kw, width)
                    while at < end:  # windows that are cut, and what does not fill a vector
                        count = min(end - at, lanes)
                        sums = filled(1, 1, bias, channel)
                        for i in range(inside_rows[0], inside_rows[1]):
                            for j in range(inside_columns[0], inside_columns[1]):
                                place = at + shift + i * steps[0] + j * steps[1]
                                sums = add_outer(sums, weight, cells + i * kw + j, 1, x, place, count)
                        write_rows(sums, y, at, 0, 1, bounds, count)
                        at += count
                    column += together

    return kernel(correlation)


@functools.cache
def _weight_gradient(kernel_columns: int) -> Callable[..., None]:
    """Return the kernel for filters with a number of columns, whose sums stay in registers."""

    def weight_gradient(x: Any, dy: Any, dweight: Any, sums: Any, planes: Any, offsets: Any, geometry: Any) -> None:
        channels, height, width, rows, columns, n, kh, kw, sh, sw, dh, dw, top, left = geometry
        lanes, (first, stop) = VECTOR_BYTES // x.itemsize, _whole(columns, kw, sw, dw, left, width)
        for channel in range(channels):
            for i in range(kh):
                of_row = zeros(1, kernel_columns, x)
                first_row, stop_row = windows_reaching(i * dh - top, sh, rows, height)
                for row in range(first_row, stop_row):
                    ours = (channel * rows + row) * columns * n
                    theirs = ((channel * height + row * sh - top + i * dh) * width - left) * n
                    at, place, last = ours + first * n, theirs + first * sw * n, ours + stop * n
                    run = last - at if sw == 1 else n  # what lies side by side
                    while at < last:
                        end = at + run
                        while at <= end - lanes:
                            of_row = add_products(of_row, dy, at, planes, 0, x, place, offsets, 0, None)
                            at += lanes
                            place += lanes
                        if at < end:
                            of_row = add_products(of_row, dy, at, planes, 0, x, place, offsets, 0, end - at)
                            place += end - at
                            at = end
                        place += (sw - 1) * n
                sums[:] = 0
                add_sums(of_row, sums, 0)
                for j in range(kw):  # windows that are cut
                    of_cell = zeros(1, 1, x)
                    first_column, stop_column = windows_reaching(j * dw - left, sw, columns, width)
                    for row in range(first_row, stop_row):
                        ours = (channel * rows + row) * columns * n
                        theirs = ((channel * height + row * sh - top + i * dh) * width + j * dw - left) * n
                        column = first_column
                        while column < stop_column:
                            if column == first and first < stop:
                                column = stop
                                continue
                            for image in range(0, n, lanes):
                                at, place = ours + column * n + image, theirs + column * sw * n + image
                                count = min(n - image, lanes)
                                of_cell = add_products(of_cell, dy, at, planes, 0, x, place, planes, 0, count)
                            column += 1
                    dweight[(channel * kh + i) * kw + j] = sums[j] + vector.sum_of(of_cell)

    return kernel(weight_gradient)


@kernel
def _input_gradient(dy: Any, weight: Any, dx: Any, geometry: Any) -> None:
    channels, height, width, rows, columns, n, kh, kw, sh, sw, dh, dw, top, left = geometry
    lanes = VECTOR_BYTES // dx.itemsize
    dx[:] = 0
    for channel in range(channels):
        for row in range(rows):
            ours, inside_rows = (channel * rows + row) * columns * n, cells_inside(row * sh - top, dh, kh, height)
            for i in range(inside_rows[0], inside_rows[1]):
                for j in range(kw):
                    cell = (channel * kh + i) * kw + j
                    theirs = ((channel * height + row * sh - top + i * dh) * width + j * dw - left) * n
                    first, stop = windows_reaching(j * dw - left, sw, columns, width)
                    for column in range(first, stop):
                        at, place = ours + column * n, theirs + column * sw * n
                        end = at + n
                        while at <= end - lanes:
                            sums = add_outer(vector.load(dx, place, None), weight, cell, 1, dy, at, None)
                            vector.store(sums, dx, place, None)
                            at += lanes
                            place += lanes
                        if at < end:
                            sums = add_outer(vector.load(dx, place, end - at), weight, cell, 1, dy, at, end - at)
                            vector.store(sums, dx, place, end - at)


@compiled
def _whole(columns: int, kw: int, sw: int, dw: int, left: int, width: int) -> tuple[int, int]:
    """Return the first column whose window is inside the image, and the one after the last."""
    return (
        windows_reaching(-left, sw, columns, width)[0],
        windows_reaching((kw - 1) * dw - left, sw, columns, width)[1],
    )
