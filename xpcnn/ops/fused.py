"""Dispatch between a function for any array module and the CUDA kernels that replace it."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any, TypeVar

from xpcnn.backend import ArrayModule, has_kernels

Function = TypeVar("Function", bound=Callable[..., Any])

#: The functions that have a counterpart of the same name in ``ops/cuda``.
FUSED: list[Callable[..., Any]] = []


def fused(function: Function) -> Function:
    """Call the function of the same name and signature in ``ops/cuda`` where the array module has kernels."""
    module = function.__module__.replace("xpcnn.ops.", "xpcnn.ops.cuda.")

    @functools.wraps(function)
    def chosen(xp: ArrayModule, *arguments: Any, **keywords: Any) -> Any:
        if not has_kernels(xp):
            return function(xp, *arguments, **keywords)
        return getattr(importlib.import_module(module), function.__name__)(xp, *arguments, **keywords)

    FUSED.append(chosen)
    return chosen  # type: ignore[return-value]
