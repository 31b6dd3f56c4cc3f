"""The update of Adam in one pass over memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from xpcnn.backend import Array, ArrayModule
from xpcnn.ops.cpu.compiler import kernel


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
    """As :func:`xpcnn.ops.adam.adam`."""
    rate, epsilon, keep = scalars
    _adam(p, g, mean, square, rate, epsilon, keep if decays else 1.0, beta1, beta2)


@kernel
def _adam(
    p: Any, g: Any, mean: Any, square: Any, rate: float, epsilon: float, keep: float, beta1: float, beta2: float
) -> None:
    number = p.dtype.type
    rate, epsilon, keep, beta1, beta2 = number(rate), number(epsilon), number(keep), number(beta1), number(beta2)
    for i in range(len(p)):
        mean[i] = mean[i] * beta1 + g[i]
        square[i] = square[i] * beta2 + g[i] * g[i]
        p[i] = p[i] * keep - mean[i] / (math.sqrt(square[i]) + epsilon) * rate
