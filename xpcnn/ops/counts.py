"""Correct predictions and the confusion matrix, counted without waiting for a device."""

from __future__ import annotations

import numpy as np

from xpcnn.backend import Array, ArrayModule
from xpcnn.ops.dispatch import with_kernels


@with_kernels("cuda")
def hits(xp: ArrayModule, outputs: Array, labels: Array) -> Array:
    """Return int64 (correct, total) for outputs (n, classes) and labels (n,); of equal outputs, the first counts."""
    right = outputs.argmax(axis=1) == labels
    counts = xp.full(2, right.size, dtype=np.int64)
    counts[0] = right.sum()
    return counts


@with_kernels("cuda")
def confusion(xp: ArrayModule, outputs: Array, labels: Array) -> Array:
    """Return the flat int64 confusion matrix of outputs (n, classes) and labels (n,): a row for each true class."""
    classes = xp.arange(outputs.shape[1])
    # A product of one-hot matrices counts without colliding writes; float32 is exact up to 2^24.
    true = (labels.reshape(-1, 1) == classes).astype(np.float32)
    predicted = (outputs.argmax(axis=1).reshape(-1, 1) == classes).astype(np.float32)
    return (true.T @ predicted).astype(np.int64).reshape(-1)
