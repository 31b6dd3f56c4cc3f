"""Operations on single vectors, of which kernels for pooling are made.

count: how many elements there are, or None where they fill the vector; no others are read or written.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic, models, register_model

from xpcnn.ops.cpu.compiler import VECTOR_BYTES
from xpcnn.ops.cpu.registers import TileType, Writer, given


class NumbersType(types.Type):
    """The type of a vector of small whole numbers, as long as one of floats."""

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        self.vector = ir.VectorType(ir.IntType(8), lanes)
        super().__init__(name=f"Numbers({lanes})")


@register_model(NumbersType)
class _NumbersModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: NumbersType) -> None:
        super().__init__(manager, kind, kind.vector)


@intrinsic(prefer_literal=True)
def load(typing: Any, x: Any, at: Any, count: Any) -> Any:
    """Return the vector x[at:]."""
    vector = TileType(1, 1, x.dtype)

    def write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        w = Writer(vector, context, builder, signature, arguments)
        loaded = w.load(w.pointer(0, arguments[1]), given(signature.args[2], arguments[2]))
        return builder.insert_value(ir.Constant(ir.ArrayType(vector.vector, 1), ir.Undefined), loaded, 0)

    return vector(x, types.int64, _count(count)), write


@intrinsic(prefer_literal=True)
def store(typing: Any, vector: Any, y: Any, at: Any, count: Any) -> Any:
    """Write a vector to y[at:]."""

    def write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        w = Writer(vector, context, builder, signature, arguments)
        value = builder.extract_value(arguments[0], 0)
        w.store(value, w.pointer(1, arguments[2]), given(signature.args[3], arguments[3]))
        return context.get_dummy_value()

    return types.void(vector, y, types.int64, _count(count)), write


@intrinsic(prefer_literal=True)
def load_numbers(typing: Any, numbers: Any, at: Any, x: Any, count: Any) -> Any:
    """Return as many numbers as a vector of ``x`` has lanes, from numbers[at:]."""
    kind = NumbersType(VECTOR_BYTES * 8 // x.dtype.bitwidth)

    def write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        count = given(signature.args[3], arguments[3])
        pointer = _bytes_at(kind, context, builder, signature.args[0], arguments[0], arguments[1])
        if count is None:
            loaded = builder.load(builder.bitcast(pointer, kind.vector.as_pointer()))
            loaded.align = 1
            return loaded
        loaded = ir.Constant(kind.vector, None)
        for lane in range(kind.lanes):
            with builder.if_else(builder.icmp_signed("<", _index(lane), count)) as (then, otherwise):
                with then:
                    one = builder.load(builder.gep(pointer, [_index(lane)]))
                    here = builder.block
                with otherwise:
                    there = builder.block
            value = builder.phi(ir.IntType(8))
            value.add_incoming(one, here)
            value.add_incoming(ir.Constant(ir.IntType(8), 0), there)
            loaded = builder.insert_element(loaded, value, ir.Constant(ir.IntType(32), lane))
        return loaded

    return kind(numbers, types.int64, x, _count(count)), write


@intrinsic(prefer_literal=True)
def store_numbers(typing: Any, vector: Any, numbers: Any, at: Any, count: Any) -> Any:
    """Write them to numbers[at:]."""

    def write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        count = given(signature.args[3], arguments[3])
        pointer = _bytes_at(vector, context, builder, signature.args[1], arguments[1], arguments[2])
        if count is None:
            builder.store(arguments[0], builder.bitcast(pointer, vector.vector.as_pointer())).align = 1
            return context.get_dummy_value()
        for lane in range(vector.lanes):
            with builder.if_then(builder.icmp_signed("<", _index(lane), count)):
                one = builder.extract_element(arguments[0], ir.Constant(ir.IntType(32), lane))
                builder.store(one, builder.gep(pointer, [_index(lane)]))
        return context.get_dummy_value()

    return types.void(vector, numbers, types.int64, _count(count)), write


@intrinsic
def numbers_like(typing: Any, vector: Any, number: Any) -> Any:
    """Return ``number`` as often as a vector has lanes."""
    kind = NumbersType(vector.lanes)

    def write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _spread_number(builder, kind, arguments[1])

    return kind(vector, types.int64), write


@intrinsic
def larger(typing: Any, vector: Any, best: Any) -> Any:
    """Return the larger of each two elements; NaN is larger than any, and of equal ones it is ``best``."""

    def write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        one, other = (builder.extract_value(argument, 0) for argument in arguments)
        chosen = builder.select(_wins(builder, one, other), one, other)
        return builder.insert_value(arguments[1], chosen, 0)

    return vector(vector, vector), write


@intrinsic
def where_larger(typing: Any, vector: Any, best: Any, number: Any, numbers: Any) -> Any:
    """Return the numbers with ``number`` where :func:`larger` takes ``vector``."""

    def write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        one, other = (builder.extract_value(argument, 0) for argument in arguments[:2])
        spread = _spread_number(builder, numbers, arguments[2])
        return builder.select(_wins(builder, one, other), spread, arguments[3])

    return numbers(vector, vector, types.int64, numbers), write


@intrinsic
def where_equal(typing: Any, vector: Any, numbers: Any, number: Any) -> Any:
    """Return the vector with 0 where the numbers are others than ``number``."""

    def write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value = builder.extract_value(arguments[0], 0)
        same = builder.icmp_signed("==", arguments[1], _spread_number(builder, numbers, arguments[2]))
        return builder.insert_value(arguments[0], builder.select(same, value, ir.Constant(value.type, None)), 0)

    return vector(vector, numbers, types.int64), write


@intrinsic
def where_positive(typing: Any, vector: Any, y: Any) -> Any:
    """Return the vector with 0 where y is not above 0."""

    def write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value, y = (builder.extract_value(argument, 0) for argument in arguments)
        zero = ir.Constant(value.type, None)
        return builder.insert_value(arguments[0], builder.select(builder.fcmp_ordered(">", y, zero), value, zero), 0)

    return vector(vector, vector), write


@intrinsic
def not_below_zero(typing: Any, vector: Any) -> Any:
    """Return the vector with 0 where it is below 0; NaN stays."""

    def write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value = builder.extract_value(arguments[0], 0)
        zero = ir.Constant(value.type, None)
        return builder.insert_value(
            arguments[0], builder.select(builder.fcmp_ordered("<", value, zero), zero, value), 0
        )

    return vector(vector), write


@intrinsic
def add(typing: Any, a: Any, b: Any) -> Any:
    """Return a + b."""

    def write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        one, other = (builder.extract_value(argument, 0) for argument in arguments)
        return builder.insert_value(arguments[0], builder.fadd(one, other), 0)

    return a(a, a), write


@intrinsic
def scaled(typing: Any, vector: Any, number: Any) -> Any:
    """Return the vector times a number."""

    def write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        w = Writer(vector, context, builder, signature, arguments)
        product = builder.fmul(builder.extract_value(arguments[0], 0), w.spread(arguments[1]))
        return builder.insert_value(arguments[0], product, 0)

    return vector(vector, vector.dtype), write


@intrinsic
def on_line(typing: Any, x: Any, middle: Any, slope: Any, start: Any) -> Any:
    """Return (x - middle) slope + start."""

    def write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        w = Writer(x, context, builder, signature, arguments)
        middle, slope, start = (w.spread(number) for number in arguments[1:])
        distance = builder.fsub(builder.extract_value(arguments[0], 0), middle)
        return builder.insert_value(arguments[0], w.multiply_add(distance, slope, start), 0)

    return x(x, x.dtype, x.dtype, x.dtype), write


@intrinsic
def sum_of(typing: Any, vector: Any) -> Any:
    """Return the sum of all elements, in order."""

    def write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value, total = builder.extract_value(arguments[0], 0), ir.Constant(vector.element, 0)
        for lane in range(vector.lanes):
            total = builder.fadd(total, builder.extract_element(value, ir.Constant(ir.IntType(32), lane)))
        return total

    return vector.dtype(vector), write


@intrinsic
def negated(typing: Any, vector: Any) -> Any:
    """Return the vector with the other sign."""

    def write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value = builder.extract_value(arguments[0], 0)
        return builder.insert_value(arguments[0], builder.fneg(value), 0)

    return vector(vector), write


def _count(kind: types.Type) -> types.Type:
    return types.none if kind is types.none else types.int64


def _index(value: int) -> ir.Constant:
    return ir.Constant(ir.IntType(64), value)


def _bytes_at(kind: NumbersType, context: Any, builder: Any, array_kind: Any, array: Any, index: Any) -> Any:
    return builder.gep(context.make_array(array_kind)(context, builder, array).data, [index])


def _spread_number(builder: Any, kind: NumbersType, number: Any) -> Any:
    undefined, first = ir.Constant(kind.vector, ir.Undefined), ir.Constant(ir.IntType(32), 0)
    one = builder.insert_element(undefined, builder.trunc(number, ir.IntType(8)), first)
    return builder.shuffle_vector(
        one, undefined, ir.Constant(ir.VectorType(ir.IntType(32), kind.lanes), [0] * kind.lanes)
    )


def _wins(builder: Any, one: Any, other: Any) -> Any:
    larger_or_nan = builder.fcmp_unordered(">", one, other)
    return builder.and_(larger_or_nan, builder.fcmp_ordered("ord", other, other))
