"""Where the windows of a pooling or a depthwise convolution lie in flat images."""

from __future__ import annotations

from xpcnn.ops.cpu.compiler import compiled
from xpcnn.ops.window import Pair, Window


def sizes(window: Window, channels: int, size: Pair, output: Pair, n: int) -> tuple[int, ...]:
    """Return the sizes that kernels take: channels, images, output, batch, and the window's own."""
    (kh, kw), (sh, sw), (dh, dw) = window.kernel, window.strides, window.dilation
    (top, _), (left, _) = window.padding
    return channels, *size, *output, n, kh, kw, sh, sw, dh, dw, top, left


@compiled
def cells_inside(first: int, step: int, cells: int, size: int) -> tuple[int, int]:
    """Return the first cell inside the image of a window that begins at ``first``, and the one after the last."""
    return -(first // step) if first < 0 else 0, min(cells, (size - 1 - first) // step + 1)


@compiled
def windows_reaching(offset: int, stride: int, windows: int, size: int) -> tuple[int, int]:
    """Return the first window whose cell at an offset is inside the image, and the one after the last."""
    return max(0, -(offset // stride)), min(windows, (size - 1 - offset) // stride + 1)
