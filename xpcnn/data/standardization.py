"""Mean and deviation of features or of channels, measured on a training set and taken out of every other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Numbers looked at together, so that no copy of the whole set in float64 is made.
_BLOCK = 2**20
#: A deviation that is a smaller part of the mean comes of rounding in float64.
_ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class Standardization:
    """(x - mean) / deviation, for each feature of rows or for each channel of images, of any range.

    mean, deviation: float64 (features,) or (channels,).

    >>> grey = Standardization.measure(np.array([[0.0, 5.0], [200.0, 5.0]]))
    >>> grey(np.array([[0.0, 5.0], [200.0, 6.0]])).tolist()
    [[-1.0, 0.0], [1.0, 1.0]]
    """

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]

    @classmethod
    def measure(cls, x: NDArray[Any]) -> Standardization:
        """Measure rows (n, features) or images (n, channels, height, width); what is constant has the deviation 1.

        Raises ValueError where values are too large for their squares to be added.
        """
        axes, count = (0, *range(2, x.ndim)), x.size / x.shape[1]
        with np.errstate(over="ignore", invalid="ignore"):
            mean = sum(block.sum(axis=axes) for _, block in _blocks(x)) / count
            centre = _along(mean, x.ndim)
            squares = sum(np.square(block - centre).sum(axis=axes) for _, block in _blocks(x))
            deviation = np.sqrt(squares / count)
        if not np.isfinite(deviation).all():
            raise ValueError(f"The values are too large to be standardised: they reach {np.abs(x).max():g}.")
        varies = deviation > _ROUNDING * np.abs(mean)
        return cls(mean, np.where(varies, deviation, 1.0))

    def __call__(self, x: NDArray[Any]) -> NDArray[np.float32]:
        """Return x standardised, as float32 of the same shape; what float32 cannot hold becomes infinite."""
        result = np.empty(x.shape, np.float32)
        mean, deviation = _along(self.mean, x.ndim), _along(self.deviation, x.ndim)
        with np.errstate(over="ignore"):
            for rows, block in _blocks(x):
                result[rows] = (block - mean) / deviation
        return result


def _blocks(x: NDArray[Any]) -> Any:
    """Yield rows and what they hold, in float64, a block at a time."""
    step = max(1, _BLOCK * len(x) // max(1, x.size))
    for start in range(0, len(x), step):
        rows = slice(start, start + step)
        yield rows, x[rows].astype(np.float64)


def _along(values: NDArray[np.float64], ndim: int) -> NDArray[np.float64]:
    """Return values so that they lie along the second axis of ``ndim``."""
    return values.reshape(-1, *(1,) * (ndim - 2))
