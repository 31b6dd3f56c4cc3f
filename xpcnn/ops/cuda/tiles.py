"""Convolutions with stride 1, and the gradients of their filters, computed in tiles in shared memory."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from xpcnn.backend import Array, ArrayModule
from xpcnn.ops.cuda.compiler import FITTING_BLOCKS, SHARED_BYTES, ceil_divide, kernel, multiprocessors
from xpcnn.ops.cuda.conv_shape import ConvShape
from xpcnn.ops.window import Pair, Window

#: Kernel sizes whose loops are fully unrolled.
KERNELS = ((3, 3), (5, 5))
#: Fewest images that fill a warp well enough.
FEWEST_IMAGES = 24
#: Warps per block, as BLOCK in weight_gradient_tiles.cu; and most bytes of shared memory per block in convolution, so
#: that several blocks fit a multiprocessor.
WARPS, BYTES = 8, 36 * 1024


def suit(xp: ArrayModule, of: ConvShape, window: Window, spread: Pair, pooled: Pair | None, dtype: Any) -> bool:
    """Return whether a convolution can be done in tiles, and has enough of them to fill the GPU.

    With fewer, the kernel whose threads share the channels is faster.
    """
    share = 0.5 if pooled else 0.75  # as measured on an H100
    return _can(of, window, spread, dtype) and bool(
        math.prod(_grid(of, correlation_cut(of, window, pooled))) >= share * multiprocessors(xp)
    )


def suit_gradient(of: ConvShape, window: Window, dtype: Any) -> bool:
    """Return whether the filter gradient can be summed in tiles, for several channels; one would leave lanes idle."""
    return of.channels > 1 and _can(of, window, (1, 1), dtype)


def _can(of: ConvShape, window: Window, spread: Pair, dtype: Any) -> bool:
    """Return whether windows are one cell apart, and the batch fills warps and can be read four images at a time."""
    in_step = window.strides == window.dilation == spread == (1, 1)
    return in_step and window.kernel in KERNELS and of.n % 4 == 0 and of.n >= FEWEST_IMAGES and dtype == np.float32


def correlate(
    xp: ArrayModule, of: ConvShape, window: Window, activation: str, pooled: Pair | None, *arrays: Array | None
) -> None:
    """Launch ``correlate_tiles`` with x, weight, bias, y and winners."""
    cut = correlation_cut(of, window, pooled)
    _kernel(xp, "correlate_tiles", window, cut)(
        _grid(of, cut), (32, WARPS), *arrays, of.structure(window, activation=activation, pooled=pooled)
    )


def _grid(of: ConvShape, cut: dict[str, int]) -> tuple[int, int, int]:
    """Return the number of blocks for output positions and images, for filters, and for groups."""
    down = ceil_divide(of.rows_and_columns[0], cut["PLACES_DOWN"] * cut["STRIPS_DOWN"])
    right = ceil_divide(of.rows_and_columns[1], cut["PLACES_RIGHT"] * cut["STRIPS_RIGHT"])
    filters = ceil_divide(of.filters, cut["FILTERS"] * cut["FILTER_WARPS"])
    return down * right * ceil_divide(of.n, 32), filters, of.groups


def correlation_cut(of: ConvShape, window: Window, pooled: Pair | None) -> dict[str, int]:
    """Return how a block is divided: what a thread sums, how warps are arranged, and the channels read at once."""
    places = (2, 2) if pooled else (1, 4)
    each = of.filters_at_once
    filter_warps = next(warps for warps in (4, 2, 1) if ceil_divide(of.filters, each) % warps == 0)
    strips = WARPS // filter_warps
    strips_right = 2 if strips == 8 or (strips == 4 and places == (2, 2)) else 1
    rows = places[0] * strips // strips_right + window.kernel[0] - 1
    columns = places[1] * strips_right + window.kernel[1] - 1
    bytes_of_channel = 4 * (rows * columns * 32 + math.prod(window.kernel) * each * filter_warps)
    return {
        "PLACES_DOWN": places[0], "PLACES_RIGHT": places[1], "POOLED": int(pooled is not None),
        "FILTERS": each, "FILTER_WARPS": filter_warps, "STRIPS_DOWN": strips // strips_right,
        "STRIPS_RIGHT": strips_right, "CHANNELS": max(1, min(of.channels, 4, BYTES // bytes_of_channel)),
    }  # fmt: skip


def weight_gradient(xp: ArrayModule, of: ConvShape, window: Window) -> tuple[int, Any]:
    """Return how many parts the sums are cut into, and a function that launches ``weight_gradient_tiles``."""
    cut = gradient_cut(of, window)
    rounds = of.rows_and_columns[0] * ceil_divide(of.rows_and_columns[1], cut["COLUMNS"]) * ceil_divide(of.n, 32)
    blocks = ceil_divide(of.filters, cut["FILTERS"] * cut["FILTER_LANES"])
    blocks *= ceil_divide(of.channels, cut["CHANNEL_LANES"])
    parts = max(1, min(FITTING_BLOCKS * multiprocessors(xp) // (blocks * of.groups), rounds))

    def launch(*arrays: Array | None, step: int) -> None:
        _kernel(xp, "weight_gradient_tiles", window, cut)(
            (parts * blocks, 1, of.groups), (32 * WARPS,), *arrays, of.structure(window), parts, step
        )

    return parts, launch


def gradient_cut(of: ConvShape, window: Window) -> dict[str, int]:
    """Return how a block is divided: the filters of a thread, how lanes are arranged, and the columns read at once."""
    height, width = window.kernel
    each = 8 if height * width <= 9 else 4
    filter_lanes = (32 if of.filters > 16 else 16) // each
    channel_lanes = int(2 ** math.ceil(math.log2(max(8 // filter_lanes, min(8, of.channels)))))

    def fits(columns: int) -> bool:
        cells = channel_lanes * (height * (columns + width - 1) * 32 + 4)
        return bool(4 * (cells + columns * 32 * (each * filter_lanes + 4)) <= SHARED_BYTES)

    columns = next(columns for columns in (8, 4, 2) if fits(columns))
    return {"FILTERS": each, "FILTER_LANES": filter_lanes, "CHANNEL_LANES": channel_lanes, "COLUMNS": columns}


def _kernel(xp: ArrayModule, name: str, window: Window, constants: dict[str, int]) -> Any:
    height, width = window.kernel
    return kernel(xp, name, name, np.float32, KERNEL_HEIGHT=height, KERNEL_WIDTH=width, **constants)
