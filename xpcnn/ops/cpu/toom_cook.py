"""The matrices of Toom and Cook, by which Winograd's convolution saves multiplications.

A filter of r rows gives m output rows from m + r - 1 products instead of m r: the values of polynomials at that many
points, which determine them (Winograd, "Arithmetic complexity of computations", 1980; Lavin and Gray, "Fast algorithms
for convolutional neural networks", CVPR 2016).
"""

from __future__ import annotations

import functools
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from xpcnn.backend import Array

#: Output rows per tile, by the number of filter rows.
TILE = {taps: min(4, 9 - taps) for taps in range(3, 8)}
#: Where polynomials are evaluated, besides infinity: small values, to limit rounding errors.
POINTS = tuple(Fraction(point) for point in ("0", "1", "-1", "2", "-2", "1/2", "-1/2"))


class Transforms(NamedTuple):
    """The matrices in y = outputs (filters w * inputs x), for the rows of y, w and x; * is elementwise."""

    inputs: Array
    filters: Array
    outputs: Array


@functools.cache
def transforms(taps: int, dtype: str) -> Transforms:
    """Return the Toom-Cook matrices for filters with ``taps`` rows.

    >>> inputs, filters, outputs = transforms(3, "float64")
    >>> w, x = np.array([3.0, 1.0, 2.0]), np.array([1.0, 5.0, -2.0, 7.0, 0.0, 1.0])
    >>> (outputs @ ((filters @ w) * (inputs @ x))).round(9).tolist(), np.correlate(x, w).tolist()
    ([4.0, 27.0, 1.0, 23.0], [4.0, 27.0, 1.0, 23.0])
    """
    rows = TILE[taps]
    points = POINTS[: rows + taps - 2]
    inputs, filters = [], []
    for point in points:
        others = [other for other in points if other != point]
        scale = functools.reduce(lambda product, other: product * (point - other), others, Fraction(1))
        inputs.append([*_polynomial(others), Fraction(0)])
        filters.append([point**power / scale for power in range(taps)])
    inputs.append(_polynomial(points))
    filters.append([Fraction(power == taps - 1) for power in range(taps)])
    outputs = [[*(point**power for point in points), Fraction(power == rows - 1)] for power in range(rows)]
    return Transforms(*(np.array(matrix, dtype=np.float64).astype(dtype) for matrix in (inputs, filters, outputs)))


def _polynomial(roots: list[Fraction] | tuple[Fraction, ...]) -> list[Fraction]:
    """Return the coefficients, lowest first, of the product of all (x - root)."""
    coefficients = [Fraction(1)]
    for root in roots:
        times_x, times_root = [Fraction(0), *coefficients], [*(c * root for c in coefficients), Fraction(0)]
        coefficients = [a - b for a, b in zip(times_x, times_root, strict=True)]
    return coefficients
