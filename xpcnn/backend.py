"""Choosing the array module, NumPy or CuPy, and copying arrays between host and device.

The only module that imports CuPy, and only when it is chosen. Numba compiles kernels for NumPy's arrays: its backend is
NumPy under another name, by which :func:`kernels` finds them. Chosen by ``auto``, it compiles them only for runs that
are long enough, see :func:`for_run`.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import importlib.metadata
import importlib.util
import os
import re
import warnings
from dataclasses import dataclass
from types import ModuleType
from typing import Any, NamedTuple, TypeAlias

import numpy

from xpcnn.extras import install_line
from xpcnn.hints import did_you_mean

#: An array of either module: ``numpy.ndarray`` or ``cupy.ndarray``.
Array: TypeAlias = Any
#: The array module itself, always called ``xp``.
ArrayModule: TypeAlias = Any

ENVIRONMENT_VARIABLE = "XPCNN_BACKEND"
NAMES = ("numpy", "numba", "cupy", "auto")


class _CompiledNumPy(ModuleType):
    """NumPy for networks that compiled kernels compute: all its names are NumPy's."""

    def __getattr__(self, name: str) -> Any:
        return getattr(numpy, name)


_NUMBA, _NUMBA_IF_LONG = _CompiledNumPy("numba"), _CompiledNumPy("numba")
for _module in (_NUMBA, _NUMBA_IF_LONG):
    _module.__dict__.update({name: value for name, value in vars(numpy).items() if not name.startswith("__")})

#: Multiplications of a run, forward and backward, that are worth compiling kernels: without them it takes some 15 s on
#: two processors, and compiling takes up to 10 s.
WORTH_COMPILING = 4e11


class BackendError(RuntimeError):
    """The requested backend does not exist or does not work on this machine."""


@dataclass(frozen=True)
class Choice:
    """An array module and, in words, the reason for choosing it."""

    xp: ArrayModule
    reason: str


class Probe(NamedTuple):
    """The array module of CuPy or Numba, if it works here, what was found, and what to do if it does not."""

    xp: ArrayModule | None
    seen: str
    advice: str = ""


#: A kernel that does nothing: compiling it needs NVRTC and CUDA's headers, which CuPy's packages lack.
NOTHING = 'extern "C" __global__ void nothing() {}'


@functools.cache
def probe_cupy() -> Probe:
    """Import CuPy and try one computation.

    ``cupy.cuda.is_available()`` does not guarantee that the CUDA libraries load, so a small matrix product, a kernel
    and a copy back to the host are tried.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # CuPy's own warning about two packages, which are refused below
            cupy = importlib.import_module("cupy")
        failure = None
    except ImportError as error:
        failure = f"CuPy cannot be imported ({error})"
        if isinstance(error, ModuleNotFoundError) and error.name == "cupy":  # no need to search all packages
            return Probe(None, failure, _install())
    packages = _cupy_packages()
    if len(packages) > 1:
        names = " and ".join(packages)
        return Probe(
            None,
            f"{names} are installed together and overwrite each other's files",
            f"Run `pip uninstall {' '.join(packages)}`, then install the one that fits the driver.",
        )
    if failure is not None:
        return Probe(None, failure, _install())
    try:
        ones = cupy.ones((2, 2), dtype=numpy.float32)
        cupy.RawModule(code=NOTHING).get_function("nothing")((1,), (1,), ())
        if float((ones @ ones + ones).get().sum()) != 12.0:
            return Probe(None, "CuPy computed a wrong matrix product", "Reinstall it, or update the driver.")
        device = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)["name"].decode()
    except Exception as error:  # CuPy raises many kinds of errors if a driver or a library is missing
        first_line = (str(error) or type(error).__name__).splitlines()[0]
        seen = f"CuPy {cupy.__version__} is installed but no CUDA device works ({first_line})"
        return Probe(None, seen, _advice(error, packages))
    return Probe(cupy, f"CuPy {cupy.__version__} computes on {device}")


@functools.cache
def probe_numba() -> Probe:
    """Import Numba, which compiles kernels for NumPy's arrays."""
    try:
        numba = importlib.import_module("numba")
    except ModuleNotFoundError as error:
        if error.name == "numba":
            return Probe(None, "Numba is not installed", f"Run `{install_line('fast')}`.")
        return Probe(None, f"Numba cannot be imported ({error})", "Reinstall it.")
    except Exception as error:  # such as for a NumPy that is too new
        return Probe(None, f"Numba cannot be imported ({error})", "Install a version that fits Python and NumPy.")
    if numba.config.DISABLE_JIT:
        return Probe(None, "NUMBA_DISABLE_JIT is set", "Unset it.")
    return Probe(_NUMBA, f"Numba {numba.__version__} compiles kernels for NumPy's arrays")


