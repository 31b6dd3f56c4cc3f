"""The matrices of Toom and Cook, by which Winograd's convolution saves multiplications.

A filter of r rows gives m output rows from m + r - 1 products instead of m r: the values of polynomials at that many
points, which determine them (Winograd, "Arithmetic complexity of computations", 1980; Lavin and Gray, "Fast algorithms
for convolutional neural networks", CVPR 2016).
"""

from __future__ import annotations

import functools
import itertools
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba.extending import intrinsic

from xpcnn.backend import Array
from xpcnn.ops.cpu.registers import TileType, Writer

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


@intrinsic(prefer_literal=True)
def at_points(typing: Any, taps: Any, rows: Any) -> Any:
    """Return a tile of the values at each point, given one of the rows that a tile of output sees."""
    return _product(transforms(taps.literal_value, "float64").inputs, taps, rows)


@intrinsic(prefer_literal=True)
def filters_at_points(typing: Any, taps: Any, rows: Any) -> Any:
    """Return a tile of the filters' values at each point, given one of their rows."""
    return _product(transforms(taps.literal_value, "float64").filters, taps, rows)


@intrinsic(prefer_literal=True)
def from_points(typing: Any, taps: Any, values: Any) -> Any:
    """Return a tile of the rows of output, given one of the products at each point."""
    return _product(transforms(taps.literal_value, "float64").outputs, taps, values)


@intrinsic(prefer_literal=True)
def slopes_at_points(typing: Any, taps: Any, rows: Any) -> Any:
    """Return a tile of the gradients at each point, given one of its rows: as :func:`from_points`, transposed."""
    return _product(transforms(taps.literal_value, "float64").outputs.T, taps, rows)


def _product(matrix: Array, taps: Any, tile: TileType) -> Any:
    """Return the type of a matrix times a tile, and what writes the instructions."""
    result = TileType(len(matrix), tile.columns, tile.dtype)

    def write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        w = Writer(tile, context, builder, signature, arguments)
        product = ir.Constant(ir.ArrayType(tile.vector, result.rows * tile.columns), ir.Undefined)
        for column in range(tile.columns):
            vectors = [builder.extract_value(arguments[1], row * tile.columns + column) for row in range(tile.rows)]
            for row, total in enumerate(_times(w, matrix, vectors)):
                product = builder.insert_value(product, total, row * tile.columns + column)
        return product

    return result(taps, tile), write


def _times(w: Writer, matrix: Array, vectors: list[Any]) -> list[Any]:
    """Return a matrix times vectors; pairs of columns or rows that differ in signs alone share sums and differences."""
    pair = _alike(matrix.T)
    if pair:
        (i, j), vectors = pair, list(vectors)
        vectors[i], vectors[j] = w.sum_and_difference(vectors[i], vectors[j])
        return _times(w, _halves(matrix.T, i, j).T, vectors)
    pair = _alike(matrix)
    if pair:
        i, j = pair
        totals = _times(w, _halves(matrix, i, j), vectors)
        totals[i], totals[j] = w.sum_and_difference(totals[i], totals[j])
        return totals
    return [w.combination(row.tolist(), vectors) for row in matrix]


def _alike(rows: Array) -> tuple[int, int] | None:
    """Return the first two rows that are long enough and differ in the signs of some elements, not of all."""
    for i, j in itertools.combinations(range(len(rows)), 2):
        one, other = rows[i], rows[j]
        both = abs(one) == abs(other)
        if both.all() and np.count_nonzero(one) > 2 and (one != other).any() and (one != -other).any():
            return i, j
    return None


def _halves(rows: Array, i: int, j: int) -> Array:
    """Return rows with half the sum and half the difference of two in their places."""
    rows = rows.copy()
    rows[i], rows[j] = (rows[i] + rows[j]) / 2, (rows[i] - rows[j]) / 2
    return rows
