"""Statistics of a batch, gathered from its pieces, and normalisation by them."""

from __future__ import annotations

from dataclasses import dataclass

from xpcnn.backend import Array, ArrayModule
from xpcnn.ops.workspace import Workspace, channel_rows


@dataclass(frozen=True)
class Moments:
    """How many values each channel has, their mean, and the sum of their squared distances from it."""

    count: int
    mean: Array
    squares: Array

    def combine(self, other: Moments) -> Moments:
        """Return the moments of both sets together (Chan, Golub and LeVeque, 1979), which loses no digits."""
        count = self.count + other.count
        distance = other.mean - self.mean
        return Moments(
            count,
            self.mean + distance * (other.count / count),
            self.squares + other.squares + distance * distance * (self.count * other.count / count),
        )


def moments(xp: ArrayModule, x: Array, workspace: Workspace) -> Moments:
    """Return the moments of each channel of (n, channels, height, width) or (n, channels)."""
    rows = channel_rows(x)
    count = rows.shape[1]
    mean = rows.sum(axis=1) * (1.0 / count)
    centred = workspace.scratch(rows.shape, rows.dtype)
    xp.subtract(rows, mean[:, None], out=centred)
    xp.multiply(centred, centred, out=centred)
    return Moments(count, mean, centred.sum(axis=1))


def per_channel(vector: Array, x: Array) -> Array:
    """Shape a vector, one number a channel, so that it broadcasts against ``x``."""
    return vector[:, None, None] if x.ndim == 4 else vector


def normalize(
    xp: ArrayModule, x: Array, mean: Array, deviation: Array, weight: Array, bias: Array, workspace: Workspace
) -> tuple[Array, Array]:
    """Return y = weight (x - mean) / deviation + bias and the centred input x - mean, channel by channel."""
    centred, y = workspace.like(x), workspace.like(x)
    xp.subtract(x, per_channel(mean, x), out=centred)
    xp.multiply(centred, per_channel(weight / deviation, x), out=y)
    y += per_channel(bias, x)
    return y, centred


def gradient_sums(xp: ArrayModule, dy: Array, centred: Array, workspace: Workspace) -> Array:
    """Return Σ dy and Σ dy (x - mean) of each channel, as one (2, channels) array that adds over pieces."""
    rows = channel_rows(dy)
    products = workspace.scratch(rows.shape, rows.dtype)
    xp.multiply(rows, channel_rows(centred), out=products)
    return xp.stack([rows.sum(axis=1), products.sum(axis=1)])


def normalize_backward(
    xp: ArrayModule,
    dy: Array,
    centred: Array,
    sums: Array,
    count: int,
    deviation: Array,
    weight: Array,
    workspace: Workspace,
) -> Array:
    """Return the input's gradient (Ioffe and Szegedy, "Batch normalization", 2015, section 3).

    dx = weight / deviation (dy - Σdy / count - (x - mean) Σ(dy (x - mean)) / (count deviation²))
    """
    dx, shift = workspace.like(dy), workspace.like(dy)
    xp.multiply(centred, per_channel(sums[1] / (deviation * deviation) * (1.0 / count), dy), out=shift)
    shift += per_channel(sums[0] * (1.0 / count), dy)
    xp.subtract(dy, shift, out=dx)
    dx *= per_channel(weight / deviation, dy)
    return dx
