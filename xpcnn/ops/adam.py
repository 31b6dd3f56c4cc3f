"""The Adam update on flat arrays."""

from __future__ import annotations

from collections.abc import Sequence

from xpcnn.backend import Array, ArrayModule
from xpcnn.ops.dispatch import with_kernels


@with_kernels("cuda", "cpu")
def adam(
    xp: ArrayModule,
    p: Array,
    g: Array,
    mean: Array,
    square: Array,
    scalars: Sequence[Array | float],
    scratch: Array,
    *,
    beta1: float,
    beta2: float,
    decays: bool,
) -> None:
    """Update ``p`` and both moments in place.

    m = beta1 m + g, v = beta2 v + g², p = keep p - rate m / (sqrt(v) + epsilon)

    scalars: rate, epsilon and keep (used only if ``decays``), on a device as one flat array. scratch: an array of the
    size of ``p``.
    """
    rate, epsilon, keep = scalars
    if decays:
        p *= keep
    mean *= beta1
    mean += g
    xp.multiply(g, g, out=scratch)
    square *= beta2
    square += scratch
    step(xp, p, mean, square, rate, epsilon, scratch)


def step(
    xp: ArrayModule, p: Array, mean: Array, square: Array, rate: Array | float, epsilon: Array | float, scratch: Array
) -> None:
    """Subtract rate mean / (sqrt(square) + epsilon) from ``p``."""
    xp.sqrt(square, out=scratch)
    scratch += epsilon
    xp.divide(mean, scratch, out=scratch)
    scratch *= rate
    p -= scratch
