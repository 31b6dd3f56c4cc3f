"""Dropout."""

from __future__ import annotations

from xpcnn import draws
from xpcnn.backend import Array, ArrayModule, to_device
from xpcnn.layers.base import Arrays, Backward, Context, Layer
from xpcnn.parameters import Shape
from xpcnn.recording import made_each_time
from xpcnn.registry import number


class Dropout(Layer):
    """Set each value to 0 with probability ``rate`` while training and scale the others by 1 / (1 - rate).

    Does nothing in prediction (inverted dropout; Srivastava et al., 2014). The mask is keyed by the fit's seed, the
    step and the sample's place in the batch, so it is the same however the batch is cut and on every backend.

    >>> Dropout(0.2).connect((96,))
    (96,)
    """

    def __init__(self, rate: float, *, name: str | None = None, xp: ArrayModule | str | None = None) -> None:
        super().__init__(name=name, xp=xp)
        self.rate = number("A dropout rate", rate, "[0, 1)")

    def forward(self, params: Arrays, x: Array, context: Context) -> tuple[Array, Backward]:
        """Mask and scale while training."""
        if not context.training or self.rate == 0:
            return x, lambda dy, gradients: dy
        keep = 1.0 - self.rate
        mask = made_each_time(lambda: self._keep_mask(x.shape, keep, context))
        scaled_mask = context.workspace.empty(x.shape, x.dtype)
        self.xp.multiply(mask, 1.0 / keep, out=scaled_mask)

        def backward(dy: Array, gradients: Arrays) -> Array:
            dx = context.workspace.like(dy)
            return self.xp.multiply(dy, scaled_mask, out=dx)

        y = context.workspace.like(x)
        return self.xp.multiply(x, scaled_mask, out=y), backward

    def _keep_mask(self, shape: Shape, keep: float, context: Context) -> Array:
        mask = draws.keep_mask(shape, keep, context.first_row, seed=context.seed, step=context.step, stream=self.number)
        return to_device(self.xp, mask)
