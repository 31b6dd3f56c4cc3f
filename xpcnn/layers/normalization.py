"""Batch normalisation."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from xpcnn import initializers
from xpcnn.backend import Array, ArrayModule
from xpcnn.layers.base import Arrays, BackwardTogether, Context, ForwardTogether, Layer, Meeting
from xpcnn.ops import normalization
from xpcnn.ops.normalization import Moments
from xpcnn.parameters import Shape
from xpcnn.registry import number


class BatchNorm(Layer):
    """Normalise each channel over the batch, then scale and shift: y = weight (x - mean) / sqrt(var + epsilon) + bias.

    Input and output (n, channels, height, width) or (n, channels); weight, bias, running_mean and running_var
    (channels,). Training uses the statistics of the whole batch, however it is cut, and moves the running ones by
    ``momentum`` towards them (the variance unbiased, as PyTorch does); prediction and a frozen layer use the running
    ones (Ioffe and Szegedy, "Batch normalization", 2015).

    >>> BatchNorm().connect((16, 8, 8))
    (16, 8, 8)
    """

    meets = True

    def __init__(
        self,
        momentum: float = 0.1,
        epsilon: float = 1e-5,
        *,
        name: str | None = None,
        xp: ArrayModule | str | None = None,
    ) -> None:
        super().__init__(name=name, xp=xp)
        self.momentum = number("momentum", momentum, "[0, 1]")
        self.epsilon = number("epsilon", epsilon, "(0, inf)")

    def build(self, input_shape: Shape) -> Shape:
        """Declare weight and bias, and the running statistics."""
        if len(input_shape) not in (1, 3):
            raise self.refuse(
                "it takes images, (channels, height, width), or flat input, (channels,)",
                input_shape,
                "Put Reshape or Flatten before it.",
            )
        channels = input_shape[:1]
        self.declare("weight", channels, initializers.Ones())
        self.declare("bias", channels, initializers.Zeros())
        self.declare_buffer("running_mean", channels, initializers.Zeros())
        self.declare_buffer("running_var", channels, initializers.Ones())
        return input_shape

    def forward(self, params: Arrays, x: Array, context: Context) -> ForwardTogether:  # type: ignore[override]
        """Normalise by the whole batch's statistics in training, by the running ones otherwise."""
        xp, workspace = self.xp, context.workspace
        learning = context.training and self.learns
        if learning:
            total: Moments = yield Meeting(normalization.moments(xp, x, workspace), Moments.combine)
            count, mean = total.count, total.mean
            deviation, running_mean, running_var = normalization.statistics(
                xp, total, params["running_mean"], params["running_var"], self.momentum, self.epsilon
            )
            context.buffers[self.name] = {"running_mean": running_mean, "running_var": running_var}
        else:
            count, mean, deviation = 0, params["running_mean"], xp.sqrt(params["running_var"] + self.epsilon)
        y = normalization.normalize(xp, x, mean, deviation, params["weight"], params["bias"], workspace)

        def backward(dy: Array, gradients: Arrays) -> Generator[Meeting, Any, Array]:
            sums = normalization.gradient_sums(xp, dy, x, mean, workspace)
            gradients["bias"][...] = sums[0]
            gradients["weight"][...] = sums[1] / deviation
            if not learning:
                return dy * normalization.per_channel(params["weight"] / deviation, dy)
            total = yield Meeting(sums, xp.add)
            return normalization.normalize_backward(
                xp, dy, x, mean, total, count, deviation, params["weight"], workspace
            )

        together: BackwardTogether = backward
        return y, together
