"""The sizes at which BLAS multiplies fastest, and how to cut products down to them."""

from __future__ import annotations

#: OpenBLAS packs the operands of a product before multiplying, unless there are at most 100 x 100 x 100
#: multiplications and, if the right operand is transposed, at most 1,200 results. Products of that size run as fast as
#: large square ones: 107 instead of 73 GFLOP/s for 32 filters of 32x3x3, and 102 instead of 45 for the weight's
#: gradient of 10 filters of 10x5x5 (on one core that reaches 100 on 1024 x 1024).
SMALL_PRODUCT = 10**6
FEW_RESULTS = 1200
#: With at least this many filters, they are cut in two and the columns into fewer parts, which was fastest.
MANY_FILTERS = 32


def small_products(filters: int, depth: int, width: int, n: int) -> tuple[int, int]:
    """Return how many parts to cut the filters and the columns into so that each product is small; 1, 1 if none fit."""
    halves = 2 if filters >= MANY_FILTERS and filters % 2 == 0 else 1
    small = (
        parts
        for parts in range(1, width + 1)
        if width % parts == 0 and filters * depth * width * n <= SMALL_PRODUCT * halves * parts
    )
    parts = next(small, 0)
    return (halves, parts) if parts else (1, 1)


def few_results(depth: int, filters: int) -> int:
    """Return how many parts to cut the rows of the im2col matrix into so that each product with dy has few results."""
    few = (n for n in range(1, depth) if depth % n == 0 and depth // n * filters <= FEW_RESULTS)
    return next(few, 1)
