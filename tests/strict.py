"""A strict stand-in for CuPy, which runs the tests' GPU code paths on every machine.

``strict.xp`` computes with NumPy but refuses what fails, is slow or goes silently wrong on a GPU: implicit conversion
to NumPy, mixed operands, functions and keywords that CuPy lacks, indices out of range, assignment through repeated
indices, writes through overlapping windows. ``counting()`` counts synchronizations of host and device, ``forbid()``
refuses them. Names, keywords and memory layouts follow CuPy 14.2.

CUDA graphs are emulated too: while a stream captures, operations are recorded and then undone, since a capture computes
nothing; launching the graph repeats them on the same memory.
"""

import contextlib
import threading
import weakref
from dataclasses import dataclass
from functools import partialmethod
from types import ModuleType, SimpleNamespace

import numpy as np

from xpcnn.recording import Recording, under_way, unwatched, watched

words = str.split


class ForbiddenError(RuntimeError):
    """The host waited for the device, or copied to it, inside ``with forbid():``."""


@dataclass(eq=False)
class Counts:
    """What happened in one ``with counting()``: copies to the host are waits, copies from it transfers.

    bytes: of the arrays made since that are still in use; most_bytes: the most that were at any one time.
    """

    waits: int = 0
    transfers: int = 0
    slow_matmuls: int = 0
    launches: int = 0
    bytes: int = 0
    most_bytes: int = 0
    forbidding: bool = False

    def allocated(self, root):
        """Count the memory of an array until nothing refers to it any more."""
        self.bytes += root.nbytes
        self.most_bytes = max(self.most_bytes, self.bytes)
        weakref.finalize(root, self._freed, root.nbytes)

    def _freed(self, size):
        self.bytes -= size


_listening: list[Counts] = []


@contextlib.contextmanager
def counting(forbidding=False):
    """Count waits, transfers, matrix products of more than two axes, and launches: operations, kernels and graphs."""
    counts = Counts(forbidding=forbidding)
    _listening.append(counts)
    try:
        yield counts
    finally:
        _listening.remove(counts)


def forbid():
    """Refuse every wait and every transfer, as CuPy does while a CUDA graph is captured."""
    return counting(forbidding=True)


def _note(kind, what):
    if captures() and kind in ("waits", "transfers"):
        raise ForbiddenError(f"{what} makes host and device meet, which a capture does not allow.")
    for counts in _listening:
        if counts.forbidding and kind in ("waits", "transfers"):
            raise ForbiddenError(f"{what} makes host and device meet, which is forbidden here.")
        setattr(counts, kind, getattr(counts, kind) + 1)


def _wrap(value):
    """Put NumPy's results on the "device", scalars as 0-d arrays; Python's bools, dtypes and None stay."""
    return ndarray(np.asanyarray(value)) if isinstance(value, np.ndarray | np.generic) else value


def _unwrap(value):
    """Take the NumPy array out of a device array, in lists and tuples too; refuse a NumPy array."""
    if isinstance(value, np.ndarray):
        raise TypeError("Unsupported type numpy.ndarray: bring it to the device with xp.asarray.")
    if isinstance(value, list | tuple):
        return type(value)(map(_unwrap, value))
    return value._host if isinstance(value, ndarray) else value


def _in_c_order(value):
    return value.copy() if isinstance(value, ndarray) and not value.flags.c_contiguous else value


def _run(function, args, keywords, out=None):
    """Call NumPy as CuPy would: silent about floating-point errors, and returning ``out`` itself."""
    if out is not None:
        keywords = {**keywords, "out": out}
    with np.errstate(all="ignore"):
        args, keywords = [*map(_unwrap, args)], {name: _unwrap(value) for name, value in keywords.items()}
        result = function(*args, **keywords)
    if out is not None or not _is_view(result, args):
        if function is not np.empty and function is not np.empty_like:
            _note("launches", function.__name__)
        if under_way() and unwatched(result) is result and isinstance(result, np.ndarray):  # made of numbers alone
            under_way().note(np.copyto, result, result.copy())
    return _wrap(result) if out is None else out


def _is_view(result, args):
    result, args = unwatched(result), unwatched([*args])
    return isinstance(result, np.ndarray) and any(
        np.may_share_memory(result, a) for a in args if isinstance(a, np.ndarray)
    )


def launch(name, run):
    """Run a kernel, which reads and writes device arrays."""
    _note("launches", name)
    run()
    if under_way():
        under_way().note(run)


