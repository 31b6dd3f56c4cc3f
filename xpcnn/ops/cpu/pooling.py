"""Pooling: one pass forward, which notes the winner of each window, and one backward."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpcnn.backend import Array, ArrayModule
from xpcnn.ops import pooling as generic
from xpcnn.ops.cpu import vector
from xpcnn.ops.cpu.compiler import VECTOR_BYTES, compiled, flat, kernel, lanes
from xpcnn.ops.cpu.tile import zeros
from xpcnn.ops.pooling import Backward
from xpcnn.ops.window import Pair, Window
from xpcnn.ops.workspace import Workspace, to_batch_last

_NOTHING = np.empty(0, np.uint8)


def extreme_pool(
    xp: ArrayModule, x: Array, window: Window, workspace: Workspace, *, largest: bool, training: bool = True
) -> tuple[Array, Backward]:
    """As :func:`xpcnn.ops.pooling.extreme_pool`."""
    if not fits(window):
        plain: Any = generic.extreme_pool
        return plain.__wrapped__(xp, x, window, workspace, largest=largest, training=training)
    size = (x.shape[2], x.shape[3])
    y, winners = pooled(x, window, workspace, largest=largest, relu=False, training=training)
    return y, lambda dy: unpooled(dy, y, winners, window, size, workspace, relu=False)


def fits(window: Window) -> bool:
    """Whether one byte numbers the cells of a window."""
    return window.kernel[0] * window.kernel[1] <= 256


def pooled(
    x: Array, window: Window, workspace: Workspace, *, largest: bool, relu: bool, training: bool
) -> tuple[Array, Array | None]:
    """Return the largest (or smallest) cell of each window, negative ones as 0 if ``relu``; and which it was."""
    x = to_batch_last(x, workspace)
    n, channels, height, width = x.shape
    rows, columns = window.output_size(height, width)
    y = workspace.batch_last((n, channels, rows, columns), x.dtype)
    winners = workspace.batch_last(y.shape, np.uint8) if training else None
    kept = _NOTHING if winners is None else flat(winners)
    geometry = _geometry(window, channels, (height, width), (rows, columns), n)
    if winners is None and n <= lanes(x.dtype) // 4:
        _pool_few(flat(x), flat(y), largest, relu, geometry)
    else:
        _pool(flat(x), flat(y), kept, largest, relu, geometry)
    return y, winners


def unpooled(
    dy: Array, y: Array, winners: Array | None, window: Window, size: Pair, workspace: Workspace, *, relu: bool
) -> Array:
    """Return the gradient of images of a size; raise RuntimeError where no winners were kept."""
    dx = workspace.batch_last((*dy.shape[:2], *size), dy.dtype)
    rows, columns = size
    write_unpooled(dy, y, winners, window, dx, (0, columns * len(dy), rows * columns * len(dy)), size, None, relu=relu)
    return dx


def write_unpooled(
    dy: Array,
    y: Array,
    winners: Array | None,
    window: Window,
    dx: Array,
    place: tuple[int, int, int],
    size: Pair,
    sums: Array | None,
    *,
    relu: bool,
) -> None:
    """Write the gradient of images of a size to dx, and its sum over each channel; see :func:`unpooled`.

    dx: has the batch last, and may be larger; place: where the first element goes, and how far apart are its rows and
    its channels.
    """
    if winners is None:
        raise RuntimeError("This pooling ran without training=True, so it has no backward pass.")
    n, channels, rows, columns = dy.shape
    once = _every_cell_once(window, size, (rows, columns))
    sums = np.empty(channels, dy.dtype) if sums is None else sums
    _unpool(
        flat(dy), flat(y), flat(winners), flat(dx), sums, relu, once, place,
        _geometry(window, channels, size, (rows, columns), n),
    )  # fmt: skip


def _every_cell_once(window: Window, size: Pair, output: Pair) -> bool:
    """Whether each cell of images of a size is in exactly one window."""
    apart = window.kernel == window.strides and window.dilation == (1, 1) and not window.is_padded
    return apart and all(s * o == n for s, o, n in zip(window.strides, output, size, strict=True))


def _geometry(window: Window, channels: int, size: Pair, output: Pair, n: int) -> tuple[int, ...]:
    (kh, kw), (sh, sw), (dh, dw) = window.kernel, window.strides, window.dilation
    (top, _), (left, _) = window.padding
    return channels, *size, *output, n, kh, kw, sh, sw, dh, dw, top, left


@kernel
def _pool(x: Any, y: Any, winners: Any, largest: bool, relu: bool, geometry: Any) -> None:
    """Write the largest (or smallest) cell of each window, and which it is: the first of equal ones."""
    channels, height, width, rows, columns, n, kh, kw, sh, sw, dh, dw, top, left = geometry
    lanes, keep, at = VECTOR_BYTES // x.itemsize, len(winners) > 0, 0
    for channel in range(channels):
        for row in range(rows):
            top_row, first_i, stop_i = _inside(row * sh - top, dh, kh, height)
            for column in range(columns):
                left_column, first_j, stop_j = _inside(column * sw - left, dw, kw, width)
                for image in range(0, n, lanes):
                    count = n - image
                    corner = ((channel * height + top_row) * width + left_column) * n + image
                    start = corner + (first_i * dh * width + first_j * dw) * n
                    best = vector.load(x, start, None) if count >= lanes else vector.load(x, start, count)
                    best = best if largest else vector.negated(best)
                    winner = vector.numbers_like(best, first_i * kw + first_j)
                    for i in range(first_i, stop_i):
                        for j in range(first_j, stop_j):
                            cell = corner + (i * dh * width + j * dw) * n
                            one = vector.load(x, cell, None) if count >= lanes else vector.load(x, cell, count)
                            one = one if largest else vector.negated(one)
                            winner = vector.where_larger(one, best, i * kw + j, winner)
                            best = vector.larger(one, best)
                    best = best if largest else vector.negated(best)
                    best = vector.not_below_zero(best) if relu else best
                    if count >= lanes:
                        vector.store(best, y, at, None)
                        if keep:
                            vector.store_numbers(winner, winners, at, None)
                        at += lanes
                    else:
                        vector.store(best, y, at, count)
                        if keep:
                            vector.store_numbers(winner, winners, at, count)
                        at += count


@kernel
def _pool_few(x: Any, y: Any, largest: bool, relu: bool, geometry: Any) -> None:
    """As :func:`_pool`, for images that fill little of a vector, without winners: a row at a time, without branches."""
    channels, height, width, rows, columns, n, kh, kw, sh, sw, dh, dw, top, left = geometry
    size, sign = columns * n, x.dtype.type(1 if largest else -1)
    for channel in range(channels):
        for row in range(rows):
            at = (channel * rows + row) * size
            best = y[at : at + size]
            best[:] = -np.inf
            top_row, first_i, stop_i = _inside(row * sh - top, dh, kh, height)
            for i in range(first_i, stop_i):
                start = (channel * height + top_row + i * dh) * width
                for j in range(kw):
                    offset = j * dw - left
                    first, stop = max(0, -(offset // sw)), min(columns, (width - 1 - offset) // sw + 1)
                    for image in range(n):
                        for column in range(first, stop):
                            k = column * n + image
                            one, other = sign * x[(start + column * sw + offset) * n + image], best[k]
                            wins = ((one > other) | (one != one)) & (other == other)  # `and` would branch
                            best[k] = one if wins else other
            for k in range(size):
                best[k] = 0 if relu and sign * best[k] < 0 else sign * best[k]


@kernel
def _unpool(
    dy: Any, y: Any, winners: Any, dx: Any, sums: Any, relu: bool, once: bool, place: Any, geometry: Any
) -> None:
    """Add the gradient of each window to its winner, where ReLU let it pass; once: every cell is in one window."""
    first, step, plane = place
    channels, height, width, rows, columns, n, kh, kw, sh, sw, dh, dw, top, left = geometry
    lanes, at = VECTOR_BYTES // dx.itemsize, 0
    for channel in range(channels):
        start, total = first + channel * plane, zeros(1, 1, dx)
        if not once:
            for row in range(height):
                dx[start + row * step : start + row * step + width * n] = 0
        for row in range(rows):
            top_row, first_i, stop_i = _inside(row * sh - top, dh, kh, height)
            for column in range(columns):
                left_column, first_j, stop_j = _inside(column * sw - left, dw, kw, width)
                for image in range(0, n, lanes):
                    count = min(n - image, lanes)
                    corner = start + top_row * step + left_column * n + image
                    if count == lanes:
                        gradient, winner = vector.load(dy, at, None), vector.load_numbers(winners, at, dy, None)
                        if relu:
                            gradient = vector.where_positive(gradient, vector.load(y, at, None))
                    else:
                        gradient, winner = vector.load(dy, at, count), vector.load_numbers(winners, at, dy, count)
                        if relu:
                            gradient = vector.where_positive(gradient, vector.load(y, at, count))
                    total = vector.add(total, gradient)
                    at += count
                    for i in range(first_i, stop_i):
                        for j in range(first_j, stop_j):
                            cell = corner + i * dh * step + j * dw * n
                            part = vector.where_equal(gradient, winner, i * kw + j)
                            if count == lanes:
                                part = part if once else vector.add(vector.load(dx, cell, None), part)
                                vector.store(part, dx, cell, None)
                            else:
                                part = part if once else vector.add(vector.load(dx, cell, count), part)
                                vector.store(part, dx, cell, count)
        sums[channel] = vector.sum_of(total)


@compiled
def _inside(first: int, step: int, cells: int, size: int) -> tuple[int, int, int]:
    """Return where a window begins, and its first cell inside the image and the one after the last."""
    return first, -(first // step) if first < 0 else 0, min(cells, (size - 1 - first) // step + 1)
