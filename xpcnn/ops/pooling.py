"""Pooling: the largest, the smallest or the average cell of every window.

All three are separable: first along the columns, then along the rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from xpcnn.backend import Array, ArrayModule
from xpcnn.ops.window import Window, pad, unpad
from xpcnn.ops.workspace import Workspace, channel_blocks, copy_pixels

Backward = Callable[[Array], Array]

ROWS, COLUMNS = 2, 3


def extreme_pool(
    xp: ArrayModule, x: Array, window: Window, workspace: Workspace, *, largest: bool, training: bool = True
) -> tuple[Array, Backward]:
    """Take the largest (or smallest) cell of every window; the border never wins.

    x: (n, channels, height, width). Backward gives the gradient to the first such cell in row order. Without
    ``training`` nothing is kept for backward.
    """
    border = -float("inf") if largest else float("inf")
    padded = pad(xp, x, window.padding, border, workspace)
    # Columns first: of equal cells, that of the first row wins, and in it that of the first column.
    across, across_backward = extreme_along(xp, padded, window, COLUMNS, workspace, largest=largest, training=training)
    y, down_backward = extreme_along(xp, across, window, ROWS, workspace, largest=largest, training=training)
    return y, lambda dy: unpad(across_backward(down_backward(dy)), window.padding, 0.0)


def extreme_along(
    xp: ArrayModule, x: Array, window: Window, axis: int, workspace: Workspace, *, largest: bool, training: bool
) -> tuple[Array, Backward]:
    """Take the extreme cells of windows along one axis, ROWS or COLUMNS, of images that need no padding."""
    cells = window.cells(x, axis)
    apart = axis == COLUMNS and window.strides[1] > 1 and len(cells) > 1
    y = workspace.like(cells[0])
    winners = [workspace.batch_last(y.shape, xp.bool_) for _ in cells[:-1]] if training else []
    for block in channel_blocks(xp, y):
        part = [cell[:, block] for cell in cells]
        if apart:
            part = [_together(xp, cell, workspace, number) for number, cell in enumerate(part)]
        extreme(xp, part, y[:, block], [winner[:, block] for winner in winners], largest=largest)

    def backward(dy: Array) -> Array:
        if not training:
            raise RuntimeError("This pooling ran without training=True, so it has no backward pass.")
        return spread(xp, dy, winners, x.shape, window, axis, workspace)

    return y, backward


def _together(xp: ArrayModule, columns: Array, workspace: Workspace, number: int) -> Array:
    """Copy columns that lie apart in memory, since operations on long stretches are that much faster."""
    copy = workspace.scratch_like(columns, number)
    copy_pixels(xp, copy, columns)
    return copy


def extreme(xp: ArrayModule, cells: list[Array], y: Array, winners: list[Array], *, largest: bool) -> None:
    """Write the largest (or smallest) of several arrays, cell by cell, and for each but the last whether it won.

    The first of equal cells wins, and the last one where no other does. winners: booleans, or nothing in prediction.
    """
    take = xp.maximum if largest else xp.minimum
    if len(cells) == 1:
        y[...] = cells[0]
    for index, cell in enumerate(cells[1:]):
        take(y if index else cells[0], cell, out=y)
    for cell, winner in zip(cells, winners, strict=False):
        xp.equal(cell, y, out=winner)
    taken = winners[0].copy() if len(winners) > 1 else None
    for winner in winners[1:]:
        xp.greater(winner, taken, out=winner)  # of booleans: this one, and none before it
        taken |= winner


def spread(
    xp: ArrayModule,
    dy: Array,
    winners: list[Array],
    shape: tuple[int, ...],
    window: Window,
    axis: int,
    workspace: Workspace,
) -> Array:
    """Give dy to the winners that :func:`extreme` found among the cells of each window along one axis."""
    parts = [xp.multiply(dy, winner, out=workspace.like(dy)) for winner in winners]
    last = dy
    for part in parts:
        last = xp.subtract(last, part, out=workspace.like(dy))
    return place(xp, [*parts, last], shape, window, axis, workspace)


def place(
    xp: ArrayModule, parts: list[Array], shape: tuple[int, ...], window: Window, axis: int, workspace: Workspace
) -> Array:
    """Write a part into each cell of the windows along one axis; cells of several windows add theirs up."""
    dx = workspace.batch_last(shape, parts[0].dtype)
    cells = window.cells(dx, axis)
    disjoint = window.strides[axis - ROWS] >= window.extent[axis - ROWS]
    if not disjoint or sum(cell.size for cell in cells) < dx.size:
        dx[...] = 0
    for cell, part in zip(cells, parts, strict=True):
        if disjoint:
            copy_pixels(xp, cell, part)
        else:
            cell += part
    return dx


def average_pool(xp: ArrayModule, x: Array, window: Window, workspace: Workspace) -> tuple[Array, Backward]:
    """Average every window over the cells that lie inside the image.

    x: (n, channels, height, width). The border is not counted (PyTorch's ``count_include_pad=False``).
    """
    padded = pad(xp, x, window.padding, 0.0, workspace)
    share = 1.0 / _cells_inside(xp, window, x.shape[2:], x.dtype)
    across = _sum_along(padded, window, COLUMNS, workspace)
    y = _sum_along(across, window, ROWS, workspace)
    y *= share

    def backward(dy: Array) -> Array:
        shared = workspace.like(dy)
        xp.multiply(dy, share, out=shared)
        down = place(xp, [shared] * window.kernel[0], across.shape, window, ROWS, workspace)
        return unpad(
            place(xp, [down] * window.kernel[1], padded.shape, window, COLUMNS, workspace), window.padding, 0.0
        )

    return y, backward


def _sum_along(x: Array, window: Window, axis: int, workspace: Workspace) -> Array:
    """Add up the cells of windows along one axis."""
    first, *others = window.cells(x, axis)
    y = workspace.like(first)
    y[...] = first
    for cell in others:
        y += cell
    return y


def _cells_inside(xp: ArrayModule, window: Window, shape: tuple[int, int], dtype: Any) -> Array | float:
    """Number of cells of each window inside the image: (rows, columns), or one number where nothing is padded."""
    if not window.is_padded:
        return float(window.kernel[0] * window.kernel[1])
    counts = []
    for n, k, s, (before, _), out in zip(
        shape, window.kernel, window.strides, window.padding, window.output_size(*shape), strict=True
    ):
        first = xp.arange(out) * s - before
        counts.append((xp.minimum(first + k, n) - xp.maximum(first, 0)).astype(dtype))
    return counts[0][:, None] * counts[1][None, :]


def global_average_pool(xp: ArrayModule, x: Array, workspace: Workspace) -> tuple[Array, Backward]:
    """Average each channel of each image: (n, channels, height, width) to (n, channels)."""
    n, channels, height, width = x.shape
    y = workspace.batch_last((n, channels), x.dtype)
    cells = x.transpose(1, 2, 3, 0).reshape(channels, height * width, n)
    cells.sum(axis=1, out=y.T)
    y *= 1.0 / (height * width)

    def backward(dy: Array) -> Array:
        dx = workspace.batch_last(x.shape, dy.dtype)
        dx[...] = (dy * (1.0 / (height * width)))[:, :, None, None]
        return dx

    return y, backward


def global_max_pool(xp: ArrayModule, x: Array, workspace: Workspace) -> tuple[Array, Backward]:
    """Take the largest cell of each channel of each image: (n, channels, height, width) to (n, channels)."""
    n, channels, height, width = x.shape
    cells = x.reshape(n, channels, height * width)
    y = cells.max(axis=2)

    def backward(dy: Array) -> Array:
        won = xp.arange(height * width) == cells.argmax(axis=2)[:, :, None]
        dx = workspace.batch_last(x.shape, dy.dtype)
        dx[...] = (won * dy[:, :, None]).reshape(x.shape)
        return dx

    return y, backward
