"""A batch cut into pieces, and what they give combined in a fixed order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, TypeVar

from xpcnn.network import Pass

T = TypeVar("T")


def cut(n: int, pieces: int) -> list[slice]:
    """Cut n rows into at most ``pieces`` parts, sizes differing by one at most.

    >>> cut(5, 2)
    [slice(0, 3, None), slice(3, 5, None)]
    """
    pieces = max(1, min(pieces, n))
    size, larger = divmod(n, pieces)
    starts = [i * size + min(i, larger) for i in range(pieces + 1)]
    return [slice(start, stop) for start, stop in pairwise(starts)]


def add_tree(parts: Sequence[T], combine: Callable[[T, T], T]) -> T:
    """Combine neighbours, then neighbours of those, …: the same order whatever the number of threads."""
    level = list(parts)
    while len(level) > 1:
        pairs = [combine(a, b) for a, b in zip(level[::2], level[1::2], strict=False)]
        level = pairs + level[len(pairs) * 2 :]
    return level[0]


def whole_pass(run: Pass) -> Any:
    """Make the pass of a batch that is one piece: what it brings to a meeting is all there is."""
    brought: Any = None
    while True:
        try:
            brought = run.send(brought).part
        except StopIteration as end:
            return end.value