def _install() -> str:
    return f"Run `{install_line('cuda12')}` or, for CUDA 13, `{install_line('cuda13')}`."


def _cupy_packages() -> list[str]:
    """Return the installed packages that provide CuPy, of which there must be at most one."""
    names = (distribution.metadata["Name"] for distribution in importlib.metadata.distributions())
    return sorted({name for name in names if name and re.fullmatch(r"cupy(-cuda\d+x?|-rocm-[\d-]+)?", name)})


def _advice(error: Exception, packages: list[str]) -> str:
    """Return what to do about an error from CuPy, in one sentence."""
    text = f"{type(error).__name__} {error}".lower()
    if "insufficientdriver" in text:
        if not _has_driver():
            return "There is no NVIDIA driver on this machine: install it, or use a machine with an NVIDIA GPU."
        line = install_line("cuda12")
        return (
            f"The driver is too old for this CUDA: update it, or replace cupy-cuda13x: uninstall it and run `{line}`."
        )
    if isinstance(error, ImportError | OSError) or "lib" in text or "nvrtc" in text or "header" in text:
        package = packages[0] if packages else "cupy-cuda12x"
        return f'CUDA\'s libraries are missing: run `pip install "{package}[ctk]"`, which includes them.'
    return "Check `nvidia-smi`, which shows whether the driver finds a free GPU."


def _has_driver() -> bool:
    try:
        ctypes.CDLL("libcuda.so.1" if os.name == "posix" else "nvcuda.dll")
    except OSError:
        return False
    return True


def choose(name: str | None = None) -> Choice:
    """Choose the array module by name; None uses the environment variable ``XPCNN_BACKEND``, else ``auto``.

    Raises :class:`BackendError` for an unknown name, or for ``cupy`` if no CUDA device works.

    >>> choose("numpy").xp.__name__
    'numpy'
    """
    if name is None:
        name, asked_by = os.environ.get(ENVIRONMENT_VARIABLE) or "auto", f" in {ENVIRONMENT_VARIABLE}"
    else:
        asked_by = ""
    if name not in NAMES:
        hint = did_you_mean("backend", name, NAMES)
        raise BackendError(f"There is no backend {name!r}{asked_by}.{hint} Use one of: {', '.join(NAMES)}.")
    if name == "numpy":
        return Choice(numpy, "numpy was requested")
    if name == "numba":
        compiled, seen, advice = probe_numba()
        if compiled is None:
            raise BackendError(
                f"The backend 'numba' was requested{asked_by}, but {seen}. {advice} Or choose the backend 'numpy'."
            )
        return Choice(compiled, seen)
    cupy, seen, advice = probe_cupy()
    if cupy is not None:
        return Choice(cupy, seen)
    if name == "cupy":
        raise BackendError(
            f"The backend 'cupy' was requested{asked_by}, but {seen}. {advice} Or choose the backend 'numpy'."
        )
    if importlib.util.find_spec("numba") is None:
        return Choice(numpy, f"{seen}, and Numba is not installed, so NumPy computes")
    return Choice(_NUMBA_IF_LONG, f"{seen}; NumPy computes, and Numba compiles kernels for long runs")


def for_run(xp: ArrayModule, multiplications: float) -> ArrayModule:
    """Return the array module for a run of so many multiplications: with Numba chosen by ``auto``, kernels or not.

    It depends on nothing else, so that the same run has the same bits. Where Numba does not work, this warns.
    """
    if xp is not _NUMBA_IF_LONG:
        return xp
    if multiplications < WORTH_COMPILING:
        return numpy
    compiled, seen, advice = probe_numba()
    if compiled is None:
        warnings.warn(f"{seen}, so NumPy computes without compiled kernels. {advice}", stacklevel=2)
        return numpy
    return compiled


