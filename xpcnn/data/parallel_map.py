"""Mapping a function over numbered blocks of work, serially or with helpers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

T = TypeVar("T")

#: Called as parallel_map(function, n), returns [function(0), …, function(n - 1)].
ParallelMap: TypeAlias = Callable[[Callable[[int], Any], int], list[Any]]


def serial_map(function: Callable[[int], T], count: int) -> list[T]:
    """Return [function(0), …, function(count - 1)], computed one after another."""
    return [function(number) for number in range(count)]
