"""Convolutions of each channel by itself, and their gradients, bound by memory: threads read each cell about once."""

from __future__ import annotations

from typing import Any

from xpcnn.backend import Array, ArrayModule
from xpcnn.ops.cuda.compiler import Kernel, ceil_divide, check_size, kernel, many_blocks, many_threads
from xpcnn.ops.cuda.conv_shape import ConvShape
from xpcnn.ops.window import Pair, Window

#: Most cells of an image that a thread holds.
MOST_CELLS = 40
#: The largest window, in cells.
LARGEST = 49
#: Fewest images that fill a memory transaction; of fewer, neighbouring threads have neighbouring columns.
FEWEST_IMAGES = 8
#: Most threads of a block, and most rows that a thread goes down.
THREADS, LONGEST = 256, 16


def suit(of: ConvShape, window: Window) -> bool:
    """Return whether each channel has its own filters, whose windows are small and leave no gaps."""
    (rows, columns), (down, right) = window.extent, window.strides
    return of.groups > 1 and of.channels == 1 and rows * columns <= LARGEST and down <= rows and right <= columns


def correlate(
    xp: ArrayModule,
    of: ConvShape,
    window: Window,
    activation: str,
    x: Array,
    weight: Array,
    bias: Array | None,
    y: Array,
) -> None:
    """Write the correlation of images with filters, with bias and activation."""
    check_size(x, y)
    filters, across = of.groups * of.filters, places(of.n, window)
    length, items = _items(xp, of.n, of.rows_and_columns, across, filters)
    threads = _threads(items)
    _kernel(xp, "depthwise", of, window, x.dtype)(
        (ceil_divide(items, threads), filters), (threads,),
        x, weight, bias, y, of.structure(window, activation=activation), length,
    )  # fmt: skip


def input_gradient(xp: ArrayModule, of: ConvShape, window: Window, dy: Array, weight: Array, dx: Array) -> None:
    """Write the gradient of the images of a correlation."""
    check_size(dy, dx)
    (down, right), ((top, _), (left, _)), (height, width) = window.strides, window.padding, of.size
    strides = (top + height - 1) // down - top // down + 1, (left + width - 1) // right - left // right + 1
    length, items = _items(xp, of.n, strides, ceil_divide(places(of.n, window), right), of.groups)
    threads = _threads(items)
    _kernel(xp, "depthwise_input_gradient", of, window, dy.dtype)(
        (ceil_divide(items, threads), of.groups), (threads,), dy, weight, dx, of.structure(window), length
    )


def weight_gradient(xp: ArrayModule, of: ConvShape, window: Window, dtype: Any) -> tuple[int, Any]:
    """Return how many parts the sums are cut into, and a function that launches ``depthwise_weight_gradient``."""
    filters = of.groups * of.filters
    length, items = _items(xp, of.n, of.rows_and_columns, places(of.n, window), filters)
    threads = _threads(items)
    parts = max(1, min(many_blocks(xp) // filters, ceil_divide(items, threads)))

    def launch(*arrays: Array | None, step: int) -> None:
        _kernel(xp, "depthwise_weight_gradient", of, window, dtype)(
            (parts, filters), (threads,), *arrays, of.structure(window), length, parts, step
        )

    return parts, launch


def places(n: int, window: Window) -> int:
    """Return how many columns of the output a thread has: as many as its cells allow, but one of few images."""
    rows, columns = window.extent
    counts = (4, 2) if n >= FEWEST_IMAGES else ()
    return next((count for count in counts if rows * ((count - 1) * window.strides[1] + columns) <= MOST_CELLS), 1)


def constants(of: ConvShape, window: Window) -> dict[str, int]:
    """Return what the compiler knows: the window, and the columns of a thread."""
    (height, width), (down, right), (dilation_down, dilation_right) = window.kernel, window.strides, window.dilation
    return {
        "KERNEL_HEIGHT": height, "KERNEL_WIDTH": width, "STRIDE_DOWN": down, "STRIDE_RIGHT": right,
        "DILATION_DOWN": dilation_down, "DILATION_RIGHT": dilation_right, "PLACES": places(of.n, window),
        "FILTERS": of.filters,
    }  # fmt: skip


def _items(xp: ArrayModule, n: int, size: Pair, across: int, channels: int) -> tuple[int, int]:
    """Return how many rows a thread goes down, fewer if the GPU would be idle, and how many threads a channel has."""
    rows, strips = size[0], ceil_divide(size[1], across) * n
    length = max(1, min(rows, LONGEST, rows * strips * channels // many_threads(xp)))
    return length, ceil_divide(rows, length) * strips


def _threads(items: int) -> int:
    return min(THREADS, 32 * ceil_divide(items, 32))


def _kernel(xp: ArrayModule, name: str, of: ConvShape, window: Window, dtype: Any) -> Kernel:
    return kernel(xp, "depthwise", name, dtype, **constants(of, window))
