"""Pooling: one pass forward, which notes the winner of each window, and one backward."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from xpcnn.backend import Array, ArrayModule
from xpcnn.ops import pooling as generic
from xpcnn.ops.cpu import vector
from xpcnn.ops.cpu.compiler import VECTOR_BYTES, compiled, flat, kernel, lanes
from xpcnn.ops.cpu.tile import zeros
from xpcnn.ops.cpu.windows import cells_inside, sizes
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
    signs = np.full(x.shape[1], 1 if largest else -1, x.dtype)
    y, winners = pooled(x, window, workspace, signs=signs, relu=False, training=training)
    return y, lambda dy: unpooled(dy, y, winners, window, size, workspace, relu=False)


def fits(window: Window) -> bool:
    """Whether one byte numbers the cells of a window."""
    return window.kernel[0] * window.kernel[1] <= 256


def pooled(
    x: Array, window: Window, workspace: Workspace, *, signs: Array | None = None, relu: bool, training: bool
) -> tuple[Array, Array | None]:
    """Return the largest cell of each window, negative ones as 0 if ``relu``; and which it was.

    signs: for each channel above 0, below 0 for the smallest cell, or 0 for the first.
    """
    x = to_batch_last(x, workspace)
    n, channels, height, width = x.shape
    rows, columns = window.output_size(height, width)
    y = workspace.batch_last((n, channels, rows, columns), x.dtype)
    winners = workspace.batch_last(y.shape, np.uint8) if training else None
    kept = _NOTHING if winners is None else flat(winners)
    signs = np.ones(channels, x.dtype) if signs is None else signs
    geometry = sizes(window, channels, (height, width), (rows, columns), n)
    if winners is None and n <= lanes(x.dtype) // 4:
        _pool_few(flat(x), flat(y), signs, relu, geometry)
    else:
        _pool(*_unrolled(window))(flat(x), flat(y), kept, signs, relu, geometry)
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
    _unpool(*_unrolled(window))(
        flat(dy), flat(y), flat(winners), None, None, flat(dx), sums, relu, once, place,
        sizes(window, channels, size, (rows, columns), n),
    )  # fmt: skip


def unpooled_onto_lines(
    dy: Array, y: Array, winners: Array | None, window: Window, x: Array, lines: Array, workspace: Workspace, *,
    relu: bool,
) -> Array:  # fmt: skip
    """Return scale times the gradient of images x, plus slope (x - middle) + start.

    lines: scale, middle, slope and start of each channel, (channels, 4); see :func:`unpooled`.
    """
    if winners is None:
        raise RuntimeError("This pooling ran without training=True, so it has no backward pass.")
    dx, size, output = workspace.like(x), x.shape[2:], dy.shape[2:]
    n, channels, rows, columns = x.shape
    _unpool(*_unrolled(window))(
        flat(dy), flat(y), flat(winners), flat(x), lines, flat(dx), np.empty(channels, dy.dtype), relu,
        _every_cell_once(window, size, output), (0, columns * n, rows * columns * n),
        sizes(window, channels, size, output, n),
    )  # fmt: skip
    return dx


def _every_cell_once(window: Window, size: Pair, output: Pair) -> bool:
    """Whether each cell of images of a size is in exactly one window."""
    apart = window.kernel == window.strides and window.dilation == (1, 1) and not window.is_padded
    return apart and all(s * o == n for s, o, n in zip(window.strides, output, size, strict=True))


def _unrolled(window: Window) -> Pair:
    """Return a window's size where there are kernels for just that size, which are three times as fast."""
    return window.kernel if window.kernel in ((2, 2), (3, 3)) else (0, 0)


@functools.cache
def _pool(kernel_rows: int, kernel_columns: int) -> Callable[..., None]:
    """Return the kernel for windows of a size, or of any size for (0, 0)."""

    def pool(x: Any, y: Any, winners: Any, signs: Any, relu: bool, geometry: Any) -> None:
        channels, height, width, rows, columns, n, kh, kw, sh, sw, dh, dw, top, left = geometry
        kh, kw = kernel_rows or kh, kernel_columns or kw
        lanes, at, steps, keep = VECTOR_BYTES // x.itemsize, 0, (dh * width * n, dw * n), len(winners) > 0
        for channel in range(channels):
            largest, first_alone = signs[channel] > 0, signs[channel] == 0
            for row in range(rows):
                top_row = row * sh - top
                inside_rows = cells_inside(top_row, dh, kh, height)
                whole_rows = inside_rows == (0, kh) and not first_alone
                if first_alone:
                    inside_rows = inside_rows[0], inside_rows[0] + 1
                for column in range(columns):
                    left_column, image = column * sw - left, 0
                    corner = ((channel * height + top_row) * width + left_column) * n
                    whole = whole_rows and left_column >= 0 and left_column + (kw - 1) * dw < width
                    if whole:
                        while image <= n - lanes:
                            best, winner = _best_of(x, corner + image, steps, (0, kh), (0, kw), kw, largest, None)
                            vector.store(vector.not_below_zero(best) if relu else best, y, at + image, None)
                            if keep:
                                vector.store_numbers(winner, winners, at + image, None)
                            image += lanes
                    inside = (0, kw) if whole else cells_inside(left_column, dw, kw, width)
                    if first_alone:
                        inside = inside[0], inside[0] + 1
                    while image < n:  # windows that are cut, and images that do not fill a vector
                        count = min(n - image, lanes)
                        best, winner = _best_of(x, corner + image, steps, inside_rows, inside, kw, largest, count)
                        vector.store(vector.not_below_zero(best) if relu else best, y, at + image, count)
                        if keep:
                            vector.store_numbers(winner, winners, at + image, count)
                        image += lanes
                    at += n

    return kernel(pool)


