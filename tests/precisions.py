"""The precisions of tensor cores, from the definitions of their formats: rounding, and how far results may be off."""

import numpy as np

NAMES = ("tf32", "bfloat16")
#: Bits of a float32 that the format lacks, and the largest relative error of rounding to it.
_DROPPED = {"tf32": 13, "bfloat16": 16}
UNIT = {"tf32": 2.0**-11, "bfloat16": 2.0**-8}
#: How far float32 sums of up to some thousand products of rounded operands may be off, relative to their magnitudes.
SUMS = 1e-5


def rounded(array, precision):
    """Return the nearest values of a precision, as float64; ties: away from 0 in tf32, the even one in bfloat16."""
    bits, dropped = np.asarray(array, np.float32).view(np.uint32).astype(np.uint64), _DROPPED[precision]
    half = np.uint64(1 << (dropped - 1))
    bits += half if precision == "tf32" else half - np.uint64(1) + (bits >> np.uint64(dropped) & np.uint64(1))
    bits = bits >> np.uint64(dropped) << np.uint64(dropped)
    return bits.astype(np.uint32).view(np.float32).astype(np.float64)


def assert_close(result, exact, magnitudes, precision):
    """Assert that sums of products of operands, each rounded, are the exact ones to within the rounding.

    magnitudes: the sums of the products' absolute values.
    """
    bound = (2 * UNIT[precision] + UNIT[precision] ** 2 + SUMS) * magnitudes
    assert (np.abs(result - exact) <= bound + 1e-30).all(), f"{(np.abs(result - exact) / (bound + 1e-30)).max()} of it"
