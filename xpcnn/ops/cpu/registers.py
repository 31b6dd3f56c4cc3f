"""Vectors of a processor in Numba, which has no type for them: types, and what writes LLVM's instructions."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import models, register_model

from xpcnn.ops.cpu.compiler import VECTOR_BYTES

_INDEX = ir.IntType(64)


class TileType(types.Type):
    """The type of a tile."""

    def __init__(self, rows: int, columns: int, dtype: types.Float) -> None:
        self.rows, self.columns, self.dtype = rows, columns, dtype
        self.lanes = VECTOR_BYTES * 8 // dtype.bitwidth
        self.element = ir.FloatType() if dtype.bitwidth == 32 else ir.DoubleType()
        self.vector = ir.VectorType(self.element, self.lanes)
        super().__init__(name=f"Tile({rows}, {columns}, {dtype})")


@register_model(TileType)
class _TileModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: TileType) -> None:
        super().__init__(manager, kind, ir.ArrayType(kind.vector, kind.rows * kind.columns))


class Writer:
    """Writes the instructions of one operation on a tile."""

    def __init__(self, tile: TileType, context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> None:
        self.tile, self.builder = tile, builder
        self._context, self._kinds, self.arguments = context, signature.args, arguments

    def number(self, value: int) -> ir.Constant:
        """Return a constant index."""
        return ir.Constant(_INDEX, value)

    def pointer(self, array: int, index: Any, offset: int = 0) -> Any:
        """Return where an element of the argument number ``array`` lies."""
        data = self._context.make_array(self._kinds[array])(self._context, self.builder, self.arguments[array]).data
        return self.builder.gep(data, [self.builder.add(index, self.number(offset))])

    def load(self, pointer: Any, count: Any = None, offset: int = 0) -> Any:
        """Load a vector; with a ``count``, elements from ``count - offset`` on are 0, and their memory is not read."""
        tile, builder = self.tile, self.builder
        pointer = builder.bitcast(pointer, tile.vector.as_pointer())
        if count is None:
            vector = builder.load(pointer)
            vector.align = tile.dtype.bitwidth // 8
            return vector
        mask = self.mask(count, offset)
        kinds = [pointer.type, ir.IntType(32), mask.type, tile.vector]
        name = f"llvm.masked.load.v{tile.lanes}f{tile.dtype.bitwidth}.p0"
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(tile.vector, kinds), name)
        alignment = ir.Constant(ir.IntType(32), tile.dtype.bitwidth // 8)
        return builder.call(function, [pointer, alignment, mask, ir.Constant(tile.vector, None)])

    def store(self, vector: Any, pointer: Any, count: Any = None, offset: int = 0) -> None:
        """Store a vector, or what :meth:`load` would load of it."""
        tile, builder = self.tile, self.builder
        pointer = builder.bitcast(pointer, tile.vector.as_pointer())
        if count is None:
            builder.store(vector, pointer).align = tile.dtype.bitwidth // 8
            return
        mask = self.mask(count, offset)
        kinds = [tile.vector, pointer.type, ir.IntType(32), mask.type]
        name = f"llvm.masked.store.v{tile.lanes}f{tile.dtype.bitwidth}.p0"
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(ir.VoidType(), kinds), name)
        builder.call(function, [vector, pointer, ir.Constant(ir.IntType(32), tile.dtype.bitwidth // 8), mask])

    def mask(self, count: Any, offset: int) -> Any:
        """Return which elements of a vector are below a count, numbered from ``offset`` on."""
        lanes = ir.VectorType(_INDEX, self.tile.lanes)
        numbers = ir.Constant(lanes, list(range(offset, offset + self.tile.lanes)))
        return self.builder.icmp_signed("<", numbers, self.spread_as(count, lanes))

    def spread(self, value: Any) -> Any:
        """Return a vector of one number."""
        return self.spread_as(value, self.tile.vector)

    def spread_as(self, value: Any, vector: ir.VectorType) -> Any:
        """Return a vector of some type with one value in all elements."""
        undefined, first = ir.Constant(vector, ir.Undefined), ir.Constant(ir.IntType(32), 0)
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), [0] * vector.count)
        return self.builder.shuffle_vector(self.builder.insert_element(undefined, value, first), undefined, zeros)

    def multiply_add(self, a: Any, b: Any, total: Any) -> Any:
        """Return a b + total, in one instruction where the processor has it."""
        tile = self.tile
        kind = ir.FunctionType(tile.vector, [tile.vector] * 3)
        name = f"llvm.fmuladd.v{tile.lanes}f{tile.dtype.bitwidth}"
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, kind, name), [a, b, total])

    def sum_and_difference(self, a: Any, b: Any) -> tuple[Any, Any]:
        """Return a + b and a - b."""
        return self.builder.fadd(a, b), self.builder.fsub(a, b)

    def combination(self, factors: list[float], vectors: list[Any]) -> Any:
        """Return the sum of vectors times constant factors, in few instructions where these are 0, 1 or -1."""
        total = None
        for factor, vector in sorted(zip(factors, vectors, strict=True), key=lambda pair: pair[0] != 1):
            constant = ir.Constant(self.tile.element, factor)
            if factor and total is None:
                total = vector if factor == 1 else self.builder.fmul(self.spread(constant), vector)
            elif factor == 1:
                total = self.builder.fadd(total, vector)
            elif factor == -1:
                total = self.builder.fsub(total, vector)
            elif factor:
                total = self.multiply_add(self.spread(constant), vector, total)
        return total

    def transposed(self, vectors: list[Any]) -> list[Any]:
        """Return the columns of a square matrix of vectors."""
        lanes = range(self.tile.lanes)
        step, vectors = self.tile.lanes // 2, list(vectors)
        while step:  # swap the upper right and the lower left quarter of ever smaller squares
            left = [lane + self.tile.lanes - step if lane & step else lane for lane in lanes]
            right = [lane + self.tile.lanes if lane & step else lane + step for lane in lanes]
            for i in lanes:
                if not i & step:
                    a, b = vectors[i], vectors[i + step]
                    vectors[i], vectors[i + step] = self._shuffled(a, b, left), self._shuffled(a, b, right)
            step //= 2
        return vectors

    def sums_of(self, vectors: list[Any]) -> Any:
        """Return a vector of the sums of as many vectors as it has lanes."""
        lanes, each = self.tile.lanes, 1  # a vector holds the sums of ``each`` of the given ones, in turn
        while each < lanes:
            places = [place % (2 * each) for place in range(lanes)]
            evens = [p // (2 * each) * 2 * each + (q if q < each else lanes + q - each) for p, q in enumerate(places)]
            odds = [place + each for place in evens]
            vectors = [
                self.builder.fadd(self._shuffled(a, b, evens), self._shuffled(a, b, odds))
                for a, b in zip(vectors[::2], vectors[1::2], strict=True)
            ]
            each *= 2
        return vectors[0]

    def _shuffled(self, a: Any, b: Any, places: list[int]) -> Any:
        mask = ir.Constant(ir.VectorType(ir.IntType(32), len(places)), places)
        return self.builder.shuffle_vector(a, b, mask)

    def between(self, vector: Any, low: Any, high: Any) -> Any:
        """Return a vector, with numbers below ``low`` or above ``high`` as these; NaN stays."""
        builder, low, high = self.builder, self.spread(low), self.spread(high)
        vector = builder.select(builder.fcmp_ordered("<", vector, low), low, vector)
        return builder.select(builder.fcmp_ordered(">", vector, high), high, vector)


def given(kind: types.Type, argument: Any) -> Any:
    """Return an argument, or None if that is what was passed."""
    return None if kind is types.none else argument
