"""Matrix products with bias and activation, as kernels that CUDA graphs can capture, unlike CuPy's cuBLAS calls."""

from __future__ import annotations

from xpcnn.backend import Array, ArrayModule
from xpcnn.ops.cuda import tensor_products
from xpcnn.ops.cuda.activations import NUMBERS
from xpcnn.ops.cuda.compiler import FITTING_BLOCKS, ceil_divide, check_size, kernel, multiprocessors, structure

#: As in product.cu.
THREADS, DEPTH = 256, 32


def product(
    xp: ArrayModule,
    a: Array,
    b: Array,
    y: Array,
    *,
    bias: Array | None = None,
    activation: str = "linear",
    row_sums: Array | None = None,
) -> None:
    """Write a b into ``y``, with a bias for each row and an activation, and the sums of a's rows into ``row_sums``.

    a: (rows, depth), b: (depth, columns), each transposed in memory or not; y: (rows, columns), contiguous.
    """
    if tensor_products.suit(xp, y.dtype):
        tensor_products.product(xp, a, b, y, bias, activation, row_sums)
        return
    check_size(a, b, y)
    (rows, depth), columns = a.shape, b.shape[1]
    all_columns = columns + (row_sums is not None)
    a_row, a_depth = (step // a.itemsize for step in a.strides)
    b_depth, b_column = (step // b.itemsize for step in b.strides)
    large = ceil_divide(rows, 64) * ceil_divide(columns, 64) * ceil_divide(depth, 4 * DEPTH) >= multiprocessors(xp)
    each = 4 if large else 2
    tiles = ceil_divide(rows, 16 * each) * ceil_divide(all_columns, 16 * each)
    parts = max(1, min(FITTING_BLOCKS * multiprocessors(xp) // tiles, ceil_divide(depth, DEPTH)))
    sums = xp.empty((parts, rows * all_columns), y.dtype) if parts > 1 else None
    of = structure(
        rows=rows, columns=columns, depth=depth, a_row=a_row, a_depth=a_depth, b_depth=b_depth, b_column=b_column,
        activation=NUMBERS[activation],
    )  # fmt: skip
    deep = {"A_DEEP": int(a_depth == 1), "B_DEEP": int(b_depth == 1)}
    kernel(xp, "product", "product", y.dtype, EACH=each, **deep)(
        (tiles * parts,), (THREADS,), a, b, bias, y, row_sums, sums, of, parts
    )
    if sums is not None:
        kernel(xp, "finish_product", "finish_product", y.dtype).for_each(
            sums[0].size, sums, bias, y, row_sums, of, parts
        )
