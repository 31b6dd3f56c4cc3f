"""Layers that only change the shape: Flatten and Reshape."""

from __future__ import annotations

import math

from xpcnn.backend import Array, ArrayModule
from xpcnn.layers.base import Arrays, Backward, Context, Layer
from xpcnn.ops.workspace import Workspace, to_batch_last
from xpcnn.parameters import Shape
from xpcnn.registry import check_int


def _reshaped(x: Array, shape: Shape, workspace: Workspace) -> Array:
    """Return ``x`` as (n, *shape), each sample read in row-major order: a view, where the batch is last in memory."""
    samples = to_batch_last(x, workspace).transpose(*range(1, x.ndim), 0)
    return samples.reshape(*shape, x.shape[0]).transpose(len(shape), *range(len(shape)))


class Reshape(Layer):
    """Reshape each sample to another shape of the same size, in row-major order; one size may be -1, and is inferred.

    >>> Reshape((8, -1)).connect((4, 4, 4))
    (8, 8)
    """

    _shaping = frozenset({"shape"})

    def __init__(self, shape: tuple[int, ...], *, name: str | None = None, xp: ArrayModule | str | None = None) -> None:
        super().__init__(name=name, xp=xp)
        sizes = shape if isinstance(shape, tuple | list) else (shape,)
        self.shape = tuple(-1 if size == -1 else check_int("A size in a shape", size, 1) for size in sizes)
        if self.shape.count(-1) > 1:
            raise ValueError(f"A shape may have at most one -1. Received: {shape!r}.")

    def build(self, input_shape: Shape) -> Shape:
        """Resolve -1 and compare sizes."""
        size, known = math.prod(input_shape), math.prod(s for s in self.shape if s != -1)
        if size % known if -1 in self.shape else size != known:
            raise self.refuse(
                f"{size} values cannot become the shape {self.shape}",
                input_shape,
                f"Choose a shape with {size} values.",
            )
        return tuple(size // known if s == -1 else s for s in self.shape)

    def forward(self, params: Arrays, x: Array, context: Context) -> tuple[Array, Backward]:
        """Reshape; backward reshapes back."""
        workspace = context.workspace

        def backward(dy: Array, gradients: Arrays) -> Array:
            return _reshaped(dy, self.input_shape, workspace)

        return _reshaped(x, self.output_shape, workspace), backward


class Flatten(Reshape):
    """Flatten each sample, in (channel, row, column) order.

    >>> Flatten().connect((10, 9, 9))
    (810,)
    """

    def __init__(self, *, name: str | None = None, xp: ArrayModule | str | None = None) -> None:
        super().__init__((-1,), name=name, xp=xp)
