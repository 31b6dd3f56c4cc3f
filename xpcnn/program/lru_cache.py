"""A least-recently-used (LRU) cache whose values are created on first use."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class LRUCache(Generic[T]):
    """Keeps a limited number of values by key, and evicts the least recently used one.

    >>> cache = LRUCache(2)
    >>> [cache.get(key, lambda: key.upper()) for key in "abac"], cache.keys()
    (['A', 'B', 'A', 'C'], ['a', 'c'])
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._things: dict[Hashable, T] = {}

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return the value of a key, creating it with ``make`` if it is missing."""
        thing = self._things.pop(key) if key in self._things else make()
        while len(self._things) >= self._most:
            del self._things[next(iter(self._things))]
        self._things[key] = thing  # most recently used last
        return thing

    def keys(self) -> list[Hashable]:
        """Return the keys, most recently used last."""
        return list(self._things)

    def clear(self) -> None:
        """Remove all values."""
        self._things.clear()
