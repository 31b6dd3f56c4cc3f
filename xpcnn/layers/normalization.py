"""Batch normalisation."""

from __future__ import annotations

from xpcnn import initializers
from xpcnn.backend import Array, ArrayModule
from xpcnn.layers.base import Arrays, Backward, BackwardInTwo, Context, Layer
from xpcnn.ops import normalization
from xpcnn.ops.normalization import Moments
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
        self, params: Arrays, x: Array, context: Context, total: Moments | None = None
    ) -> tuple[Array, Backward | BackwardInTwo]:
        """Normalise with ``total``, the moments of the whole batch, or if it is None, with the running statistics."""
        if total is None:
            return self._by_running_statistics(params, x, context)
        xp, workspace, count, mean = context.xp, context.workspace, total.count, total.mean
        std, running_mean, running_var = normalization.statistics(
            xp, total, params["running_mean"], params["running_var"], self.momentum, self.epsilon
        )
        context.buffers[self.name] = {"running_mean": running_mean, "running_var": running_var}
        y = normalization.normalize(xp, x, mean, std, params["weight"], params["bias"], workspace)

        def local_sums(dy: Array, gradients: Arrays) -> Array:
            sums = normalization.gradient_sums(xp, dy, x, mean, workspace)
            _write_gradients(gradients, sums, std)
            return sums

        def backward(dy: Array, sums: Array) -> Array:
            return normalization.normalize_backward(xp, dy, x, mean, sums, count, std, params["weight"], workspace)

        return y, (local_sums, backward)

    def _by_running_statistics(self, params: Arrays, x: Array, context: Context) -> tuple[Array, Backward]:
        """Normalise as in prediction, where samples are independent."""
        xp, workspace = context.xp, context.workspace
        mean, std = params["running_mean"], xp.sqrt(params["running_var"] + self.epsilon)
        y = normalization.normalize(xp, x, mean, std, params["weight"], params["bias"], workspace)

        def backward(dy: Array, gradients: Arrays) -> Array:
            if self.trainable:  # else nothing reads them
                _write_gradients(gradients, normalization.gradient_sums(xp, dy, x, mean, workspace), std)
            return xp.multiply(dy, normalization.per_channel(params["weight"] / std, dy), out=workspace.like(dy))

        return y, backward


def _write_gradients(gradients: Arrays, sums: Array, std: Array) -> None:
    gradients["bias"][...] = sums[0]
    gradients["weight"][...] = sums[1] / std
