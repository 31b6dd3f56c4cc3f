"""Which array module computes: NumPy or CuPy, and how arrays cross between host and device.

The only room that imports CuPy, and only once somebody has chosen it.
"""

from __future__ import annotations

import functools
import importlib
import os
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy

#: An array of whichever module computes: ``numpy.ndarray`` or ``cupy.ndarray``.
Array: TypeAlias = Any
#: The module itself, always called ``xp``.
ArrayModule: TypeAlias = Any

ENVIRONMENT_VARIABLE = "XPCNN_BACKEND"
NAMES = ("numpy", "cupy", "auto")


class BackendError(RuntimeError):
    """The backend that was asked for does not exist or cannot compute on this machine."""


@dataclass(frozen=True)
class Choice:
    """An array module and, in words, why it was chosen."""

    xp: ArrayModule
    reason: str


@functools.cache
def probe_cupy() -> tuple[ArrayModule | None, str]:
    """Import CuPy and compute with it once; return the module, or None, and what was seen.

    ``cupy.cuda.is_available()`` does not promise that the CUDA libraries load, so a small matrix product and a
    copy back to the host decide.
    """
    try:
        cupy = importlib.import_module("cupy")
    except ImportError as error:
        return None, f"CuPy cannot be imported ({error})"
    try:
        ones = cupy.ones((2, 2), dtype=numpy.float32)
        if float((ones @ ones + ones).get().sum()) != 12.0:
            return None, "CuPy computed a wrong matrix product"
        device = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)["name"].decode()
    except Exception as error:  # CuPy raises many kinds when a driver or a library is missing
        first_line = (str(error) or type(error).__name__).splitlines()[0]
        return None, f"CuPy {cupy.__version__} is installed but no CUDA device works ({first_line})"
    return cupy, f"CuPy {cupy.__version__} computes on {device}"


def choose(name: str | None = None) -> Choice:
    """Choose the array module by name; None asks the environment variable ``XPCNN_BACKEND``, else ``auto``.

    Raises :class:`BackendError` for an unknown name, or for ``cupy`` where no CUDA device works.

    >>> choose("numpy").xp.__name__
    'numpy'
    """
    if name is None:
        name, asked_by = os.environ.get(ENVIRONMENT_VARIABLE) or "auto", f" in {ENVIRONMENT_VARIABLE}"
    else:
        asked_by = ""
    if name not in NAMES:
        raise BackendError(f"There is no backend {name!r}{asked_by}. Use one of: {', '.join(NAMES)}.")
    if name == "numpy":
        return Choice(numpy, "numpy was asked for")
    cupy, seen = probe_cupy()
    if cupy is not None:
        return Choice(cupy, seen)
    if name == "cupy":
        raise BackendError(
            f"The backend 'cupy' was asked for{asked_by}, but {seen}. Install the driver and "
            "`pip install xpcnn[cuda12]` or `xpcnn[cuda13]`, or choose the backend 'numpy'."
        )
    return Choice(numpy, f"{seen}, so NumPy computes")


def resolve(xp: ArrayModule | str | None = None) -> ArrayModule:
    """Return the array module for ``xp``: a module stays as it is; a name or None is looked up by :func:`choose`."""
    return choose(xp).xp if xp is None or isinstance(xp, str) else xp


def is_host(xp: ArrayModule) -> bool:
    """Whether arrays of ``xp`` live in the memory that NumPy and threads share."""
    return xp is numpy


def has_kernels(xp: ArrayModule) -> bool:
    """Whether ``xp`` compiles and launches CUDA kernels."""
    return not is_host(xp) and hasattr(xp, "RawModule")


def has_graphs(xp: ArrayModule) -> bool:
    """Whether ``xp`` captures CUDA graphs."""
    return not is_host(xp) and hasattr(xp, "cuda")


def to_host(array: Array) -> numpy.ndarray[Any, Any]:
    """Copy a device array to a NumPy array; a NumPy array is returned as it is."""
    return array if isinstance(array, numpy.ndarray) else array.get()


def to_device(xp: ArrayModule, array: Array) -> Array:
    """Bring an array of any module to ``xp``; nothing is copied where it is there already."""
    return to_host(array) if is_host(xp) else xp.asarray(array)
