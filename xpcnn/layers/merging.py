"""Layers with several inputs, which merge the branches of a block: Add, Average, Multiply and Concatenate."""

from __future__ import annotations

from xpcnn.backend import Array
from xpcnn.layers.base import Arrays, Backward, Context, Layer
from xpcnn.ops import merging
from xpcnn.parameters import Shape


class Merge(Layer):
    """Base class of layers that take the outputs of a block's branches."""

    def connect(self, *input_shapes: Shape) -> Shape:
        """Build for the shapes of two or more inputs."""
        if len(input_shapes) < 2:
            raise self.refuse("it takes several inputs", input_shapes[0], "Use it in a block, as Residual uses Add.")
        return super().connect(*input_shapes)


class Add(Merge):
    """Sum of inputs of the same shape, y = x₁ + x₂ + … (as in a residual block; He et al., 2015).

    >>> Add().connect((8, 4, 4), (8, 4, 4))
    (8, 4, 4)
    """

    def build(self, *input_shapes: Shape) -> Shape:
        """Compare the shapes."""
        first, *others = input_shapes
        for shape in others:
            if shape != first:
                raise self.refuse(f"{first} and {shape} cannot be added", first, f"Make every branch return {first}.")
        return first

    def forward(self, params: Arrays, x: tuple[Array, ...], context: Context) -> tuple[Array, Backward]:
        """Add the inputs."""
        y, backward = merging.add(context.xp, x, context.workspace)
        return y, lambda dy, gradients: backward(dy)


class Average(Add):
    """Mean of inputs of the same shape, y = (x₁ + x₂ + …) / count, as of the answers of several networks.

    >>> Average().connect((8,), (8,), (8,))
    (8,)
    """

    def forward(self, params: Arrays, x: tuple[Array, ...], context: Context) -> tuple[Array, Backward]:
        """Average the inputs."""
        y, backward = merging.average(context.xp, x, context.workspace)
        return y, lambda dy, gradients: backward(dy)


class Multiply(Merge):
    """Product of two inputs, y = x₁ x₂; the second may have one value per channel, (channels,) or (channels, 1, 1).

    >>> Multiply().connect((8, 4, 4), (8,))
    (8, 4, 4)
    """

    def build(self, *input_shapes: Shape) -> Shape:
        """Compare the shapes."""
        first, *others = input_shapes
        self.factor_shape = others[0]
        fitting = [first, first[:1], (*first[:1], 1, 1)] if len(first) == 3 else [first]
        if len(others) != 1 or others[0] not in fitting:
            raise self.refuse(
                f"it cannot be multiplied by {', '.join(map(str, others))}",
                first,
                f"Use {' or '.join(map(str, fitting))}.",
            )
        return first

    def forward(self, params: Arrays, x: tuple[Array, ...], context: Context) -> tuple[Array, Backward]:
        """Multiply."""
        y, backward = merging.multiply(context.xp, x[0], x[1], context.workspace)
        return y, lambda dy, gradients: backward(dy)


class Concatenate(Merge):
    """Concatenation of the channels of all inputs, whose other dimensions must be equal.

    >>> Concatenate().connect((8, 4, 4), (2, 4, 4))
    (10, 4, 4)
    """

    def build(self, *input_shapes: Shape) -> Shape:
        """Compare the shapes and add up the channels."""
        first, *others = input_shapes
        for shape in others:
            if shape[1:] != first[1:]:
                raise self.refuse(
                    f"channels of {first} and {shape} cannot be concatenated",
                    first,
                    f"Make every branch return (channels, {', '.join(map(str, first[1:]))}).",
                )
        return (sum(shape[0] for shape in input_shapes), *first[1:])

    def forward(self, params: Arrays, x: tuple[Array, ...], context: Context) -> tuple[Array, Backward]:
        """Concatenate."""
        y, backward = merging.concatenate(context.xp, x, context.workspace)
        return y, lambda dy, gradients: backward(dy)
