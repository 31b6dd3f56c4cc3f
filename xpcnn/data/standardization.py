"""Standardisation of features or channels by the mean and standard deviation of a training set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Numbers processed together, so that the whole set is never copied to float64.
_BLOCK = 2**20
#: A standard deviation that is a smaller fraction of the mean is rounding error in float64.
_ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class Standardization:
    """(x - mean) / std, for each feature of rows or each channel of images, whatever their range.

    mean, std: float64 (features,) or (channels,).

    >>> grey = Standardization.measure(np.array([[0.0, 5.0], [200.0, 5.0]]))
    >>> grey(np.array([[0.0, 5.0], [200.0, 6.0]])).tolist()
    [[-1.0, 0.0], [1.0, 1.0]]
    """

    mean: NDArray[np.float64]
    std: NDArray[np.float64]

    @classmethod
    def measure(cls, x: NDArray[Any]) -> Standardization:
        """Measure rows (n, features) or images (n, channels, height, width); a constant feature gets a ``std`` of 1.

        Raises ValueError if values are so large that the sum of their squares overflows.
        """
        axes, count = (0, *range(2, x.ndim)), x.size / x.shape[1]
        with np.errstate(over="ignore", invalid="ignore"):
            mean = sum(block.sum(axis=axes) for _, block in _blocks(x)) / count
            centre = _along(mean, x.ndim)
            squares = sum(np.square(block - centre).sum(axis=axes) for _, block in _blocks(x))
            std = np.sqrt(squares / count)
        if not np.isfinite(std).all():
            raise ValueError(
                f"The values are too large to be standardised, up to {np.abs(x).max():g}. Scale them down."
            )
        varies = std > _ROUNDING * np.abs(mean)
        return cls(mean, np.where(varies, std, 1.0))

    def __call__(self, x: NDArray[Any]) -> NDArray[np.float32]:
        """Return x standardised, as float32 of the same shape; values beyond float32's range become infinite."""
        result = np.empty(x.shape, np.float32)
        mean, std = _along(self.mean, x.ndim), _along(self.std, x.ndim)
        with np.errstate(over="ignore"):
            for rows, block in _blocks(x):
                result[rows] = (block - mean) / std
        return result


def _blocks(x: NDArray[Any]) -> Any:
    """Yield a slice of rows and their values in float64, a block at a time."""
    block_size = max(1, _BLOCK * len(x) // max(1, x.size))
    for start in range(0, len(x), block_size):
        rows = slice(start, start + block_size)
        yield rows, x[rows].astype(np.float64)


def _along(values: NDArray[np.float64], ndim: int) -> NDArray[np.float64]:
    """Return values reshaped to lie along the second of ``ndim`` axes."""
    return values.reshape(-1, *(1,) * (ndim - 2))
