"""Matrix products, convolutions and their gradients on tensor cores: one kernel, whose operands are rounded."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from xpcnn.backend import Array, ArrayModule
from xpcnn.ops.cuda.activations import NUMBERS
from xpcnn.ops.cuda.compiler import (
    FITTING_BLOCKS,
    MOST_ELEMENTS,
    ceil_divide,
    check_size,
    kernel,
    multiprocessors,
    stored_name,
    structure,
)
from xpcnn.ops.cuda.conv_shape import ConvShape
from xpcnn.ops.window import Pair, Window
from xpcnn.precision import computed_dtype, precision_of

#: Threads of a block, and depth and columns of its tile, as in tensor_product.cu.
THREADS, DEPTH, COLUMNS = 256, 32, 128
#: How the warps of a block divide its tile, by the tile's rows.
CUTS = {
    16: {"WARPS_DOWN": 1, "EACH_DOWN": 1, "EACH_RIGHT": 2},
    32: {"WARPS_DOWN": 2, "EACH_DOWN": 1, "EACH_RIGHT": 4},
    64: {"WARPS_DOWN": 2, "EACH_DOWN": 2, "EACH_RIGHT": 4},
}
#: Kernel sizes that the compiler knows; that of others is known at run time.
UNROLLED = ((1, 1), (3, 3), (5, 5))
#: What stands for the images of a product that has none.
POINT = Window((1, 1))
NO_IMAGES = ConvShape(1, 1, 1, (1, 1), 1, (1, 1), (0, 0, 0, 0, 0))


def suit(xp: ArrayModule, dtype: Any, groups: int = 1) -> bool:
    """Return whether tensor cores compute it: in another precision than float32, without groups, which are narrow."""
    return precision_of(xp) != "float32" and groups == 1 and computed_dtype(dtype) == np.float32


def cut_of(rows: int, pooled: bool) -> dict[str, int]:
    """Return how a tile is divided, for a product of so many rows; in pooling, a thread has all cells of a window."""
    cuts = [cut for size, cut in CUTS.items() if rows <= size and (not pooled or cut["EACH_RIGHT"] == 4)]
    return (cuts or [CUTS[64]])[0]


def product(
    xp: ArrayModule, a: Array, b: Array, y: Array, bias: Array | None, activation: str, row_sums: Array | None
) -> None:
    """See :func:`xpcnn.ops.cuda.products.product`."""
    a_row, a_depth = (step // a.itemsize for step in a.strides)
    b_depth, b_column = (step // b.itemsize for step in b.strides)
    sides = {"rows": len(a), "columns": b.shape[1], "depth": len(b), "a_row": a_row, "a_depth": a_depth}
    constants = {"SEEN": 0, "A_DEEP": int(a_depth == 1), "B_DEEP": int(b_depth == 1)}
    of = structure(**sides, b_depth=b_depth, b_column=b_column, activation=NUMBERS[activation])
    _launch(xp, of, constants, NO_IMAGES, POINT, (1, 1), a, b, bias, y, row_sums)


def correlate(
    xp: ArrayModule,
    of: ConvShape,
    window: Window,
    spread: Pair,
    activation: str,
    x: Array,
    weight: Array,
    bias: Array | None,
    y: Array,
    winners: Array | None,
    pooled: Pair | None,
) -> None:
    """Write the correlation of images with filters: a product of (filters, elements) and (elements, places).

    winners, pooled: as in :func:`xpcnn.ops.cuda.correlation.correlate`.
    """
    _, a_row, a_depth, _, _ = of.steps
    places, elements = math.prod(pooled or of.rows_and_columns) * of.n, of.channels * math.prod(window.kernel)
    sides = structure(
        rows=of.filters, columns=places, depth=elements, a_row=a_row, a_depth=a_depth, b_depth=0, b_column=0,
        activation=NUMBERS[activation],
    )  # fmt: skip
    constants = {"SEEN": 1, "A_DEEP": int(a_row != 1), "B_DEEP": 0}
    _launch(xp, sides, constants, of, window, spread, weight, x, bias, y, None, winners, pooled)


def weight_gradient(
    xp: ArrayModule, of: ConvShape, window: Window, x: Array, dy: Array, dweight: Array, dbias: Array | None
) -> None:
    """Write the gradients of the filters, a product of (filters, places) and (places, elements), and of the bias."""
    places, elements = math.prod(of.rows_and_columns) * of.n, of.channels * math.prod(window.kernel)
    sides = structure(
        rows=of.filters, columns=elements, depth=places, a_row=places, a_depth=1, b_depth=0, b_column=0, activation=0,
    )  # fmt: skip
    _launch(xp, sides, {"SEEN": 2, "A_DEEP": 1, "B_DEEP": 1}, of, window, (1, 1), dy, x, None, dweight, dbias)


def _launch(
    xp: ArrayModule,
    sides: np.ndarray[Any, Any],
    constants: dict[str, int],
    images: ConvShape,
    window: Window,
    spread: Pair,
    a: Array,
    b: Array,
    bias: Array | None,
    y: Array,
    row_sums: Array | None,
    winners: Array | None = None,
    pooled: Pair | None = None,
) -> None:
    """Launch ``tensor_product`` and, if the depth is cut into parts, the kernel that adds them up."""
    check_size(a, b, y)
    rows, columns, depth = (int(sides[side]) for side in ("rows", "columns", "depth"))
    if pooled:  # four columns are summed for each of y, and eight of those lie together
        columns = 32 * ceil_divide(columns, 8)
        if columns > MOST_ELEMENTS:
            raise ValueError(f"Pooling {columns:,} columns is more than a kernel can index. Use a smaller batch_size.")
    cut = cut_of(rows, pooled is not None)
    tiles = ceil_divide(rows, 16 * cut["EACH_DOWN"] * cut["WARPS_DOWN"]) * ceil_divide(columns, COLUMNS)
    parts = max(1, min(FITTING_BLOCKS * multiprocessors(xp) // tiles, ceil_divide(depth, DEPTH)))
    sums = xp.empty((parts, rows * (columns + (row_sums is not None))), np.float32) if parts > 1 else None
    constants = {**constants, **cut, precision_of(xp).upper(): 1, "SPREAD": int(spread != (1, 1))}
    constants["POOLED"] = int(pooled is not None)
    stored = {"A_STORED": stored_name(a.dtype), "B_STORED": stored_name(b.dtype)}
    if window.kernel in UNROLLED:
        constants |= {"KERNEL_HEIGHT": window.kernel[0], "KERNEL_WIDTH": window.kernel[1]}
    kernel(xp, "tensor_product", "tensor_product", y.dtype, **constants, **stored)(
        (tiles * parts,), (THREADS,), a, b, bias, y, winners, row_sums, sums, sides,
        images.structure(window, spread, pooled=pooled), images.steps[-1], parts,
    )  # fmt: skip
    if sums is not None and pooled:
        kernel(xp, "finish_product", "finish_pooled_product", y.dtype).for_each(
            y.size, sums, bias, y, winners, sides, parts
        )
    elif sums is not None:
        kernel(xp, "finish_product", "finish_product", y.dtype).for_each(
            sums[0].size, sums, bias, y, row_sums, sides, parts
        )
