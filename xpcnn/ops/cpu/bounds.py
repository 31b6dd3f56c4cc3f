"""The bounds that an activation sets to what kernels write."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

#: The lowest and the highest number, of the dtype of the results.
Bounds: TypeAlias = tuple[Any, Any]

_BOUNDS = {"linear": (-np.inf, np.inf), "relu": (0.0, np.inf), "relu6": (0.0, 6.0)}


def bounds(activation: str, dtype: np.dtype[Any]) -> Bounds:
    """Return the bounds of "linear", "relu" or "relu6"."""
    low, high = _BOUNDS[activation]
    return dtype.type(low), dtype.type(high)


def unbounded(dtype: np.dtype[Any]) -> Bounds:
    """Return bounds that change nothing."""
    return bounds("linear", dtype)
