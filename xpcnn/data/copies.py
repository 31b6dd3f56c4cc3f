"""Copies of the same image, in two parts or under two labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: A copy stays in the last of these parts that has one, so that no evaluated image was trained on.
_PARTS = np.array(["train", "validation", "test"])


def same_pictures(digests: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the number of each image's content, int64 (n,), by digests, uint8 (n, 8): copies have the same number.

    >>> same_pictures(np.array([[7] * 8, [1] * 8, [7] * 8], np.uint8)).tolist()
    [1, 0, 1]
    """
    return _numbered(np.ascontiguousarray(digests).view(np.uint64).ravel())


def in_several(pictures: NDArray[np.int64], values: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which images have copies with another value, such as another part, label or group.

    >>> in_several(np.array([0, 1, 0, 1]), np.array(["cat", "cat", "dog", "cat"])).tolist()
    [True, False, True, False]
    """
    numbers = _numbered(values)
    return np.asarray(_least(pictures, numbers)[pictures] != -_least(pictures, -numbers)[pictures])


def first_pair(pictures: NDArray[np.int64], values: NDArray[Any]) -> tuple[int, int]:
    """Return the first image whose copies have another value, and the first of these copies."""
    first = int(np.argmax(in_several(pictures, values)))
    return first, int(np.argmax((pictures == pictures[first]) & (values != values[first])))


def to_leave_out(pictures: NDArray[np.int64], parts: NDArray[np.str_]) -> NDArray[np.bool_]:
    """Return which images have a copy in a part that takes precedence: test over validation over train.

    >>> to_leave_out(np.array([0, 1, 0, 2]), np.array(["train", "train", "test", "test"])).tolist()
    [True, False, False, False]
    """
    ranks = np.argmax(parts[:, np.newaxis] == _PARTS, axis=1)
    return np.asarray(ranks < -_least(pictures, -ranks)[pictures])


def united(pictures: NDArray[np.int64], groups: Sequence[str] | NDArray[Any]) -> NDArray[np.int64]:
    """Return group numbers, int64 (n,), with the groups merged that share an image.

    >>> united(np.array([0, 1, 1, 2]), ["x", "x", "y", "z"]).tolist()
    [0, 0, 0, 2]
    """
    joined = named = _numbered(np.asarray(groups))
    while True:  # until every image and every group has one number: one or two rounds, more for chains of groups
        merged = _least(pictures, joined)[pictures]
        merged = _least(named, merged)[named]
        if np.array_equal(merged, joined):
            return joined
        joined = merged


def _numbered(values: NDArray[Any]) -> NDArray[np.int64]:
    return np.unique(values, return_inverse=True)[1].astype(np.int64)


def _least(keys: NDArray[np.int64], values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the smallest value of each key."""
    least = np.full(keys.max(initial=-1) + 1, np.iinfo(np.int64).max)
    np.minimum.at(least, keys, values)
    return least
