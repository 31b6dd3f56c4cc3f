"""The same picture several times: in two parts, or under two labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: A copy stays in the last of these parts in which there is one: what is measured is never what was learned.
_PARTS = np.array(["train", "validation", "test"])


def same_pictures(digests: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return which picture each image is, int64 (n,), by digests, uint8 (n, 8): copies have the same number.

    >>> same_pictures(np.array([[7] * 8, [1] * 8, [7] * 8], np.uint8)).tolist()
    [1, 0, 1]
    """
    return _numbered(np.ascontiguousarray(digests).view(np.uint64).ravel())


def in_several(pictures: NDArray[np.int64], values: NDArray[Any]) -> NDArray[np.bool_]:
    """Return of which images the picture has more than one value, such as a part, a label or a group.

    >>> in_several(np.array([0, 1, 0, 1]), np.array(["cat", "cat", "dog", "cat"])).tolist()
    [True, False, True, False]
    """
    numbers = _numbered(values)
    return np.asarray(_least(pictures, numbers)[pictures] != -_least(pictures, -numbers)[pictures])


def first_pair(pictures: NDArray[np.int64], values: NDArray[Any]) -> tuple[int, int]:
    """Return the first image whose picture has more than one value, and the first of its copies with another value."""
    first = int(np.argmax(in_several(pictures, values)))
    return first, int(np.argmax((pictures == pictures[first]) & (values != values[first])))


def to_leave_out(pictures: NDArray[np.int64], parts: NDArray[np.str_]) -> NDArray[np.bool_]:
    """Return which images have a copy in a part that counts for more: test before validation before train.

    >>> to_leave_out(np.array([0, 1, 0, 2]), np.array(["train", "train", "test", "test"])).tolist()
    [True, False, False, False]
    """
    ranks = np.argmax(parts[:, np.newaxis] == _PARTS, axis=1)
    return np.asarray(ranks < -_least(pictures, -ranks)[pictures])


def united(pictures: NDArray[np.int64], groups: Sequence[str] | NDArray[Any]) -> NDArray[np.int64]:
    """Return groups, int64 (n,), as they are when those that share a picture are one.

    >>> united(np.array([0, 1, 1, 2]), ["x", "x", "y", "z"]).tolist()
    [0, 0, 0, 2]
    """
    joined = named = _numbered(np.asarray(groups))
    while True:  # until no picture and no group holds two numbers: a step or two, more for chains of groups
        spread = _least(pictures, joined)[pictures]
        spread = _least(named, spread)[named]
        if np.array_equal(spread, joined):
            return joined
        joined = spread


def _numbered(values: NDArray[Any]) -> NDArray[np.int64]:
    return np.unique(values, return_inverse=True)[1].astype(np.int64)


def _least(keys: NDArray[np.int64], values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the least value of each key."""
    least = np.full(keys.max(initial=-1) + 1, np.iinfo(np.int64).max)
    np.minimum.at(least, keys, values)
    return least
