"""Random draws, each keyed by (seed, purpose, indices), so that no generator state exists to be kept or lost.

The same key gives the same numbers whatever was drawn before it, on which thread, and in which order.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

#: The purposes a draw can have; the position in this list is part of the key, so new ones go to the end.
PURPOSES = ("weights", "shuffle", "split", "augmentation", "dropout", "sample", "groups")


def check_seed(seed: int) -> int:
    """Return ``seed`` as an int, or raise ValueError if it is not a whole number from 0 to below 2**64."""
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**64:
        raise ValueError(f"A seed is a whole number from 0 to below 2**64. Received: {seed!r}.")
    return int(seed)


def generator(seed: int, purpose: str, *indices: int) -> np.random.Generator:
    """Return NumPy's generator for one key.

    >>> bool(generator(0, "shuffle", 3).random() == generator(0, "shuffle", 3).random())
    True
    """
    return np.random.default_rng([check_seed(seed), PURPOSES.index(purpose), *indices])


class MaskKey(NamedTuple):
    """What a mask is keyed by: the fit's seed, the step, the layer's number, and where in the batch its rows start.

    On a device the step is an array of one number, so that it may change from one run of a captured step to the next.
    """

    seed: int
    step: Any
    stream: int
    first_row: int


def keep_mask(shape: tuple[int, ...], keep: float, key: MaskKey) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return booleans, True with probability ``keep`` (to 1 part in 65,536), for rows of a batch.

    Row r of the batch gets the same mask however the batch is cut: element e of the whole batch, in row-major
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
