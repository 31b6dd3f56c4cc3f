"""The order of the images in an epoch, and its division into batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpcnn import random


def shuffled(n: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Return the int64 permutation of 0..n-1 for an epoch.

    >>> sorted(shuffled(4, seed=0, epoch=7).tolist())
    [0, 1, 2, 3]
    """
    return random.generator(seed, "shuffle", epoch).permutation(np.arange(n, dtype=np.int64))


def batches(order: NDArray[np.integer[Any]], batch_size: int) -> Iterator[NDArray[np.integer[Any]]]:
    """Divide indices (n,) into batches; the last may be smaller. Raises ValueError for a batch size below 1.

    >>> [batch.tolist() for batch in batches(np.arange(5), 2)]
    [[0, 1], [2, 3], [4]]
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1. Received: batch_size={batch_size!r}.")
    return (order[start : start + batch_size] for start in range(0, len(order), batch_size))
