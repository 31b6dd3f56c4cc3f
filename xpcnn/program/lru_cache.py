"""The things that were used latest, each made when it is first asked for."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class LRUCache(Generic[T]):
    """Keeps so many things by key, and lets go of the one that was not used for longest.

    >>> cache = LRUCache(2)
    >>> [cache.get(key, lambda: key.upper()) for key in "abac"], cache.keys()
    (['A', 'B', 'A', 'C'], ['a', 'c'])
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._things: dict[Hashable, T] = {}

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return the thing of a key, or else what ``make`` makes."""
        thing = self._things.pop(key) if key in self._things else make()
        while len(self._things) >= self._most:
            del self._things[next(iter(self._things))]
        self._things[key] = thing  # the latest is the last
        return thing

    def keys(self) -> list[Hashable]:
        """Return the keys of what is kept, the latest last."""
        return list(self._things)

    def clear(self) -> None:
        """Let go of everything."""
        self._things.clear()
