"""What a GPU's products and convolutions compute in: float32, or in another precision on tensor cores.

A precision is another name for the same array module, by which the functions of ``ops/cuda`` find theirs.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np

from xpcnn.backend import ArrayModule, BackendError, choose, is_host, kernels
from xpcnn.hints import did_you_mean

PRECISION_VARIABLE = "XPCNN_PRECISION"
#: What products and convolutions on a GPU can compute in; the default first.
PRECISIONS = ("float32", "tf32", "bfloat16", "float16")
#: The dtypes of images that are stored in 16 bits. NumPy has no bfloat16: integers hold its bits, for kernels alone.
STORED: Mapping[str, np.dtype[Any]] = {"bfloat16": np.dtype(np.uint16), "float16": np.dtype(np.float16)}
#: The first compute capability with tensor cores for the other precisions.
TENSOR_CORES_SINCE = 80


class _InPrecision(ModuleType):
    """A device's array module, whose products and convolutions compute in another precision; its names are the same."""

    def __init__(self, xp: ArrayModule, precision: str) -> None:
        super().__init__(xp.__name__)
        self.module, self.precision = xp, precision

    def __getattr__(self, name: str) -> Any:
        return getattr(self.module, name)


def asked_precision() -> str:
    """Return the value of ``XPCNN_PRECISION``, else "float32"; it may name none."""
    return os.environ.get(PRECISION_VARIABLE) or "float32"


def in_precision(xp: ArrayModule, precision: str | None = None, asked_by: str = "") -> ArrayModule:
    """Return the array module whose products and convolutions compute in a precision: another name for the same module.

    precision: None is the value of ``XPCNN_PRECISION``, else "float32". asked_by: who asked for it, for errors. Raises
    :class:`~xpcnn.backend.BackendError` for an unknown precision, or for one that the host or this GPU does not have.

    >>> import numpy
    >>> in_precision(numpy, "float32") is numpy
    True
    """
    if precision is None:
        precision, asked_by = asked_precision(), f" in {PRECISION_VARIABLE}"
    if precision not in PRECISIONS:
        hint = did_you_mean("precision", precision, PRECISIONS)
        raise BackendError(f"There is no precision {precision!r}{asked_by}.{hint} Use one of: {', '.join(PRECISIONS)}.")
    plain = xp.module if isinstance(xp, _InPrecision) else xp
    if precision == "float32":
        return plain
    requested = f"The precision {precision!r} was requested{asked_by}, but "
    if is_host(xp):
        raise BackendError(
            f"{requested}{xp.__name__} computes in float32 alone. Use the precision 'float32', or the backend 'cupy'."
        )
    capability = str(xp.cuda.Device().compute_capability)
    if int(capability) < TENSOR_CORES_SINCE:
        raise BackendError(
            f"{requested}this GPU has compute capability {capability[:-1]}.{capability[-1]}, and tensor cores for it "
            "came with 8.0. Use the precision 'float32'."
        )
    return _named(plain, precision)


@functools.cache
def _named(xp: ArrayModule, precision: str) -> ArrayModule:
    return _InPrecision(xp, precision)  # one for each, since compiled kernels are kept by array module


def precision_of(xp: ArrayModule) -> str:
    """Return the precision in which products and convolutions compute, one of :data:`PRECISIONS`."""
    return xp.precision if isinstance(xp, _InPrecision) else "float32"


def stored_dtype(xp: ArrayModule) -> np.dtype[Any] | None:
    """Return the dtype in which kernels can store images between layers, or None for that in which they compute."""
    return STORED.get(precision_of(xp)) if kernels(xp) == "cuda" else None


def computed_dtype(dtype: Any) -> np.dtype[Any]:
    """Return the dtype in which kernels compute with images of a dtype: float32 for those stored in 16 bits."""
    return np.dtype(np.float32) if dtype in STORED.values() else np.dtype(dtype)


def resolve(xp: ArrayModule | str | None = None, precision: str | None = None) -> ArrayModule:
    """Return the array module for ``xp``: a module as it is; for a name or None, that of :func:`~xpcnn.backend.choose`.

    precision: as of :func:`in_precision`, for a name or None.
    """
    return in_precision(choose(xp).xp, precision) if xp is None or isinstance(xp, str) else xp
