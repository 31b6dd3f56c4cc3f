"""Device work that is captured once as a CUDA graph and then launched as a whole."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Generic, TypeVar, cast

from xpcnn.backend import ArrayModule, is_out_of_memory

T = TypeVar("T")


class GraphWarning(UserWarning):
    """Warning that work cannot be captured as a CUDA graph and therefore runs more slowly."""


#: Calls before the capture, which compile the kernels and allocate all the memory that a call needs from the pool.
WARM_UPS = 2

_of_thread = threading.local()


class Captured(Generic[T]):
    """A function that always works on the same device arrays: the third call is captured, and later ones launch it.

    The function's result is in memory that the next call overwrites. The function must not read anything back, nor
    depend on host values that change: those are baked into the graph. If it can't be captured, a warning
    is issued once, and the function is called every time. Use it inside :func:`own_stream`.
    """

    def __init__(self, xp: ArrayModule, function: Callable[[], T]) -> None:
        self._xp = xp
        self.function = function
        self._calls = 0
        self._graph: Any = None
        self._result: T | None = None
        #: A separate pool, so that the memory the graph writes to is not reused elsewhere.
        self._pool = xp.cuda.MemoryPool()

    def __call__(self) -> T:
        """Run the function or launch its graph, and return its result."""
        self._calls += 1
        if self._graph is None:
            with self._xp.cuda.using_allocator(self._pool.malloc):
                if self._calls == WARM_UPS + 1:
                    self._try_to_capture()
                if self._graph is None:
                    return self.function()
        self._graph.launch(self._xp.cuda.get_current_stream())
        return cast(T, self._result)

    def close(self) -> None:
        """Return the memory to the device: merely dropping the pool would leak it."""
        self._graph = self._result = None
        self._pool.free_all_blocks()

    def __del__(self) -> None:
        with suppress(Exception):  # at interpreter shutdown, CuPy may already be gone
            self.close()

    @property
    def is_graph(self) -> bool:
        """Whether the function has been captured, so that calls launch its graph."""
        return self._graph is not None

    def _try_to_capture(self) -> None:
        """Capture the work, or warn; running out of memory is an error, since running without a graph needs as much."""
        stream = self._xp.cuda.get_current_stream()
        try:
            stream.begin_capture()
            try:
                result = self.function()
            except BaseException:
                with suppress(Exception):  # the first error says why
                    stream.end_capture()
                raise
            self._graph, self._result = stream.end_capture(), result
        except Exception as error:  # CuPy raises many kinds of errors if something can't be captured
            if is_out_of_memory(self._xp, error):
                raise
            warnings.warn(
                f"This step can't be captured as a CUDA graph ({_first_line(error)}), so its kernels are launched "
                "one by one, which takes longer.",
                GraphWarning,
                stacklevel=3,
            )


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


@contextmanager
def own_stream(xp: ArrayModule) -> Iterator[None]:
    """Work on this thread's own stream, as a capture requires, waiting for earlier work first and for this at the end.

    It is always the same stream: memory pools keep free blocks per stream, so another one could not reuse them.
    """
    xp.cuda.get_current_stream().synchronize()
    key = (xp, xp.cuda.Device().id)
    if getattr(_of_thread, "key", None) != key:
        _of_thread.key, _of_thread.stream = key, xp.cuda.Stream(non_blocking=True)
    stream = _of_thread.stream
    with stream:
        try:
            yield
        finally:
            stream.synchronize()
