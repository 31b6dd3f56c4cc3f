"""Batch normalisation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from xpcnn import initializers
from xpcnn.backend import Array, ArrayModule
from xpcnn.layers.base import Arrays, Backward, BackwardInTwo, Context, Layer
from xpcnn.ops import normalization
from xpcnn.ops.normalization import Moments
from xpcnn.ops.window import Window
from xpcnn.parameters import Shape
from xpcnn.registry import check_float


class BatchNorm(Layer):
    """Normalise each channel over the batch, then scale and shift: y = weight (x - mean) / sqrt(var + epsilon) + bias.

    Input and output (n, channels, height, width) or (n, channels); weight, bias, running_mean and running_var
    (channels,). Training uses the statistics of the whole batch, however it is sharded, and moves the running ones by
    ``momentum`` towards them (with the unbiased variance, as in PyTorch); prediction and a frozen layer use the running
    ones (Ioffe and Szegedy, "Batch normalization", 2015).

    >>> BatchNorm().connect((16, 8, 8))
    (16, 8, 8)
    """

    reduces_over_batch = True

    def __init__(
        self,
        momentum: float = 0.1,
        epsilon: float = 1e-5,
        *,
        name: str | None = None,
        xp: ArrayModule | str | None = None,
    ) -> None:
        super().__init__(name=name, xp=xp)
        self.momentum = check_float("momentum", momentum, "[0, 1]")
        self.epsilon = check_float("epsilon", epsilon, "(0, inf)")

    def build(self, input_shape: Shape) -> Shape:
        """Declare the weight, the bias and the running statistics."""
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

    def local_sums(self, params: Arrays, x: Array, context: Context) -> Moments:
        """Return the moments of this shard's channels, which are combined over the batch."""
        return normalization.moments(context.xp, x, context.workspace)

    def forward(
        self,
        params: Arrays,
        x: Array,
        context: Context,
        total: Moments | None = None,
        *,
        pool: Window | None = None,
        relu: bool = False,
    ) -> tuple[Array, Backward | BackwardInTwo]:
        """Normalise with ``total``, the moments of the whole batch, or if it is None, with the running statistics.

        Optionally fused with max pooling over ``pool`` and ReLU.
        """
        xp, running_mean, running_var = context.xp, params["running_mean"], params["running_var"]
        if total is None:
            mean, std = running_mean, xp.sqrt(running_var + self.epsilon)
        else:
            mean, std, running_mean, running_var = normalization.statistics(
                xp, total, running_mean, running_var, self.momentum, self.epsilon
            )
            context.buffers[self.name] = {"running_mean": running_mean, "running_var": running_var}
        y, backward = normalization.batch_normalization(
            xp, x, mean, std, params["weight"], params["bias"], context.workspace,
            pool=pool, relu=relu, training=context.backward,
        )  # fmt: skip
        if total is None:  # as in prediction, where samples are independent

            def at_once(dy: Array, gradients: Arrays) -> Array:
                own = (gradients["weight"], gradients["bias"]) if self.trainable else (None, None)
                return backward(dy, *own)[1](None, 0)

            return y, at_once

        def in_two(dy: Array, gradients: Arrays) -> tuple[Any, Callable[[Any], Array]]:
            sums, input_gradient = backward(dy, gradients["weight"], gradients["bias"])
            return sums, lambda sums: input_gradient(sums, total.count)

        return y, in_two