class Ufunc:
    """An elementwise function as CuPy's are: ``out=`` and ``dtype=``, no ``where=``, hardly a reduction."""

    def __init__(self, name):
        self.function, self.__name__ = getattr(np, name), name

    def __call__(self, *operands, out=None, dtype=None):
        inputs, outputs = operands[: self.function.nin], operands[self.function.nin :]
        for operand in inputs:
            if not isinstance(operand, ndarray | np.generic | bool | int | float):
                raise TypeError(f"Unsupported type {type(operand)} for {self.__name__}.")
        (out,) = outputs or (out,)
        return _run(self.function, inputs, {"order": "C", "dtype": dtype}, out)

    def reduce(self, array, axis=0, dtype=None, out=None, keepdims=False):
        if self.__name__ not in ("add", "multiply"):
            raise NotImplementedError(f"CuPy has no {self.__name__}.reduce: use xp.max or its like.")
        return _run(self.function.reduce, (array, axis), {"dtype": dtype, "keepdims": keepdims}, out)


class ndarray(np.lib.mixins.NDArrayOperatorsMixin):  # noqa: N801 (CuPy's name)
    """A "device" array: holds a NumPy array that only ``get()`` hands out, as a copy."""

    __slots__ = ("_array",)

    def __init__(self, host):
        self._array = unwatched(host)
        root = _root(self._array)
        if id(root) not in _memory:
            _memory[id(root)] = root
            _touch(root, new=True)
            for counts in _listening:
                counts.allocated(root)

    @property
    def _host(self):
        _touch(_root(self._array))
        return watched(self._array)

    def __array__(self, *args, **keywords):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Use .get().")

    @property
    def __cuda_array_interface__(self):
        return {"shape": self.shape, "typestr": self.dtype.str, "version": 3}

    def __array_ufunc__(self, ufunc, method, *operands, out=(None,), **keywords):
        """Where the operators end, those with a NumPy array on the left side too."""
        return getattr(getattr(xp, ufunc.__name__), method)(*operands, out=out[0], **keywords)

    def __array_function__(self, function, types, args, keywords):
        raise TypeError(f"numpy.{function.__name__} was given a device array: call xp.{function.__name__}.")

    def get(self):
        _note("waits", "get()")
        return self._array.copy()

    def item(self, *args):
        _note("waits", "item(), float() or int()")
        return self._array.item(*args)

    def __bool__(self):
        _note("waits", "bool() or `if`")
        return bool(self._array)

    def __float__(self):
        return float(self.item())

    def __int__(self):
        return int(self.item())

    def __repr__(self):
        return f"strict.{self.get()!r}"

    def __len__(self):
        return len(self._array)

    @property
    def flags(self):
        return SimpleNamespace(**{f"{order}_contiguous": self._array.flags[order.upper()] for order in "cf"})

    def _index(self, key):
        """Return NumPy's index, made so that even one element comes as an array, and whether it gathers."""
        key, gathers = (key if isinstance(key, tuple) else (key,)), False
        for part in key:
            if isinstance(part, list | np.ndarray):
                _note("transfers", "an index that is a list or a NumPy array")
            if isinstance(part, ndarray) and part.dtype == bool:
                _note("waits", "an index of booleans")
            gathers = gathers or isinstance(part, list | np.ndarray | ndarray)
        index = tuple(part._host if isinstance(part, ndarray) else part for part in key)
        return (index if any(part is ... for part in index) else (*index, ...)), gathers

    def __getitem__(self, key):
        index, gathers = self._index(key)
        return _in_c_order(_wrap(self._host[index])) if gathers else _wrap(self._host[index])

    def __setitem__(self, key, value):
        index, gathers = self._index(key)
        if isinstance(value, list | tuple):
            raise TypeError(f"Unsupported type {type(value)}: assign device arrays or scalars.")
        if gathers:
            cells = np.arange(self.size).reshape(self.shape)[index]
            if len(np.unique(cells)) < cells.size:
                raise IndexError("Assignment through repeated indices is undefined on a GPU: gather instead.")
        value = _unwrap(value)
        self._host[index] = value
        if not _is_view(value, [self._array]):
            _note("launches", "an assignment")

    def astype(self, dtype, order="K", copy=True):
        if not copy and order == "K" and self._array.dtype == dtype:
            return self
        _note("launches", "astype")
        return _wrap(self._host.astype(dtype, order=order))

    def fill(self, value):
        self._host.fill(_unwrap(value))


_memory = weakref.WeakValueDictionary()


class _OfThread(threading.local):
    """A thread's streams, and while one of them captures, the memory that it touches, with what that held before."""

    def __init__(self):
        self.streams, self.touched = [], None


_of_thread = _OfThread()


