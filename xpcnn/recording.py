"""Recording the NumPy calls of a pass while it runs, and replaying them on the same memory.

A step of a small network is about a hundred short calls, between which Python computes shapes and views and finds the
next function; these are the same in every step. Replaying only the calls saves that time and leaves the interpreter
free for other threads. While a :class:`Recording` is under way, arrays returned by :func:`watched` record every
operation on them, together with the memory of its result.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar

import numpy as np

HostArray = np.ndarray[Any, Any]
Function = TypeVar("Function", bound=Callable[..., None])

_of_thread = threading.local()


class RecordingError(TypeError):
    """An operation on a watched array cannot be recorded, such as taking its truth value."""


class Recording:
    """The calls of one pass: a context manager that records those of its thread, and replays them.

    >>> total = np.zeros(3)
    >>> with Recording() as recording:
    ...     x = watched(total)
    ...     x += 1
    >>> recording.replay()
    >>> total
    array([2., 2., 2.])
    """

    def __init__(self) -> None:
        self._calls: list[Callable[[], object]] = []
        #: Allocates memory for results: empty(shape, dtype).
        self.empty: Callable[[tuple[int, ...], Any], HostArray] = np.empty

    def __enter__(self) -> Recording:
        self._outer = under_way()
        _of_thread.recording = self
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _of_thread.recording = self._outer

    def note(self, function: Callable[..., object], *arguments: Any, **keywords: Any) -> None:
        """Record one call."""
        self._calls.append(functools.partial(function, *arguments, **keywords))

    def keep(self, array: HostArray) -> HostArray:
        """Return a copy with the same memory layout, in memory that the recording owns."""
        memory = unwatched(self.empty((max(1, array.nbytes),), np.uint8))
        kept = np.ndarray(array.shape, array.dtype, memory, strides=array.strides)
        kept[...] = array
        return kept

    def replay(self) -> None:
        """Replay all calls, in order."""
        for call in self._calls:
            call()


def under_way() -> Recording | None:
    """Return the recording under way in this thread, or None."""
    return getattr(_of_thread, "recording", None)


def watched(array: Any) -> Any:
    """Return a view of ``array`` whose operations are recorded, or the array itself if nothing is being recorded."""
    return array if under_way() is None else array.view(Watched)


def unwatched(value: Any) -> Any:
    """Return the plain array behind a watched one, also inside lists, tuples and dicts; anything else unchanged."""
    if isinstance(value, Watched):
        return value.view(np.ndarray)
    if type(value) in (list, tuple):
        return type(value)(unwatched(part) for part in value)
    if type(value) is dict:
        return {key: unwatched(part) for key, part in value.items()}
    return value


def each_time(function: Callable[[], None]) -> None:
    """Call ``function`` now, and again at this point of every replay."""
    function()
    recording = under_way()
    if recording is not None:
        recording.note(function)


def made_each_time(make: Callable[[], Any]) -> Any:
    """Return the array that ``make`` returns; every replay calls it again and overwrites the array with its result."""
    recording = under_way()
    if recording is None:
        return make()
    array = recording.keep(np.array(make()))
    recording.note(_put, array, make)
    return watched(array)


def recorded(function: Function) -> Function:
    """Return a function whose calls are recorded: one that writes into arrays given to it, and returns nothing."""

    @functools.wraps(function)
    def call(*arguments: Any) -> None:
        recording = under_way()
        if recording is None:
            function(*arguments)
        else:
            arguments = unwatched(arguments)
            function(*arguments)
            recording.note(function, *arguments)

    return call  # type: ignore[return-value]


class Watched(np.ndarray[Any, Any]):
    """An array whose operations are recorded in the recording under way."""

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **keywords: Any) -> Any:
        function = ufunc if method == "__call__" else getattr(ufunc, method)
        return _perform(function, *inputs, takes_out=ufunc.nout == 1 and method != "at", **keywords)

    def __array_function__(self, function: Any, types: Any, arguments: Any, keywords: Any) -> Any:
        return _perform(function, *arguments, **keywords)

    def __setitem__(self, key: Any, value: Any) -> None:
        array, value = unwatched(self), unwatched(value)
        part = array[key]
        if isinstance(value, np.ndarray) and _is(part, value):
            return  # the end of an in-place operation, a[key] += b, which was itself recorded
        if _shares(part, array):
            _perform(np.copyto, part, value, casting="unsafe")
        else:
            _perform(np.ndarray.__setitem__, self, key, value)

    def __getitem__(self, key: Any) -> Any:
        return _perform(np.ndarray.__getitem__, self, key)

    def reshape(self, *shape: Any) -> Any:  # type: ignore[override]
        """Return a view or, if that is impossible, record the copy."""
        array = unwatched(self)
        result = array.reshape(*shape)
        if not _shares(result, array):
            recording = under_way()
            result = result if recording is None else recording.keep(result)
            _perform(np.copyto, result.reshape(array.shape), array)
        return watched(result)

    def __bool__(self) -> bool:
        raise RecordingError("A pass whose control flow depends on the values of an array cannot be replayed.")

    __float__ = __int__ = __index__ = __bool__


#: Methods that return views, methods that call universal functions, and the others that are recorded.
_VIEWS = {"reshape", "squeeze", "swapaxes", "transpose", "view"}
_FUNCTIONS = {"all", "any", "clip", "max", "mean", "min", "prod", "sum"}
_NOTED = {"argmax", "argmin", "astype", "copy", "fill", "flatten", "ravel", "repeat", "take"}


def _noted(name: str) -> Callable[..., Any]:
    function = getattr(np.ndarray, name)
    return lambda self, *arguments, **keywords: _perform(function, self, *arguments, **keywords)


def _refused(name: str) -> Callable[..., Any]:
    def refuse(self: Watched, *arguments: Any, **keywords: Any) -> Any:
        raise RecordingError(
            f"The array method {name!r} cannot be recorded. Use a function of the array module instead."
        )

    return refuse


for _name in dir(np.ndarray):
    if _name in _NOTED:
        setattr(Watched, _name, _noted(_name))
    elif not _name.startswith("_") and _name not in _VIEWS | _FUNCTIONS and callable(getattr(np.ndarray, _name)):
        setattr(Watched, _name, _refused(_name))


def _perform(function: Callable[..., Any], *arguments: Any, takes_out: bool = False, **keywords: Any) -> Any:
    """Make one call with plain arrays, record it with the memory of its result, and return the result, watched."""
    arguments, keywords = unwatched(arguments), unwatched(keywords)
    result = function(*arguments, **keywords)
    recording = under_way()
    if recording is None:
        return result
    if result is None or keywords.get("out") is not None:
        recording.note(function, *arguments, **keywords)
        return None if result is None else watched(result)
    if any(_shares(result, argument) for argument in arguments):
        return watched(result)  # a view, which sees new values without being replayed
    if not isinstance(result, np.ndarray | np.generic):
        raise RecordingError(f"{function!r} did not return a single array, so it cannot be replayed.")
    result = recording.keep(np.asarray(result))
    if takes_out:
        recording.note(function, *arguments, **{**keywords, "out": result})
    else:
        recording.note(_put, result, function, *arguments, **keywords)
    return watched(result)


def _shares(result: Any, argument: Any) -> bool:
    """Whether a result is a view of an argument."""
    return isinstance(result, np.ndarray) and isinstance(argument, np.ndarray) and np.may_share_memory(result, argument)


def _is(part: Any, value: HostArray) -> bool:
    """Whether both are the same region of memory."""
    return isinstance(part, np.ndarray) and part.__array_interface__ == value.__array_interface__


def _put(array: HostArray, function: Callable[..., Any], *arguments: Any, **keywords: Any) -> None:
    """Write the result of a function into an array."""
    array[...] = function(*arguments, **keywords)
