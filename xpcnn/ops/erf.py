"""The error function, which array modules lack."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from xpcnn.backend import Array, ArrayModule

#: From here on, erf(x) is 1 in double precision.
_END = 6.0
_LOW, _HIGH = 1 / (_END + 2), 1 / 2
#: Enough for errors below 1e-14.
_DEGREE = 24


def erf(xp: ArrayModule, x: Array) -> Array:
    """Return erf(x): by Chebyshev's interpolation of exp(z²) erfc(z), z = min(|x|, 6), which is smooth in 1 / (z + 2).

    After Press, Teukolsky, Vetterling and Flannery, "Numerical recipes", 3rd edition, 2007, section 6.2.2.
    """
    z = xp.clip(xp.abs(x), 0.0, _END)
    place = (2 / (z + 2) - _LOW - _HIGH) / (_HIGH - _LOW)
    *others, first = reversed(_coefficients())
    one = two = xp.zeros_like(z)
    for coefficient in others:  # Clenshaw's recurrence
        one, two = 2 * place * one - two + coefficient, one
    positive = 1 - (place * one - two + first) * xp.exp(-z * z)
    return xp.where(x < 0, -positive, positive)


@functools.cache
def _coefficients() -> tuple[float, ...]:
    """Return the coefficients of the interpolation on -1 to 1."""

    def scaled(places: Any) -> Any:
        zs = (2 / ((_HIGH - _LOW) * places + _LOW + _HIGH) - 2).clip(0, _END)
        return np.array([math.exp(z * z) * math.erfc(z) for z in zs.tolist()])

    return tuple(np.polynomial.chebyshev.chebinterpolate(scaled, _DEGREE).tolist())
