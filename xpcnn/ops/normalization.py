"""Batch statistics, combined from the shards of a batch, and normalisation with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from xpcnn.backend import Array, ArrayModule
from xpcnn.ops.activations import relu as rectified
from xpcnn.ops.dispatch import with_kernels
from xpcnn.ops.pooling import extreme_pool
from xpcnn.ops.window import Window
from xpcnn.ops.workspace import Workspace, channel_blocks, channel_rows

#: input_gradient(sums, count): the input's gradient, given the sums over the whole batch and how many values of each
#: channel it has, or None and 0 where mean and std are not statistics of the batch.
InputGradient = Callable[[Array | None, int], Array]
#: backward(dy, dweight, dbias) writes this shard's gradients of weight and bias, and returns its :func:`gradient_sums`
#: and an input_gradient; with None for the two, nothing is written and there are no sums.
Backward = Callable[[Array, Array | None, Array | None], tuple[Array | None, InputGradient]]


@dataclass(frozen=True)
class Moments:
    """The number of values in each channel, their mean, and the sum of their squared deviations from it."""

    count: int
    mean: Array
    squares: Array

    def __add__(self, other: Moments) -> Moments:
        """Return the combined moments of both sets, without cancellation (Chan, Golub and LeVeque, 1979)."""
        count = self.count + other.count
        distance = other.mean - self.mean
        return Moments(
            count,
            self.mean + distance * (other.count / count),
            self.squares + other.squares + distance * distance * (self.count * other.count / count),
        )


@with_kernels("cuda", "cpu")
def moments(xp: ArrayModule, x: Array, workspace: Workspace) -> Moments:
    """Return the moments of each channel of (n, channels, height, width) or (n, channels)."""
    rows = channel_rows(x)
    count = rows.shape[1]
    mean, squares = workspace.empty((len(rows),), x.dtype), workspace.empty((len(rows),), x.dtype)
    for block in channel_blocks(xp, x):
        rows[block].sum(axis=1, out=mean[block])
        mean[block] *= 1.0 / count
        centred = _centred(xp, rows[block], mean[block], workspace)
        _products(xp, centred, centred, squares[block])
    return Moments(count, mean, squares)


@with_kernels("cuda")
def statistics(
    xp: ArrayModule, total: Moments, running_mean: Array, running_var: Array, momentum: float, epsilon: float
) -> tuple[Array, Array, Array, Array]:
    """Return the mean, sqrt(variance + epsilon), and the running mean and variance moved by ``momentum`` towards them.

    The running variance is unbiased, as in PyTorch. A single value has no unbiased variance, so both then stay as is.
    """
    std = xp.sqrt(total.squares * (1.0 / total.count) + epsilon)
    if total.count == 1:
        return total.mean, std, running_mean * 1.0, running_var * 1.0
    unbiased = total.squares * (1.0 / (total.count - 1))
    return (
        total.mean,
        std,
        running_mean * (1.0 - momentum) + total.mean * momentum,
        running_var * (1.0 - momentum) + unbiased * momentum,
    )


@with_kernels("cuda", "cpu")
def batch_normalization(
    xp: ArrayModule,
    x: Array,
    mean: Array,
    std: Array,
    weight: Array,
    bias: Array,
    workspace: Workspace,
    *,
    pool: Window | None = None,
    relu: bool = False,
    training: bool = True,
) -> tuple[Array, Backward]:
    """Normalise each channel, then max-pool over ``pool`` and apply ReLU, each if given.

    x: (n, channels, height, width) or (n, channels); mean, std, weight and bias: (channels,). Without ``training``,
    pooling keeps nothing for backward.
    """
    y = normalize(xp, x, mean, std, weight, bias, workspace)
    if pool is not None:
        y, pool_backward = extreme_pool(xp, y, pool, workspace, largest=True, training=training)
    if relu:
        y, relu_backward = rectified(xp, y, workspace, y)

    def backward(dy: Array, dweight: Array | None, dbias: Array | None) -> tuple[Array | None, InputGradient]:
        if relu:
            dy = relu_backward(dy)
        if pool is not None:
            dy = pool_backward(dy)
        own = None
        if dweight is not None and dbias is not None:
            own = gradient_sums(xp, dy, x, mean, workspace)
            write_gradients(own, std, dweight, dbias)

        def input_gradient(sums: Array | None, count: int) -> Array:
            if sums is None:
                return xp.multiply(dy, _per_channel(weight / std, dy), out=workspace.like(dy))
            return normalize_backward(xp, dy, x, mean, sums, count, std, weight, workspace)

        return own, input_gradient

    return y, backward


def write_gradients(sums: Array, std: Array, dweight: Array, dbias: Array) -> None:
    """Write the gradients of weight and bias, given the :func:`gradient_sums`."""
    dbias[...] = sums[0]
    dweight[...] = sums[1] / std


def normalize(
    xp: ArrayModule, x: Array, mean: Array, std: Array, weight: Array, bias: Array, workspace: Workspace
) -> Array:
    """Return y = weight (x - mean) / std + bias, channel by channel."""
    y, scale = workspace.like(x), weight / std
    rows, y_rows = channel_rows(x), channel_rows(y)
    for block in channel_blocks(xp, x):
        part = y_rows[block]
        xp.subtract(rows[block], mean[block, None], out=part)
        part *= scale[block, None]
        part += bias[block, None]
    return y


def gradient_sums(xp: ArrayModule, dy: Array, x: Array, mean: Array, workspace: Workspace) -> Array:
    """Return Σ dy and Σ dy (x - mean) of each channel, as one (2, channels) array that is summed over shards."""
    rows, dy_rows = channel_rows(x), channel_rows(dy)
    sums = workspace.empty((2, len(rows)), dy.dtype)
    for block in channel_blocks(xp, x):
        dy_rows[block].sum(axis=1, out=sums[0, block])
        _products(xp, dy_rows[block], _centred(xp, rows[block], mean[block], workspace), sums[1, block])
    return sums


def normalize_backward(
    xp: ArrayModule,
    dy: Array,
    x: Array,
    mean: Array,
    sums: Array,
    count: int,
    std: Array,
    weight: Array,
    workspace: Workspace,
) -> Array:
    """Return the input's gradient (Ioffe and Szegedy, "Batch normalization", 2015, section 3).

    dx = weight / std (dy - Σdy / count - (x - mean) Σ(dy (x - mean)) / (count std²))
    """
    dx, scale = workspace.like(dy), weight / std
    shift, slope = sums[0] * (1.0 / count), sums[1] / (std * std) * (1.0 / count)
    rows, dy_rows, dx_rows = channel_rows(x), channel_rows(dy), channel_rows(dx)
    for block in channel_blocks(xp, x):
        part = _centred(xp, rows[block], mean[block], workspace)
        part *= slope[block, None]
        part += shift[block, None]
        xp.subtract(dy_rows[block], part, out=part)
        xp.multiply(part, scale[block, None], out=dx_rows[block])
    return dx


def _per_channel(vector: Array, x: Array) -> Array:
    """Reshape a vector, one value per channel, so that it broadcasts against ``x``."""
    return vector[:, None, None] if x.ndim == 4 else vector


def _centred(xp: ArrayModule, rows: Array, mean: Array, workspace: Workspace) -> Array:
    """Return each row minus its mean, in scratch memory."""
    return xp.subtract(rows, mean[:, None], out=workspace.scratch(rows.shape, rows.dtype, "centred"))


def _products(xp: ArrayModule, a: Array, b: Array, out: Array) -> None:
    """Write the dot product of each row of ``a`` with the same row of ``b`` into ``out``."""
    xp.matmul(a[:, None, :], b[:, :, None], out=out[:, None, None])
