"""Counts of a batch, one kernel each."""

from __future__ import annotations

import numpy as np

from xpcnn.backend import Array, ArrayModule
from xpcnn.ops.cuda.compiler import THREADS, check_size, kernel
from xpcnn.ops.workspace import Workspace, to_batch_last


def hits(xp: ArrayModule, outputs: Array, labels: Array) -> Array:
    """See :func:`xpcnn.ops.counts.hits`."""
    return _counted(xp, "hits", outputs, labels, 2)


def confusion(xp: ArrayModule, outputs: Array, labels: Array) -> Array:
    """See :func:`xpcnn.ops.counts.confusion`."""
    return _counted(xp, "confusion", outputs, labels, outputs.shape[1] ** 2)


def _counted(xp: ArrayModule, name: str, outputs: Array, labels: Array, size: int) -> Array:
    check_size(outputs)
    outputs, counts = to_batch_last(outputs, Workspace(xp)), xp.empty(size, dtype=np.int64)
    kernel(xp, "counts", name, outputs.dtype)((1,), (THREADS,), outputs, labels, counts, *outputs.shape)
    return counts
