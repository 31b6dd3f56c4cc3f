"""Pooling: the maximum, minimum or average of every window.

All three are separable: first along the columns, then along the rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from xpcnn.backend import Array, ArrayModule
from xpcnn.ops.dispatch import with_kernels
from xpcnn.ops.window import Pair, Window, pad, unpad
from xpcnn.ops.workspace import Workspace, channel_blocks, copy_pixels

Backward = Callable[[Array], Array]

ROWS, COLUMNS = 2, 3


@with_kernels("cuda", "cpu")
def extreme_pool(
    xp: ArrayModule, x: Array, window: Window, workspace: Workspace, *, largest: bool, training: bool = True
) -> tuple[Array, Backward]:
    """Take the largest (or smallest) cell of every window; padding never wins.

    x: (n, channels, height, width). Backward passes the gradient to the first such cell in row-major order. Without
    ``training``, nothing is kept for backward.
    """
    border = -float("inf") if largest else float("inf")
    padded = pad(xp, x, window.padding, border, workspace)
    n, channels, height, width = padded.shape
    rows, columns = window.unpadded.output_size(height, width)
    y = workspace.batch_last((n, channels, rows, columns), x.dtype)
    blocks = [(slice(None), block) for block in channel_blocks(xp, padded)]

    def winners(axis: int, rows_there: int) -> list[Array]:
        count = window.kernel[axis - ROWS] - 1 if training else 0
        return [workspace.batch_last((n, channels, rows_there, columns), xp.bool_) for _ in range(count)]

    def across_columns(block: tuple[slice, slice]) -> Array:
        at_once = padded[block].shape[1]
        return workspace.scratch_batch_last((n, at_once, height, columns), x.dtype, "across")

    # Columns first, so that of equal cells the first one in row-major order wins.
    across_won, down_won = winners(COLUMNS, height), winners(ROWS, rows)
    for block in blocks:
        across = across_columns(block)
        cells = _together(xp, window.cells(padded[block], COLUMNS), window, workspace)
        extreme(xp, cells, across, [won[block] for won in across_won], largest=largest)
        extreme(xp, window.cells(across, ROWS), y[block], [won[block] for won in down_won], largest=largest)

    def backward(dy: Array) -> Array:
        if not training:
            raise RuntimeError("This pooling ran without training=True, so it has no backward pass.")
        dpadded = workspace.like(padded)
        for block in blocks:
            dacross = across_columns(block)
            spread(xp, dy[block], [won[block] for won in down_won], dacross, window, ROWS, workspace)
            spread(xp, dacross, [won[block] for won in across_won], dpadded[block], window, COLUMNS, workspace)
        return unpad(dpadded, window.padding, 0.0)

    return y, backward


def _together(xp: ArrayModule, cells: list[Array], window: Window, workspace: Workspace) -> list[Array]:
    """Copy strided columns to contiguous memory, where the operations that follow are much faster."""
    if window.strides[1] == 1 or len(cells) == 1:
        return cells
    copies = [workspace.scratch_batch_last(cell.shape, cell.dtype, ("cell", i)) for i, cell in enumerate(cells)]
    for copy, cell in zip(copies, cells, strict=True):
        copy_pixels(xp, copy, cell)
    return copies


def extreme(xp: ArrayModule, cells: list[Array], y: Array, winners: list[Array], *, largest: bool) -> None:
    """Write the elementwise maximum (or minimum) of several arrays, and for each but the last where it won.

    Of equal cells the first wins; where no other array won, the last one did. winners: boolean arrays, none in
    prediction.
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
        xp.greater(winner, taken, out=winner)  # on booleans: this one, and none before it
        taken |= winner


def spread(
    xp: ArrayModule, dy: Array, winners: list[Array], dx: Array, window: Window, axis: int, workspace: Workspace
) -> None:
    """Pass dy to the winners that :func:`extreme` found among the cells of each window along one axis."""
    parts, rest = [], dy
    for number, winner in enumerate(winners):
        part = workspace.scratch_batch_last(dy.shape, dy.dtype, ("part", number))
        parts.append(xp.multiply(dy, winner, out=part))
        rest = xp.subtract(rest, part, out=workspace.scratch_batch_last(dy.shape, dy.dtype, ("rest", number)))
    place(xp, [*parts, rest], dx, window, axis)


