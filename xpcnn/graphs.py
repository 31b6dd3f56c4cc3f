"""Work on a device that is captured once, as a CUDA graph, and then launched as a whole."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Generic, TypeVar

from xpcnn.backend import ArrayModule, is_out_of_memory

T = TypeVar("T")


class GraphWarning(UserWarning):
    """Work can't be captured, so it takes longer than it might."""


#: Calls before the capture, in which kernels are compiled and the pool gets all the memory that one call needs.
WARM_UPS = 2

_of_thread = threading.local()


class Captured(Generic[T]):
    """A function that always works on the same device arrays: its third call is captured, and later ones launch that.

    What the function returns lies in memory that the next call uses again. It must not read anything back, nor depend
    on numbers of the host that change: those are baked into the graph. Where it can't be captured, a warning says so
    once, and it is called every time. Use it inside :func:`own_stream`.
    """

    def __init__(self, xp: ArrayModule, function: Callable[[], T]) -> None:
        self._xp = xp
        self.function = function
        self._calls = 0
        self._graph: Any = None
        self._result: T
        #: Nobody else may get the memory that launches of the graph write into.
        self._pool = xp.cuda.MemoryPool()

    def __call__(self) -> T:
        """Do the work, in whichever way, and return what the function did."""
        self._calls += 1
        if self._graph is not None:
            self._graph.launch(self._xp.cuda.get_current_stream())
            return self._result
        with self._xp.cuda.using_allocator(self._pool.malloc):
            if self._calls != WARM_UPS + 1:
                return self.function()
            try:
                self._graph, self._result = self._capture()
            except Exception as error:  # CuPy raises many kinds where something can't be captured
                if is_out_of_memory(self._xp, error):
                    raise
                warnings.warn(
                    f"This step can't be captured as a CUDA graph ({_first_line(error)}), so its kernels are launched "
                    "one by one, which takes longer.",
                    GraphWarning,
                    stacklevel=2,
                )
                return self.function()
        self._graph.launch(self._xp.cuda.get_current_stream())
        return self._result

    @property
    def is_graph(self) -> bool:
        """Whether calls launch a graph by now."""
        return self._graph is not None

    @property
    def memory(self) -> int:
        """Bytes of the device that the calls take, what the function is given left out."""
        return int(self._pool.total_bytes())

    def _capture(self) -> tuple[Any, T]:
        stream = self._xp.cuda.get_current_stream()
        stream.begin_capture()
        try:
            result = self.function()
        except Exception:
            with suppress(Exception):  # the first error says why
                stream.end_capture()
            raise
        return stream.end_capture(), result


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


@contextmanager
def own_stream(xp: ArrayModule) -> Iterator[None]:
    """Work on this thread's own stream, as a capture must; what was begun before is waited for, and at the end this is.

    It is always the same one: memory pools keep what is free by stream, and another one could not have it.
    """
    xp.cuda.get_current_stream().synchronize()
    if not hasattr(_of_thread, "stream") or _of_thread.xp is not xp:
        _of_thread.stream, _of_thread.xp = xp.cuda.Stream(non_blocking=True), xp
    stream = _of_thread.stream
    with stream:
        try:
            yield
        finally:
            stream.synchronize()