@compiled
def _best_of(
    x: Any, corner: int, steps: Any, rows: Any, columns: Any, kw: int, largest: bool, count: int | None
) -> tuple[Any, Any]:
    """Return the largest (or smallest) cells of the windows of a vector, and which they are: the first of equal ones.

    rows, columns: the first cell and the one after the last; steps: how far apart they are.
    """
    best = vector.load(x, corner + rows[0] * steps[0] + columns[0] * steps[1], count)
    best = best if largest else vector.negated(best)
    winner = vector.numbers_like(best, rows[0] * kw + columns[0])
    for i in range(rows[0], rows[1]):
        for j in range(columns[0], columns[1]):
            one = vector.load(x, corner + i * steps[0] + j * steps[1], count)
            one = one if largest else vector.negated(one)
            winner = vector.where_larger(one, best, i * kw + j, winner)
            best = vector.larger(one, best)
    return best if largest else vector.negated(best), winner


@kernel
def _pool_few(x: Any, y: Any, signs: Any, relu: bool, geometry: Any) -> None:
    """As :func:`_pool`, for images that fill little of a vector, without winners: a row at a time, without branches."""
    channels, height, width, rows, columns, n, kh, kw, sh, sw, dh, dw, top, left = geometry
    size = columns * n
    for channel in range(channels):
        sign = x.dtype.type(1 if signs[channel] > 0 else -1)
        for row in range(rows):
            at = (channel * rows + row) * size
            best = y[at : at + size]
            best[:] = -np.inf
            top_row = row * sh - top
            first_i, stop_i = cells_inside(top_row, dh, kh, height)
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


@functools.cache
def _unpool(kernel_rows: int, kernel_columns: int) -> Callable[..., None]:
    """Return the kernel that adds the gradients of windows of a size (any for (0, 0)) to their winners.

    x, lines: None, or what to add besides; relu: only where ReLU let the winner pass; once: every cell is in one
    window.
    """

    def unpool(
        dy: Any, y: Any, winners: Any, x: Any, lines: Any, dx: Any, sums: Any, relu: bool, once: bool, place: Any,
        geometry: Any,
    ) -> None:  # fmt: skip
        first, step, plane = place
        channels, height, width, rows, columns, n, kh, kw, sh, sw, dh, dw, top, left = geometry
        kh, kw = kernel_rows or kh, kernel_columns or kw
        lanes, at, steps = VECTOR_BYTES // dx.itemsize, 0, (dh * step, dw * n)
        for channel in range(channels):
            start, total = first + channel * plane, zeros(1, 1, dx)
            if not once:
                for row in range(height):
                    _begin(dx, start + row * step, width * n, x, lines, channel)
            for row in range(rows):
                top_row = row * sh - top
                inside_rows = cells_inside(top_row, dh, kh, height)
                whole_rows = inside_rows == (0, kh)
                for column in range(columns):
                    left_column, image = column * sw - left, 0
                    corner = start + top_row * step + left_column * n
                    whole = whole_rows and left_column >= 0 and left_column + (kw - 1) * dw < width
                    if whole:
                        while image <= n - lanes:
                            gradient, winner = vector.load(dy, at, None), vector.load_numbers(winners, at, dy, None)
                            if relu:
                                gradient = vector.where_positive(gradient, vector.load(y, at, None))
                            total = vector.add(total, gradient)
                            _hand_out(
                                gradient, winner, x, lines, channel, dx, corner + image, steps, (0, kh), (0, kw), kw,
                                once, None,
                            )  # fmt: skip
                            at += lanes
                            image += lanes
                    inside = (0, kw) if whole else cells_inside(left_column, dw, kw, width)
                    while image < n:
                        count = min(n - image, lanes)
                        gradient, winner = vector.load(dy, at, count), vector.load_numbers(winners, at, dy, count)
                        if relu:
                            gradient = vector.where_positive(gradient, vector.load(y, at, count))
                        total = vector.add(total, gradient)
                        _hand_out(
                            gradient, winner, x, lines, channel, dx, corner + image, steps, inside_rows, inside, kw,
                            once, count,
                        )  # fmt: skip
                        at += count
                        image += lanes
            sums[channel] = vector.sum_of(total)

    return kernel(unpool)


@compiled
def _begin(dx: Any, at: int, length: int, x: Any, lines: Any, channel: int) -> None:
    """Write 0 to a row of dx, or what the line gives."""
    if lines is None:
        dx[at : at + length] = 0
    else:
        _, middle, slope, start = lines[channel]
        for i in range(at, at + length):
            dx[i] = (x[i] - middle) * slope + start


@compiled
def _hand_out(
    gradient: Any, winner: Any, x: Any, lines: Any, channel: int, dx: Any, corner: int, steps: Any, rows: Any,
    columns: Any, kw: int, once: bool, count: int | None,
) -> None:  # fmt: skip
    """Add the gradients of a vector's windows to their winners; arguments as of :func:`_best_of`."""
    if lines is not None:
        scale, middle, slope, start = lines[channel, 0], lines[channel, 1], lines[channel, 2], lines[channel, 3]
        gradient = vector.scaled(gradient, scale)
    for i in range(rows[0], rows[1]):
        for j in range(columns[0], columns[1]):
            cell = corner + i * steps[0] + j * steps[1]
            part = vector.where_equal(gradient, winner, i * kw + j)
            if not once:
                part = vector.add(vector.load(dx, cell, count), part)
            elif lines is not None:
                part = vector.add(part, vector.on_line(vector.load(x, cell, count), middle, slope, start))
            vector.store(part, dx, cell, count)
