"""Work that comes in numbered pieces, for whoever has helpers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

T = TypeVar("T")

#: What makes [function(0), …, function(n - 1)] of (function, n).
Spread: TypeAlias = Callable[[Callable[[int], Any], int], list[Any]]


def one_after_another(function: Callable[[int], T], count: int) -> list[T]:
    """Return function(0) to function(count - 1)."""
    return [function(number) for number in range(count)]
