"""A tile of sums in registers, rows times columns of vectors, and the operations on it that kernels are made of.

Numba has no type for vectors, so these few functions write LLVM's own instructions. A tile whose sums all fit the
processor's registers is what makes a convolution as fast as a large matrix product.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from xpcnn.ops.cpu.registers import TileType, Writer, given


@intrinsic(prefer_literal=True)
def filled(typing: Any, rows: Any, columns: Any, values: Any, first: Any) -> Any:
    """Return a tile with values[first + row] in all elements of each row."""
    tile = TileType(rows.literal_value, columns.literal_value, values.dtype)

    def write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        w = Writer(tile, context, builder, signature, arguments)
        sums = ir.Constant(ir.ArrayType(tile.vector, tile.rows * tile.columns), ir.Undefined)
        for row in range(tile.rows):
            value = w.spread(builder.load(w.pointer(2, arguments[3], row)))
            for column in range(tile.columns):
                sums = builder.insert_value(sums, value, row * tile.columns + column)
        return sums

    return tile(rows, columns, values, types.int64), write


@intrinsic(prefer_literal=True)
def zeros(typing: Any, rows: Any, columns: Any, x: Any) -> Any:
    """Return a tile of zeros, of the dtype of x."""
    tile = TileType(rows.literal_value, columns.literal_value, x.dtype)
    return tile(rows, columns, x), lambda *_: ir.Constant(ir.ArrayType(tile.vector, tile.rows * tile.columns), None)


@intrinsic(prefer_literal=True)
def add_outer(typing: Any, tile: Any, weight: Any, at: Any, apart: Any, x: Any, start: Any, count: Any) -> Any:
    """Return the tile with weight[at + row apart] times x[start:] added to each row.

    count: how many elements of x there are from ``start`` on, or None where they fill the tile.
    """

    def write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        w = Writer(tile, context, builder, signature, arguments)
        sums, _, at, apart, _, start, _ = arguments
        count = given(signature.args[6], arguments[6])
        offsets = [column * tile.lanes for column in range(tile.columns)]
        vectors = [w.load(w.pointer(4, start, offset), count, offset) for offset in offsets]
        for row in range(tile.rows):
            place = builder.add(at, builder.mul(apart, w.number(row)))
            factor = w.spread(builder.load(w.pointer(1, place)))
            for column, vector in enumerate(vectors):
                place = row * tile.columns + column
                sums = builder.insert_value(
                    sums, w.multiply_add(factor, vector, builder.extract_value(sums, place)), place
                )
        return sums

    kind = types.none if count is types.none else types.int64
    return tile(tile, weight, types.int64, types.int64, x, types.int64, kind), write


@intrinsic(prefer_literal=True)
def write_rows(typing: Any, tile: Any, y: Any, start: Any, stride: Any, rows: Any, bounds: Any, count: Any) -> Any:
    """Write the first ``rows`` rows to y[start + row stride:], numbers outside of (low, high) as these."""

    def write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        w = Writer(tile, context, builder, signature, arguments)
        sums, _, start, stride, rows, bounds, _ = arguments
        count = given(signature.args[6], arguments[6])
        low, high = builder.extract_value(bounds, 0), builder.extract_value(bounds, 1)
        for row in range(tile.rows):
            with builder.if_then(builder.icmp_signed("<", w.number(row), rows)):
                index = builder.add(start, builder.mul(stride, w.number(row)))
                for column in range(tile.columns):
                    vector = builder.extract_value(sums, row * tile.columns + column)
                    offset = column * tile.lanes
                    w.store(w.between(vector, low, high), w.pointer(1, index, offset), count, offset)
        return context.get_dummy_value()

    kind = types.none if count is types.none else types.int64
    return types.void(tile, y, types.int64, types.int64, types.int64, bounds, kind), write


@intrinsic(prefer_literal=True)
def add_products(
    typing: Any, tile: Any, a: Any, a_at: Any, a_rows: Any, row: Any, b: Any, b_at: Any, b_rows: Any, column: Any,
    count: Any,
) -> Any:  # fmt: skip
    """Return the tile with products of vectors added: of a[a_at + a_rows[row + i]:] and b[b_at + b_rows[column + j]:].

    count: how many elements there are, or None where they fill a vector.
    """

    def write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        w = Writer(tile, context, builder, signature, arguments)
        sums, _, a_at, _, row, _, b_at, _, column, _ = arguments
        count = given(signature.args[9], arguments[9])

        def vector(array: int, at: Any, offsets: int, first: Any, number: int) -> Any:
            offset = builder.load(w.pointer(offsets, first, number))
            return w.load(w.pointer(array, builder.add(at, offset)), count)

        lefts = [vector(1, a_at, 3, row, i) for i in range(tile.rows)]
        for j in range(tile.columns):
            right = vector(5, b_at, 7, column, j)
            for i, left in enumerate(lefts):
                place = i * tile.columns + j
                sums = builder.insert_value(
                    sums, w.multiply_add(left, right, builder.extract_value(sums, place)), place
                )
        return sums

    kind = types.none if count is types.none else types.int64
    index = types.int64
    return tile(tile, a, index, a_rows, index, b, index, b_rows, index, kind), write


@intrinsic
def add_sums(typing: Any, tile: Any, sums: Any, at: Any) -> Any:
    """Add the sum of each of a tile's vectors to sums[at:], and return how many elements they take."""
    size = tile.rows * tile.columns
    whole = -(-size // tile.lanes) * tile.lanes

    def write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        w = Writer(tile, context, builder, signature, arguments)
        vectors = [builder.extract_value(arguments[0], place) for place in range(size)]
        vectors += [ir.Constant(tile.vector, None)] * (whole - size)
        for first in range(0, whole, tile.lanes):
            pointer = w.pointer(1, arguments[2], first)
            w.store(builder.fadd(w.load(pointer), w.sums_of(vectors[first : first + tile.lanes])), pointer)
        return w.number(whole)

    return types.int64(tile, sums, types.int64), write


@intrinsic
def save_tile(typing: Any, tile: Any, values: Any, at: Any, apart: Any) -> Any:
    """Write each row of a tile to values[at + row apart:]."""

    def write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        w = Writer(tile, context, builder, signature, arguments)
        for place, pointer in enumerate(_saved(w, arguments[2:])):
            w.store(builder.extract_value(arguments[0], place), pointer)
        return context.get_dummy_value()

    return types.void(tile, values, types.int64, types.int64), write


@intrinsic
def add_saved(typing: Any, tile: Any, values: Any, at: Any, apart: Any) -> Any:
    """Return a tile plus one that :func:`save_tile` wrote."""

    def write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        w = Writer(tile, context, builder, signature, arguments)
        sums = arguments[0]
        for place, pointer in enumerate(_saved(w, arguments[2:])):
            sums = builder.insert_value(sums, builder.fadd(w.load(pointer), builder.extract_value(sums, place)), place)
        return sums

    return tile(tile, values, types.int64, types.int64), write


@intrinsic
def transposed(typing: Any, tile: Any) -> Any:
    """Return a tile of as many rows as a vector has elements, with rows as columns."""

    def write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        w = Writer(tile, context, builder, signature, arguments)
        result = arguments[0]
        columns = w.transposed([builder.extract_value(result, row) for row in range(tile.rows)])
        for row, vector in enumerate(columns):
            result = builder.insert_value(result, vector, row)
        return result

    return tile(tile), write


@intrinsic(prefer_literal=True)
def load_rows(typing: Any, rows: Any, x: Any, at: Any, step: Any, first: Any, stop: Any, count: Any) -> Any:
    """Return a tile of one vector of each row, x[at + row step:]; those before ``first`` or from ``stop`` on are 0.

    count: how many elements there are, or None where they fill a vector.
    """
    tile = TileType(rows.literal_value, 1, x.dtype)

    def write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        w = Writer(tile, context, builder, signature, arguments)
        _, _, at, step, first, stop, _ = arguments
        count = given(signature.args[6], arguments[6])
        last, zero = builder.sub(stop, w.number(1)), ir.Constant(tile.vector, None)
        result = ir.Constant(ir.ArrayType(tile.vector, tile.rows), ir.Undefined)
        for row in range(tile.rows):
            early = builder.icmp_signed("<", w.number(row), first)
            late = builder.icmp_signed(">", w.number(row), last)
            inside = builder.select(early, first, builder.select(late, last, w.number(row)))
            vector = w.load(w.pointer(1, builder.add(at, builder.mul(step, inside))), count)
            vector = builder.select(builder.or_(early, late), zero, vector)
            result = builder.insert_value(result, vector, row)
        return result

    kind = types.none if count is types.none else types.int64
    return tile(rows, x, *[types.int64] * 4, kind), write


@intrinsic(prefer_literal=True)
def store_rows(typing: Any, tile: Any, y: Any, at: Any, step: Any, count: Any) -> Any:
    """Write one vector of each row to y[at + row step:]; count: as of :func:`load_rows`."""

    def write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        w = Writer(tile, context, builder, signature, arguments)
        sums, _, at, step, _ = arguments
        count = given(signature.args[4], arguments[4])
        for row in range(tile.rows):
            pointer = w.pointer(1, builder.add(at, builder.mul(step, w.number(row))))
            w.store(builder.extract_value(sums, row), pointer, count)
        return context.get_dummy_value()

    kind = types.none if count is types.none else types.int64
    return types.void(tile, y, types.int64, types.int64, kind), write


@intrinsic
def add_number(typing: Any, tile: Any, number: Any, bounds: Any) -> Any:
    """Return the tile plus a number, with results outside of (low, high) as these."""

    def write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        w = Writer(tile, context, builder, signature, arguments)
        sums, number, bounds = arguments
        number = w.spread(number)
        low, high = builder.extract_value(bounds, 0), builder.extract_value(bounds, 1)
        for place in range(tile.rows * tile.columns):
            vector = builder.fadd(builder.extract_value(sums, place), number)
            sums = builder.insert_value(sums, w.between(vector, low, high), place)
        return sums

    return tile(tile, tile.dtype, bounds), write


def _saved(w: Writer, arguments: Any) -> list[Any]:
    """Return where the vectors of a saved tile are in argument 1, given its place and how far apart rows are."""
    at, apart = arguments
    rows = [w.builder.add(at, w.builder.mul(apart, w.number(row))) for row in range(w.tile.rows)]
    return [w.pointer(1, row, column * w.tile.lanes) for row in rows for column in range(w.tile.columns)]