def place(xp: ArrayModule, parts: list[Array], dx: Array, window: Window, axis: int) -> None:
    """Write one part to each cell of the windows along one axis; a cell in several windows gets the sum."""
    cells = window.cells(dx, axis)
    disjoint = window.strides[axis - ROWS] >= window.extent[axis - ROWS]
    if not disjoint or sum(cell.size for cell in cells) < dx.size:
        dx[...] = 0
    for cell, part in zip(cells, parts, strict=True):
        if disjoint:
            copy_pixels(xp, cell, part)
        else:
            cell += part


def average_pool(xp: ArrayModule, x: Array, window: Window, workspace: Workspace) -> tuple[Array, Backward]:
    """Average every window over the cells inside the image.

    x: (n, channels, height, width). Padding is not counted (PyTorch's ``count_include_pad=False``).
    """
    padded = pad(xp, x, window.padding, 0.0, workspace)
    share = 1.0 / _cells_inside(xp, window, x.shape[2:], x.dtype)
    across = _sum_along(padded, window, COLUMNS, workspace)
    y = _sum_along(across, window, ROWS, workspace)
    y *= share

    def backward(dy: Array) -> Array:
        shared = workspace.like(dy)
        xp.multiply(dy, share, out=shared)
        dacross, dpadded = workspace.like(across), workspace.like(padded)
        place(xp, [shared] * window.kernel[0], dacross, window, ROWS)
        place(xp, [dacross] * window.kernel[1], dpadded, window, COLUMNS)
        return unpad(dpadded, window.padding, 0.0)

    return y, backward


def _sum_along(x: Array, window: Window, axis: int, workspace: Workspace) -> Array:
    """Sum the cells of the windows along one axis."""
    first, *others = window.cells(x, axis)
    y = workspace.like(first)
    y[...] = first
    for cell in others:
        y += cell
    return y


def _cells_inside(xp: ArrayModule, window: Window, shape: tuple[int, int], dtype: Any) -> Array | float:
    """Return how many cells of each window are inside the image: (rows, columns), or a scalar if nothing is padded."""
    if not window.is_padded:
        return float(window.kernel[0] * window.kernel[1])
    counts = []
    for n, k, s, (before, _), out in zip(
        shape, window.kernel, window.strides, window.padding, window.output_size(*shape), strict=True
    ):
        first = xp.arange(out) * s - before
        counts.append((xp.minimum(first + k, n) - xp.maximum(first, 0)).astype(dtype))
    return counts[0][:, None] * counts[1][None, :]


def adaptive_windows(size: int, count: int) -> list[slice]:
    """Return ``count`` windows of nearly equal size over ``size`` rows, which may overlap by one, as in PyTorch.

    >>> adaptive_windows(7, 3)
    [slice(0, 3, None), slice(2, 5, None), slice(4, 7, None)]
    """
    return [slice(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]


def adaptive_average_pool(xp: ArrayModule, x: Array, size: Pair, workspace: Workspace) -> tuple[Array, Backward]:
    """Average (n, channels, height, width) over ``size`` windows of nearly equal size, which may overlap by a cell.

    Window i of m spans the rows from floor(i height / m) to ceil((i + 1) height / m), as in PyTorch.
    """
    rows, columns = (
        [slice(i * n // m, -(-(i + 1) * n // m)) for i in range(m)] for n, m in zip(x.shape[2:], size, strict=True)
    )
    y = workspace.batch_last((*x.shape[:2], *size), x.dtype)
    for i, down in enumerate(rows):
        for j, across in enumerate(columns):
            x[:, :, down, across].mean(axis=(2, 3), out=y[:, :, i, j])

    def backward(dy: Array) -> Array:
        dx = workspace.batch_last(x.shape, dy.dtype)
        dx[...] = 0
        for i, down in enumerate(rows):
            for j, across in enumerate(columns):
                cells = (down.stop - down.start) * (across.stop - across.start)
                dx[:, :, down, across] += (dy[:, :, i, j] * (1.0 / cells))[:, :, None, None]
        return dx

    return y, backward


@with_kernels("cuda")
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
