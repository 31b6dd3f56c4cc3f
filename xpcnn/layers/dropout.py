"""Dropout."""

from __future__ import annotations

from xpcnn.backend import Array, ArrayModule
from xpcnn.layers.base import Arrays, Backward, Context, Layer
from xpcnn.ops.dropout import dropout
from xpcnn.random import MaskKey
from xpcnn.registry import check_float


class Dropout(Layer):
    """Set each value to 0 with probability ``rate`` while training and scale the others by 1 / (1 - rate).

    Does nothing in prediction (inverted dropout; Srivastava et al., 2014). The mask is keyed by the fit's seed, the
    step and the sample's position in the batch, so it is the same on every backend and however the batch is sharded.

    >>> Dropout(0.2).connect((96,))
    (96,)
    """

    def __init__(self, rate: float, *, name: str | None = None, xp: ArrayModule | str | None = None) -> None:
        super().__init__(name=name, xp=xp)
        self.rate = check_float("A dropout rate", rate, "[0, 1)")

    def forward(self, params: Arrays, x: Array, context: Context) -> tuple[Array, Backward]:
        """Mask and scale while training."""
        if not context.training or self.rate == 0:
            return x, lambda dy, gradients: dy
        y, backward = dropout(context.xp, x, 1.0 - self.rate, lambda: self._key(context), context.workspace)
        return y, lambda dy, gradients: backward(dy)

    def _key(self, context: Context) -> MaskKey:
        return MaskKey(context.seed, context.step, self.number, context.first_row)
