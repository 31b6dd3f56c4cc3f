"""Upsampling images by repeating cells."""

from __future__ import annotations

from collections.abc import Callable

from xpcnn.backend import Array, ArrayModule
from xpcnn.ops.window import Pair
from xpcnn.ops.workspace import Workspace


def upsample(xp: ArrayModule, x: Array, factor: Pair, workspace: Workspace) -> tuple[Array, Callable[[Array], Array]]:
    """Repeat every cell of (n, channels, height, width) factor[0] times down and factor[1] times across."""
    n, channels, height, width = x.shape
    rows, columns = factor
    cells = [(i, j) for i in range(rows) for j in range(columns)]
    y = workspace.batch_last((n, channels, height * rows, width * columns), x.dtype)
    for i, j in cells:
        y[..., i::rows, j::columns] = x

    def backward(dy: Array) -> Array:
        dx = workspace.batch_last(x.shape, dy.dtype)
        dx[...] = dy[..., ::rows, ::columns]
        for i, j in cells[1:]:
            dx += dy[..., i::rows, j::columns]
        return dx

    return y, backward
