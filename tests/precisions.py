"""The precisions of tensor cores, from the definitions of their formats: rounding, and how far results may be off."""

import numpy as np

NAMES = ("tf32", "bfloat16", "float16")
#: Those in which images between layers are stored.
OF_16_BITS = NAMES[1:]
#: Bits of a value, and its smallest magnitude that has them all.
BITS = {"tf32": 11, "bfloat16": 8, "float16": 11}
_NORMAL = {"tf32": 2.0**-126, "bfloat16": 2.0**-126, "float16": 2.0**-14}
#: The largest relative error of rounding to the format.
UNIT = {precision: 2.0**-bits for precision, bits in BITS.items()}
#: How far float32 sums of up to some thousand products of rounded operands may be off, relative to their magnitudes.
SUMS = 1e-5


def rounded(array, precision):
    """Return the nearest values of a precision, as float64; ties: away from 0 in tf32, else the even one."""
    array = np.asarray(array, np.float32)
    if precision == "float16":
        with np.errstate(over="ignore"):
            return array.astype(np.float16).astype(np.float64)
    bits, dropped = array.view(np.uint32).astype(np.uint64), 24 - BITS[precision]
    half = np.uint64(1 << (dropped - 1))
    bits += half if precision == "tf32" else half - np.uint64(1) + (bits >> np.uint64(dropped) & np.uint64(1))
    bits = bits >> np.uint64(dropped) << np.uint64(dropped)
    return bits.astype(np.uint32).view(np.float32).astype(np.float64)


def stored(array, precision):
    """Return the nearest values of a precision as kernels store them, in 16 bits."""
    values = rounded(array, precision).astype(np.float32)
    return values.astype(np.float16) if precision == "float16" else (values.view(np.uint32) >> 16).astype(np.uint16)


def loaded(array, precision):
    """Return the values of an array that kernels have stored in 16 bits."""
    if precision == "float16":
        return array.astype(np.float32)
    return (array.astype(np.uint32) << np.uint32(16)).view(np.float32)


def magnitude(array, precision):
    """Return magnitudes of operands, relative to which rounding is off by at most a unit."""
    return np.where(array == 0, 0, np.maximum(np.abs(array), _NORMAL[precision]))


def assert_close(result, exact, magnitudes, precision):
    """Assert that sums of products of operands, each rounded, are the exact ones to within the rounding.

    magnitudes: the sums of the products of the operands' :func:`magnitude`.
    """
    bound = (2 * UNIT[precision] + UNIT[precision] ** 2 + SUMS) * magnitudes
    assert (np.abs(result - exact) <= bound + 1e-30).all(), f"{(np.abs(result - exact) / (bound + 1e-30)).max()} of it"


def assert_rounded_once(result, exact, precision, kept=0.0):
    """Assert that stored values are the exact ones, computed in float32 and rounded to be stored.

    kept: how much they would change if a stored output that they are computed of were off by itself, at most.
    """
    bound = UNIT[precision] * magnitude(exact, precision) + SUMS * np.abs(exact).max() + UNIT[precision] * kept
    off = np.abs(loaded(result, precision) - exact)
    assert (off <= bound + 1e-30).all(), f"{(off / (bound + 1e-30)).max()} of it"
