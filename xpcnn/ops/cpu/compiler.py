"""How kernels are compiled, and what the processor's vectors hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import llvmlite
import numba
import numpy as np
from llvmlite import binding
from numba import njit

from xpcnn.backend import Array
from xpcnn.ops.cpu.cache import KernelCache, folder
from xpcnn.recording import recorded

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function, **options: Any) -> Function:
    """Compile what a kernel calls, when it is first called; it releases the interpreter's lock, for threads."""
    dispatcher = njit(function, nogil=True, error_model="numpy", **options)
    if folder() is not None:
        dispatcher._cache = KernelCache(function)
    return dispatcher


def kernel(function: Function) -> Function:
    """Compile a function that writes into flat arrays; steps that are replayed call it again."""
    return recorded(compiled(function))


def summing_kernel(function: Function) -> Function:
    """Compile loops whose sums LLVM may reorder to vectorise them: the same machine code gives the same bits."""
    return recorded(compiled(function, fastmath={"reassoc", "contract", "nsz"}))


#: Elements that are summed in their own precision, as vectors; the sums of blocks are added in double precision.
BLOCK = 4096

_FEATURES = binding.get_host_cpu_features()
#: Bytes of a vector register, by the best instruction set of this processor.
VECTOR_BYTES = 64 if _FEATURES.get("avx512f") else 32 if _FEATURES.get("avx") else 16


def versions() -> dict[str, str | int]:
    """Return what decides the bits that kernels compute, besides their sources."""
    features = binding.get_host_cpu_features()
    return {
        "numba": numba.__version__,
        "llvmlite": llvmlite.__version__,
        "processor": binding.get_host_cpu_name(),
        "instructions": ",".join(name for name in sorted(features) if features[name]),
    }


def lanes(dtype: np.dtype[Any]) -> int:
    """Return how many elements a vector holds."""
    return VECTOR_BYTES // dtype.itemsize


def flat(x: Array) -> Array:
    """View an array that has the batch last in memory as one long row."""
    return x.transpose(*range(1, x.ndim), 0).reshape(-1)