def _root(array):
    """Return the array that owns the memory of a view."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def _touch(root, new=False):
    """Keep what memory holds that a capture may write into: other threads go on with theirs meanwhile."""
    if _of_thread.touched is not None and id(root) not in _of_thread.touched:
        _of_thread.touched[id(root)] = root, None if new else root.copy()


class Stream:
    """A CUDA stream: what it captures is noted, and undone at the end, since a capture computes nothing."""

    def __init__(self, null=False, non_blocking=False):
        self.null, self.non_blocking, self._recording = null, non_blocking, None

    def __enter__(self):
        _of_thread.streams.append(self)
        return self

    def __exit__(self, *_):
        _of_thread.streams.remove(self)

    def synchronize(self):
        _note("waits", "synchronize()")

    def is_capturing(self):
        return self._recording is not None

    def begin_capture(self):
        if self.null:
            raise RuntimeError("cannot capture on the default (legacy) stream")
        self._recording, _of_thread.touched = Recording(), {}
        self._recording.__enter__()

    def end_capture(self):
        self._recording.__exit__(None, None, None)
        touched, _of_thread.touched = _of_thread.touched, None
        for array, before in touched.values():
            if array.flags.writeable and before is None:
                array.flat[...] = np.nan if array.dtype.kind == "f" else 0
            elif array.flags.writeable and array.tobytes() != before.tobytes():
                array.flat[...] = before.flat
        graph, self._recording = Graph(self._recording), None
        return graph


class Graph:
    """A captured graph: launching it does all of its work again."""

    def __init__(self, recording):
        self._recording = recording

    def launch(self, stream=None):
        _note("launches", "a graph")
        with np.errstate(all="ignore"):
            self._recording.replay()


def captures():
    """Whether a stream of this thread captures."""
    return _of_thread.touched is not None


def _default_pool():
    """The pool from which arrays are taken where no other is in use."""
    return MemoryPool()


def _current_stream():
    return _of_thread.streams[-1] if _of_thread.streams else Stream(null=True)


class MemoryPool:
    """A pool, of which only the name matters here."""

    def malloc(self, size):
        raise NotImplementedError

    def free_all_blocks(self):
        """Give everything that is free back."""


def _asarray(a, dtype=None, order=None):
    """The explicit copy from host to device; a device array is only cast or reordered where it has to be."""
    if not isinstance(a, ndarray):
        return _array(a, dtype)
    dtype = a.dtype if dtype is None else np.dtype(dtype)
    return a if a.dtype == dtype and (order is None or a.flags.c_contiguous) else a.astype(dtype, order or "K")


def _array(obj, dtype=None, copy=True):
    if isinstance(obj, ndarray):
        return obj.astype(obj.dtype if dtype is None else dtype) if copy else _asarray(obj, dtype)
    _note("transfers", "asarray of host data")
    return _wrap(np.array(obj, dtype))


def _matmul(a, b, out=None):
    """Matrix product: only two axes are fast; ``out`` in another than C order would be a copy."""
    if not isinstance(a, ndarray) or not isinstance(b, ndarray):
        raise TypeError(f"Unsupported types {type(a)} and {type(b)} for matmul.")
    if max(a.ndim, b.ndim) > 2:
        _note("slow_matmuls", "matmul")
    if out is not None and not out.flags.c_contiguous:
        raise ValueError(f"matmul needs out= in C order. Received: shape {out.shape}, strides {out.strides}.")
    return _run(np.matmul, (a, b), {"order": "C"}, out)


def _where(condition, x, y):
    """The choice between two arrays; the form with one argument waits, so it is not offered."""
    return _in_c_order(_run(np.where, (condition, x, y), {}))


def _as_strided(x, shape, strides):
    """A view. CuPy does not look; this checks that it stays in memory, and lets nobody write a cell twice."""
    root = _root(x._array)
    view = np.lib.stride_tricks.as_strided(x._array, shape, strides)
    (low, high), (first, end) = map(np.lib.array_utils.byte_bounds, (view, root))
    if view.size and not first <= low <= high <= end:
        raise ValueError(f"as_strided leaves its {root.nbytes} bytes: shape {shape}, strides {strides}.")
    covered, overlaps = x.itemsize, False
    for stride, size in sorted((abs(s), size) for s, size in zip(strides, shape, strict=True) if size > 1):
        overlaps, covered = overlaps or stride < covered, covered + stride * (size - 1)
    if overlaps:
        view.flags.writeable = False
    return _wrap(view)


_UFUNCS = words(
    """absolute add bitwise_and bitwise_or bitwise_xor divide equal exp expm1 floor floor_divide greater
    greater_equal invert isfinite isinf isnan left_shift less less_equal log log1p logaddexp logical_and
    logical_not logical_or logical_xor maximum minimum multiply negative not_equal positive power reciprocal
    remainder right_shift rint sign sqrt square subtract tanh"""
)
#: Functions by CuPy's parameters: those before the star may be positional, those after it are keywords only.
_FUNCTIONS = {
    "shape dtype": "empty zeros ones", "a dtype * order shape": "zeros_like ones_like",
    "a axis dtype out keepdims": "sum mean prod", "a axis dtype out ddof keepdims": "var std",
    "a axis out keepdims": "max min amax amin any all", "a axis * out keepdims": "argmax argmin",
    "a axis": "argsort sort squeeze expand_dims flip", "tup axis * out": "concatenate stack",
    "a b": "may_share_memory shares_memory", "prototype dtype * order shape": "empty_like",
    "start stop step dtype": "arange", "array shape": "broadcast_to", "a a_min a_max out": "clip",
    "dst src * where": "copyto", "a axis dtype out": "cumsum", "a b out": "dot", "N M k dtype": "eye",
    "shape fill_value dtype": "full", "a fill_value dtype": "full_like", "a source destination": "moveaxis",
    "array pad_width mode * constant_values": "pad", "a order": "ravel copy", "a repeats axis": "repeat",
    "a newshape order": "reshape", "a shift axis": "roll", "a k axes": "rot90",
    "a axis1 axis2": "swapaxes", "a indices axis out": "take", "a indices axis": "take_along_axis",
    "a b axes": "tensordot", "A reps": "tile", "a axes": "transpose",
}  # fmt: skip
_KEEPING_LAYOUT = words(
    """empty_like zeros_like ones_like full_like squeeze expand_dims flip broadcast_to copyto
    moveaxis ravel copy reshape rot90 swapaxes transpose"""
)
_CONSTANTS = words(
    """bool_ dtype finfo float16 float32 float64 floating iinfo inf int8 int16 int32 int64 integer intp
    issubdtype nan newaxis pi promote_types result_type uint8 uint16 uint32 uint64"""
)


def _function(name, parameters):
    """NumPy's function with CuPy's parameters and layout of results."""
    positional, known = len(words(parameters.partition("*")[0])), set(words(parameters))

    def call(*args, **keywords):
        if len(args) > positional or not keywords.keys() <= known:
            raise TypeError(f"{name} takes {parameters}. Received: {len(args)} arguments and {[*keywords]}.")
        out = keywords.pop("out", None)
        result = _run(getattr(np, name), args, keywords, out)
        return result if out is not None or name in _KEEPING_LAYOUT else _in_c_order(result)

    return call


def _missing(name):
    raise AttributeError(f"The strict stand-in has no {name!r}: CuPy lacks it, or it is slow or waits there.")


xp = ModuleType("strict")
vars(xp).update(__getattr__=_missing, ndarray=ndarray, asarray=_asarray, array=_array, matmul=_matmul)
vars(xp).update({name: Ufunc(name) for name in _UFUNCS}, where=_where)
for _parameters, _names in _FUNCTIONS.items():
    vars(xp).update({name: _function(name, _parameters) for name in words(_names)})
vars(xp).update({name: getattr(np, name) for name in _CONSTANTS}, abs=xp.absolute, true_divide=xp.divide)
xp.ascontiguousarray = lambda a, dtype=None: _asarray(a, dtype, "C")
xp.count_nonzero = lambda a, axis=None: xp.sum(a != 0, axis)


class OutOfMemoryError(MemoryError):
    """What CuPy raises where the device has no memory left."""


class Device:
    """The only device, current in every thread."""

    #: Few multiprocessors, since kernels that are run here work one block after the other.
    id, attributes, compute_capability = 0, {"MultiProcessorCount": 4}, "90"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


_DEVICE = Device()
xp.cuda = SimpleNamespace(
    Device=lambda: _DEVICE, Stream=Stream, MemoryPool=MemoryPool, get_current_stream=_current_stream,
    using_allocator=lambda allocator: contextlib.nullcontext(),
    memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
    runtime=SimpleNamespace(memGetInfo=lambda: (2**30, 2**31)),
)  # fmt: skip
xp.get_default_memory_pool = _default_pool
xp.lib = SimpleNamespace(stride_tricks=SimpleNamespace(as_strided=_as_strided))

for _name in words("dtype itemsize nbytes ndim shape size strides T"):
    setattr(ndarray, _name, property(lambda self, name=_name: _wrap(getattr(self._array, name))))
for _name in words("copy flatten reshape sort transpose view"):
    setattr(ndarray, _name, lambda self, *a, name=_name, **k: _wrap(getattr(self._host, name)(*a, **k)))
for _name in words(
    "all any argmax argmin argsort clip cumsum max mean min prod ravel repeat squeeze sum swapaxes take var"
):
    setattr(ndarray, _name, partialmethod(getattr(xp, _name)))
