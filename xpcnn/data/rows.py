"""Some of a set of images, without a copy of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Rows:
    """Some rows of images, which are taken from the whole when they are taken from here.

    images: (n, channels, height, width), any array that takes rows. rows: the indices that belong, int64 (m,).

    >>> some = Rows(np.arange(5), np.array([4, 1, 3]))
    >>> len(some), some[1:].tolist()
    (3, [1, 3])
    """

    images: Any
    rows: NDArray[np.int64]

    @property
    def shape(self) -> tuple[int, ...]:
        """(rows, channels, height, width)."""
        return (len(self.rows), *self.images.shape[1:])

    @property
    def dtype(self) -> Any:
        """That of the images."""
        return self.images.dtype

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: slice | NDArray[np.integer[Any]]) -> NDArray[Any]:
        return np.asarray(self.images[self.rows[rows]])
