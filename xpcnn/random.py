"""Random draws, each keyed by (seed, purpose, indices), so that there is no generator state to save or lose.

The same key gives the same numbers, whatever was drawn before, on any thread and in any order.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

#: The possible purposes of a draw; the position in this list is part of the key, so new ones go at the end.
PURPOSES = ("weights", "shuffle", "split", "augmentation", "dropout", "sample", "groups", "folds", "tune", "bootstrap")


def check_seed(seed: int) -> int:
    """Return ``seed`` as an int, or raise ValueError if it is not an integer from 0 to 2**64 - 1."""
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**64:
        raise ValueError(f"A seed must be an integer from 0 to 2**64 - 1. Received: {seed!r}.")
    return int(seed)


def generator(seed: int, purpose: str, *indices: int) -> np.random.Generator:
    """Return a NumPy generator for one key.

    >>> bool(generator(0, "shuffle", 3).random() == generator(0, "shuffle", 3).random())
    True
    """
    return np.random.default_rng([check_seed(seed), PURPOSES.index(purpose), *indices])


class MaskKey(NamedTuple):
    """The key of a mask: the fit's seed, the step, the layer's number, and the position in the batch of its first row.

    On a device, the step is an array with one element, so that it can change between launches of a captured step.
    """

    seed: int
    step: Any
    stream: int
    first_row: int


def keep_mask(shape: tuple[int, ...], keep: float, key: MaskKey) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return booleans, True with probability ``keep`` (to 1 part in 65,536), for rows of a batch.

    Row r of the batch gets the same mask however the batch is split: element e of the whole batch, in row-major
    order, is the e-th 16-bit number of Philox4x64-10 with key (seed, stream) and counters (1 + block, step, 0, 0)
    (NumPy counts up before it draws; Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).

    shape: (rows, ...) of the shard.
    """
    count = int(np.prod(shape))
    first = key.first_row * (count // shape[0] if shape[0] else 0)
    block, skipped = divmod(first, 16)
    philox = np.random.Philox(
        key=np.array([check_seed(key.seed), key.stream], dtype=np.uint64),
        counter=np.array([block, int(key.step), 0, 0], dtype=np.uint64),
    )
    words = -(-(skipped + count) // 4)
    raw = philox.random_raw(words).astype("<u8", copy=False).view("<u2")[skipped : skipped + count]
    return (raw < keep_threshold(keep)).reshape(shape)


def keep_threshold(keep: float) -> int:
    """Return the threshold among the 65,536 16-bit numbers below which a value is kept."""
    return round(keep * 65536)