def request_of(xp: ArrayModule) -> str:
    """Return the name by which :func:`choose` finds this array module again."""
    return "auto" if xp is _NUMBA_IF_LONG else str(xp.__name__)


def is_host(xp: ArrayModule) -> bool:
    """Whether arrays of ``xp`` are in host memory, which threads share."""
    return xp is numpy or isinstance(xp, _CompiledNumPy)


def kernels(xp: ArrayModule) -> str | None:
    """Return which kernels stand in for the functions of ``ops/``: "cpu", "cuda" or None."""
    if is_host(xp):
        return "cpu" if xp is _NUMBA else None  # and none outside of a run
    return "cuda" if hasattr(xp, "RawModule") else None


def has_graphs(xp: ArrayModule) -> bool:
    """Whether ``xp`` captures CUDA graphs."""
    return not is_host(xp) and hasattr(xp, "cuda")


def is_out_of_memory(xp: ArrayModule, error: BaseException) -> bool:
    """Whether an error means that the device is out of memory."""
    return has_graphs(xp) and isinstance(error, xp.cuda.memory.OutOfMemoryError)


def to_host(array: Array) -> numpy.ndarray[Any, Any]:
    """Copy a device array to a NumPy array; return a NumPy array unchanged."""
    return array if isinstance(array, numpy.ndarray) else array.get()


def has_device_groups() -> bool:
    """Whether this CuPy has NCCL, which sums arrays over the devices of several processes."""
    try:
        return bool(importlib.import_module("cupy.cuda.nccl").available)
    except (ImportError, AttributeError):
        return False


def device_group(size: int, rank: int) -> Any:
    """Return the NCCL communicator over the devices of all MPI ranks, each of which calls this function."""
    return importlib.import_module("cupyx.distributed").init_process_group(size, rank, use_mpi=True)


def host_array(values: Any) -> numpy.ndarray[Any, Any]:
    """Return array-like values as a NumPy array, copied only if they are not in host memory.

    values: nested lists, or objects with ``__array__``, DLPack or the CUDA array interface, such as arrays of NumPy,
    CuPy, PyTorch and JAX and pandas tables. Raises TypeError for values that cannot be converted to one array, and
    ValueError for masked values, since what lies under a mask would count.

    >>> host_array([[1, 2], [3, 4]]).shape
    (2, 2)
    """
    if isinstance(values, numpy.ma.MaskedArray):
        if numpy.ma.is_masked(values):
            raise ValueError(
                f"{numpy.ma.getmaskarray(values).sum()} of the array's {values.size} values are masked, and masks are "
                "not used. Fill them with array.filled(value), or leave out those rows."
            )
        return values.data
    if isinstance(values, numpy.ndarray):
        return values
    if isinstance(values, list | tuple) and any(isinstance(value, numpy.ma.MaskedArray) for value in values):
        values = [host_array(value) for value in values]
    for step in ("detach", "cpu"):  # for PyTorch, whose tensors may require gradients or be on a device
        values = getattr(values, step, lambda same=values: same)()
    if hasattr(values, "__cuda_array_interface__"):
        values = values if hasattr(values, "get") else choose("cupy").xp.asarray(values)
        return to_host(values)
    try:
        if hasattr(values, "__dlpack__") and not hasattr(values, "__array__"):
            return numpy.from_dlpack(values)
        return numpy.asarray(values)
    except (TypeError, ValueError, BufferError, RuntimeError) as error:
        kind = getattr(values, "dtype", type(values).__name__)
        raise TypeError(
            f"This cannot be converted to a NumPy array of numbers: {error}. Received: {kind}. "
            "Give arrays of the same shape, of integers or of 16-, 32- or 64-bit floats."
        ) from error


def to_device(xp: ArrayModule, array: Array) -> Array:
    """Copy an array of any module to ``xp``; nothing is copied if it is there already."""
    return to_host(array) if is_host(xp) else xp.asarray(array)
