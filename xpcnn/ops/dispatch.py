"""Dispatch between a function for any array module and the compiled kernels that replace it."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any, TypeVar

from xpcnn.backend import ArrayModule, kernels

Function = TypeVar("Function", bound=Callable[..., Any])

#: The functions that have a counterpart of the same name in ``ops/cuda`` or ``ops/cpu``: in "cuda", "cpu" or both.
WITH_KERNELS: dict[Callable[..., Any], tuple[str, ...]] = {}


def with_kernels(*packages: str) -> Callable[[Function], Function]:
    """Call the function of the same name and signature in ``ops/cuda`` or ``ops/cpu`` where ``xp`` has kernels.

    packages: those with such a function: "cuda", "cpu" or both.
    """

    def decorate(function: Function) -> Function:
        @functools.wraps(function)
        def chosen(xp: ArrayModule, *arguments: Any, **keywords: Any) -> Any:
            package = kernels(xp)
            if package not in packages:
                return function(xp, *arguments, **keywords)
            return counterpart(function, package)(xp, *arguments, **keywords)

        WITH_KERNELS[chosen] = packages
        return chosen  # type: ignore[return-value]

    return decorate


def counterpart(function: Callable[..., Any], package: str) -> Callable[..., Any]:
    """Return the function of the same name in ``ops/cuda`` or ``ops/cpu``."""
    module = importlib.import_module(function.__module__.replace("xpcnn.ops.", f"xpcnn.ops.{package}."))
    found: Callable[..., Any] = getattr(module, function.__name__)
    return found
