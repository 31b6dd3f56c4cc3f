"""The Adam update in one kernel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xpcnn.backend import Array, ArrayModule
from xpcnn.ops.cuda.compiler import check_size, kernel


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
    """See :func:`xpcnn.ops.adam.adam`."""
    check_size(p)
    if isinstance(scalars, tuple):
        scalars = xp.asarray(np.array(scalars, p.dtype))
    kernel(xp, "adam", "adam", p.dtype).for_each(p.size, p, g, mean, square, scalars, beta1, beta2, decays, p.size)
