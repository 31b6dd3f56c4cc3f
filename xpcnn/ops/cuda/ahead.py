"""CUDA sources, compiled one by one as they are needed, or ahead: all that a rehearsal calls for, in parallel."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from xpcnn.backend import ArrayModule, is_out_of_memory
from xpcnn.processors import available_threads

#: The same for every source, since CuPy compiles an empty one for each tuple of options, in every process.
OPTIONS = ("--std=c++17",)
#: Most sources compiled at once; each takes NVIDIA's compiler some hundred megabytes.
MOST_AT_ONCE = 8


class _OfThread(threading.local):
    """A thread's rehearsal, and while that runs, the compilations it has called for."""

    rehearsal: Callable[[], object] | None = None
    pool: ThreadPoolExecutor | None = None
    called_for: dict[Module, Future[None]]


_of_thread = _OfThread()


class Module:
    """The functions of a source, which is compiled when the first of them is launched."""

    def __init__(self, xp: ArrayModule, code: str) -> None:
        self._xp = xp
        self._raw = xp.RawModule(code=code, options=OPTIONS)
        self._is_compiled = False
        self._functions: dict[str, Callable[..., None]] = {}

    def function(self, name: str) -> Callable[..., None] | None:
        """Return a function, compiled, or None in a rehearsal, which launches nothing."""
        own = _of_thread
        if own.pool is not None:
            if not self._is_compiled and self not in own.called_for:
                own.called_for[self] = own.pool.submit(self._compile, self._xp.cuda.Device())
            return None
        if name not in self._functions:
            if not self._is_compiled and own.rehearsal is not None:
                _compile_ahead(self._xp, own.rehearsal)
            self._functions[name] = self._raw.get_function(name)
            self._is_compiled = True
        return self._functions[name]

    def _compile(self, device: Any) -> None:
        with device:  # that of a new thread is the first
            self._raw.compile()
        self._is_compiled = True


@contextmanager
def rehearsed(rehearsal: Callable[[], object]) -> Iterator[None]:
    """Before the first launch of a kernel that isn't compiled, compile all that a rehearsal of the work would launch.

    rehearsal: does what the work does, on arrays of its own; its kernels compute nothing, so that these hold anything.
    """
    _of_thread.rehearsal = rehearsal
    try:
        yield
    finally:
        _of_thread.rehearsal = None


def _compile_ahead(xp: ArrayModule, rehearsal: Callable[[], object]) -> None:
    """Compile, in parallel threads, every module that has a kernel in the rehearsal."""
    own, own_pool = _of_thread, ThreadPoolExecutor(min(available_threads(), MOST_AT_ONCE), "nvrtc")
    own.rehearsal, own.pool, own.called_for = None, own_pool, {}
    try:
        try:
            rehearsal()
        except Exception as error:  # without the arrays of a second one, the work may fit
            if not is_out_of_memory(xp, error):
                raise
        for compiled in own.called_for.values():
            compiled.result()
    finally:
        own.pool, own.called_for = None, {}
        own_pool.shutdown(cancel_futures=True)
