"""Chooses the number of threads, and limits BLAS to one thread while they run."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from xpcnn.ops.workspace import CACHE_BYTES, COLUMN_BUDGET
from xpcnn.processors import available_threads
from xpcnn.registry import check_int

#: More threads than this would exceed the memory budget for columns.
MOST_THREADS = COLUMN_BUDGET // CACHE_BYTES

#: Multiplications of a shard that justify a thread, which has to be woken and contends for the interpreter lock. On one
#: and two threads, compiled kernels predicted a batch with shards of 4 million in 0.53 and 0.56 ms, of 24 million in
#: 1.6 and 1.1 ms, NumPy in 0.75 and 0.86, and 3.3 and 2.4 ms (shortest times, two processors, CPython 3.11).
WORTH_A_THREAD = 2e7
#: The default maximum, since each shard of a batch needs memory for its own gradient.
MOST_SHARDS = 64

_lock = threading.Lock()
_holders = 0
_found: list[int] = []


def check_threads(threads: int | None, multiplications: float = float("inf")) -> int:
    """Return the number of threads to use; None means all processors, or one if the shards of a batch are small.

    multiplications: per shard. Raises ValueError for anything below 1.
    """
    if threads is None:
        return min(available_threads(), MOST_THREADS) if multiplications >= WORTH_A_THREAD else 1
    return min(check_int("threads", threads, 1), MOST_THREADS)


def check_shards(shards: int | None, batch_size: int) -> int:
    """Return the number of shards of a batch: by default about 16 images each, at most 64, on any machine."""
    if shards is None:
        return min(max(1, round(batch_size / 16)), MOST_SHARDS)
    return check_int("shards", shards, 1)


@functools.cache
def _libraries() -> tuple[list[Any], list[Any]]:
    """Return the BLAS libraries with a process-wide setting, and those with a per-thread setting."""
    from threadpoolctl import ThreadpoolController

    libraries = ThreadpoolController().select(user_api="blas").lib_controllers
    own = [lib for lib in libraries if lib.internal_api == "mkl" or getattr(lib, "threading_layer", "") == "openmp"]
    return [lib for lib in libraries if lib not in own], own


def _set_threads(libraries: list[Any], counts: list[int]) -> list[int]:
    """Set the number of threads of each library and return the previous numbers."""
    found = [library.num_threads for library in libraries]
    for library, count in zip(libraries, counts, strict=True):
        # Since 3.8, threadpoolctl lets only one thread change OpenBLAS, unless told to forget which.
        forget = getattr(library, "clear_controlling_thread", lambda force: None)
        forget(force=True)
        library.set_num_threads(count)
        forget(force=True)
    return found


def hold_in_this_thread() -> list[int]:
    """Limit the libraries with a per-thread setting to one thread; return the previous setting of this thread."""
    _, own = _libraries()
    return _set_threads(own, [1] * len(own))


@contextmanager
def blas_on_one_thread() -> Iterator[None]:
    """Limit BLAS to one thread; the last of overlapping callers restores the setting that the first one found."""
    global _holders, _found
    shared, own = _libraries()
    found_here = hold_in_this_thread()
    with _lock:
        if _holders == 0:
            _found = _set_threads(shared, [1] * len(shared))
        _holders += 1
    try:
        yield
    finally:
        with _lock:
            _holders -= 1
            if _holders == 0:
                _set_threads(shared, _found)
        _set_threads(own, found_here)
