"""The kernels in the CUDA sources of this folder, compiled when first launched; CuPy caches the result on disk."""

from __future__ import annotations

import functools
import re
from collections.abc import Collection
from importlib import resources
from typing import Any

import numpy as np

from xpcnn.backend import Array, ArrayModule
from xpcnn.ops.cuda.ahead import Module
from xpcnn.precision import computed_dtype

#: Threads per block, where nothing requires another number.
THREADS = 256
#: Blocks and threads per multiprocessor that keep it busy.
BLOCKS_EACH, THREADS_EACH = 4, 512
#: Blocks of 256 threads, with 128 registers each, that fit a multiprocessor at once.
FITTING_BLOCKS = 2
#: Bytes of shared memory per block that every GPU has.
SHARED_BYTES = 48 * 1024
#: Most elements that a kernel can index with an int.
MOST_ELEMENTS = 2**31 - 1

_C_NAMES = {
    "float32": "float", "float64": "double",
    "uint8": "unsigned char", "uint16": "unsigned short", "uint32": "unsigned int",
}  # fmt: skip
#: The types of stored.cuh, by the dtypes that hold their bits.
_STORED_NAMES = {"uint16": "Bfloat16", "float16": "Float16"}
#: The C types that an array of floating-point numbers may have in a kernel; one of uint16 may be of integers too.
_FLOATS = {
    np.dtype(np.float32): {"float"}, np.dtype(np.float64): {"double"}, np.dtype(np.float16): {"Float16"},
    np.dtype(np.uint16): {"Bfloat16", "unsigned short"},
}  # fmt: skip


class Kernel:
    """One function of a CUDA source, for one dtype.

    types: the C names of the types that its source was compiled with, and no other floating-point arrays are passed on.
    """

    def __init__(self, module: Module, name: str, dtype: np.dtype[Any], types: Collection[Any] = ()) -> None:
        self._module, self._name, self._real = module, name, dtype.type
        self._types = {c_name(dtype), *types}

    def __call__(self, grid: tuple[int, ...], block: tuple[int, ...], *arguments: Any, shared: int = 0) -> None:
        """Launch the kernel, passing arrays as pointers, None as a null pointer, ints as int, floats in its dtype.

        NumPy scalars and structures of one element are passed by value. shared: values of shared memory.
        """
        function = self._module.function(self._name)
        if function is not None:
            passed = tuple(self._passed(argument) for argument in arguments)
            function(grid, block, passed, shared_mem=shared * self._real().itemsize)

    def for_each(self, size: int, *arguments: Any) -> None:
        """Launch a thread for each of ``size`` elements."""
        self((ceil_divide(size, THREADS),), (THREADS,), *arguments)

    def _passed(self, argument: Any) -> Any:
        if type(argument) in (int, bool):
            return np.int32(argument)
        if type(argument) is float:
            return self._real(argument)
        dtype = getattr(argument, "dtype", None)
        if dtype in _FLOATS and not self._types & _FLOATS[dtype]:
            raise TypeError(f"The kernel {self._name} was compiled for other arrays than of {dtype}.")
        return argument


@functools.cache
def kernel(xp: ArrayModule, source: str, name: str, dtype: Any, **constants: int | str) -> Kernel:
    """Return the function ``name`` of ``source``.cu for images of a dtype, with these constants.

    Raises TypeError for images in 16 bits, see stored.cuh, if the source has none. Its first launch raises whatever the
    array module raises if there is no compiler or the source does not compile.
    """
    dtype = computed_dtype(stored := np.dtype(dtype))
    if stored != dtype:
        if "IMAGE" not in _expanded(source):
            raise TypeError(f"{source}.cu takes no images that are stored as {stored}.")
        constants["IMAGE"] = stored_name(stored)
    return Kernel(_module(xp, source, REAL=c_name(dtype), **constants), name, dtype, constants.values())


@functools.cache
def _module(xp: ArrayModule, source: str, **constants: int | str) -> Module:
    return Module(xp, text(source, **constants))


def text(source: str, **constants: int | str) -> str:
    """Return the text of ``source``.cu with its includes expanded, after definitions of the constants."""
    return "".join(f"#define {name} {value}\n" for name, value in constants.items()) + _expanded(source)


@functools.cache
def _expanded(source: str) -> str:
    """Return a source with its includes expanded, so that changing a header changes the source."""
    folder = resources.files(__package__)

    def included(line: re.Match[str]) -> str:
        return (folder / line[1]).read_text(encoding="utf-8")

    return re.sub(r'#include "(.*)"', included, (folder / f"{source}.cu").read_text(encoding="utf-8"))


def c_name(dtype: Any) -> str:
    """Return the C name of a dtype."""
    return _C_NAMES[np.dtype(dtype).name]


def stored_name(dtype: Any) -> str:
    """Return the C name of the type of images of a dtype, see stored.cuh."""
    return _STORED_NAMES.get(np.dtype(dtype).name, "REAL")


def multiprocessors(xp: ArrayModule) -> int:
    """Return how many multiprocessors the current GPU has: 132 on an H100."""
    return count_multiprocessors(xp, xp.cuda.Device().id)


@functools.cache
def count_multiprocessors(xp: ArrayModule, device: int) -> int:
    """Return how many multiprocessors a GPU has."""
    return int(xp.cuda.Device().attributes["MultiProcessorCount"])


def many_blocks(xp: ArrayModule) -> int:
    """Return how many blocks keep the GPU busy."""
    return BLOCKS_EACH * multiprocessors(xp)


def many_threads(xp: ArrayModule) -> int:
    """Return how many threads keep the GPU busy."""
    return THREADS_EACH * multiprocessors(xp)


def ceil_divide(size: int, part: int) -> int:
    """Return how many parts are needed to cover ``size``: size / part, rounded up."""
    return -(-size // part)


def structure(**fields: int) -> np.ndarray[Any, Any]:
    """Return ints as a C structure, to be passed to a kernel by value."""
    values = tuple(int(value) for value in fields.values())
    return np.array(values, dtype=[(name, np.int32) for name in fields])


def check_size(*arrays: Array) -> None:
    """Raise ValueError for an array with more elements than kernels can index."""
    for array in arrays:
        if array.size > MOST_ELEMENTS:
            raise ValueError(
                f"An array of shape {array.shape} has more than {MOST_ELEMENTS:,} elements, the most that a kernel can "
                "index. Use a smaller batch_size."
            )
