"""Splitting a batch into shards, and summing their results in a fixed order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TypeVar

T = TypeVar("T")


def cut(n: int, shards: int) -> list[slice]:
    """Split n rows into at most ``shards`` parts whose sizes differ by at most one.

    >>> cut(5, 2)
    [slice(0, 3, None), slice(3, 5, None)]
    """
    shards = max(1, min(shards, n))
    size, larger = divmod(n, shards)
    starts = [i * size + min(i, larger) for i in range(shards + 1)]
    return [slice(start, stop) for start, stop in pairwise(starts)]


def add_tree(parts: Sequence[T], add: Callable[[T, T], T]) -> T:
    """Sum pairwise, neighbours first, in an order independent of the number of threads."""
    level = list(parts)
    while len(level) > 1:
        pairs = [add(a, b) for a, b in zip(level[::2], level[1::2], strict=False)]
        level = pairs + level[len(pairs) * 2 :]
    return level[0]
