"""Upsampling layer."""

from __future__ import annotations

from xpcnn.backend import Array, ArrayModule
from xpcnn.layers.base import Arrays, Backward, Context, Layer
from xpcnn.ops.resampling import upsample
from xpcnn.ops.window import pair
from xpcnn.parameters import Shape


class Upsample2D(Layer):
    """Nearest-neighbour upsampling: repeat every cell ``size`` times in both directions, or (rows, columns) times.

    >>> Upsample2D((1, 3)).connect((4, 8, 8))
    (4, 8, 24)
    """

    _shaping = frozenset({"size"})

    def __init__(
        self,
        size: int | tuple[int, int] = 2,
        *,
        name: str | None = None,
        xp: ArrayModule | str | None = None,
    ) -> None:
        super().__init__(name=name, xp=xp)
        self.size = pair(size, "size")

    def build(self, input_shape: Shape) -> Shape:
        """Multiply height and width."""
        channels, height, width = self.image_shape(input_shape)
        return channels, height * self.size[0], width * self.size[1]

    def forward(self, params: Arrays, x: Array, context: Context) -> tuple[Array, Backward]:
        """Repeat the cells; backward sums the gradients of each cell's copies."""
        y, backward = upsample(context.xp, x, self.size, context.workspace)
        return y, lambda dy, gradients: backward(dy)
