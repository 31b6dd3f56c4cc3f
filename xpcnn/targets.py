"""The targets of a batch: labels or rows, checked and encoded on the host before they are copied to a device."""

from __future__ import annotations

import reprlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from xpcnn.backend import host_array

HostArray = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Targets:
    """The targets of a batch, encoded for one loss, on the host.

    encoded: (n, width), what the loss compares the outputs with; labels: (n,) int64, the class of each image, or None
    if the targets are not classes; weights: (n, 1), the factor of each image's loss, or None; shares: (n,) float64,
    what each image adds to the normalizer.
    """

    encoded: HostArray
    labels: HostArray | None
    weights: HostArray | None
    shares: HostArray

    @property
    def normalizer(self) -> float:
        """The divisor of the sum over the whole batch, 0 if all weights in it are 0."""
        return float(self.shares.sum())


def encode(y: Any, width: int, dtype: Any = np.float32) -> tuple[HostArray, HostArray | None]:
    """Return targets as rows (n, width) and, if they are classes, as int64 labels (n,).

    y: integer labels (n,) or (n, 1), or rows (n, width), whose label is the index of the largest entry if they sum to
    1; with one output, (n,) or (n, 1) values, whose label is whether they exceed 0.5 if all are between 0 and 1. Raises
    ValueError for other shapes, values that are NaN or infinite, and labels that are fractional or out of range.
    """
    y = host_array(y)
    if y.dtype.kind in "OSTU" and y.size:
        raise ValueError(
            f"Labels must be integers. Received: {reprlib.repr(y.reshape(-1)[:1].tolist()[0])} ({y.dtype}). Encode "
            "them with classes, y = np.unique(labels, return_inverse=True) and set model.class_names = "
            "tuple(classes), or use XPCNNClassifier, which takes labels of any kind."
        )
    if y.dtype.kind not in "biuf" or y.ndim not in (1, 2) or y.size == 0:
        raise ValueError(
            f"Targets must be integer labels (n,) or rows of numbers (n, {width}). "
            f"Received: an array of shape {y.shape} and dtype {y.dtype}."
        )
    unfit = ~(abs(y) <= np.finfo(dtype).max) if y.dtype.kind == "f" else np.zeros(1, dtype=bool)
    if unfit.any():
        raise ValueError(f"Targets must be finite. Received: {unfit.sum()} NaN, infinite or too large values.")
    if y.ndim == 2 and y.shape[1] not in (1, width):
        raise ValueError(
            f"Received one-hot rows of width {y.shape[1]}, but the model has {width} outputs. "
            "Give the last layer as many units as there are classes."
        )
    if width == 1:
        rows = y.reshape(-1, 1).astype(dtype)
        return rows, (rows[:, 0] > 0.5).astype(np.int64) if rows.min() >= 0 and rows.max() <= 1 else None
    if y.ndim == 2 and y.shape[1] == width:
        rows = y.astype(dtype)
        return rows, rows.argmax(axis=1) if are_distributions(rows) else None
    labels = _labels(y.reshape(-1), width)
    rows = np.zeros((len(labels), width), dtype=dtype)
    rows[np.arange(len(labels)), labels] = 1.0
    return rows, labels


def are_distributions(rows: HostArray) -> bool:
    """Whether no entry is negative and every row sums to 1, within 0.001."""
    return bool(rows.min() >= 0 and abs(rows.sum(axis=1) - 1).max() <= 1e-3)


def _labels(y: HostArray, classes: int) -> HostArray:
    if y.min() < 0 or y.max() >= classes:
        raise ValueError(
            f"Labels must be classes from 0 to {classes - 1}, one for each of the {classes} outputs. "
            f"Received: labels from {y.min()} to {y.max()}."
        )
    labels = y.astype(np.int64)
    if (labels != y).any():
        raise ValueError(f"Labels must be integers. Received: {y[labels != y][0]}.")
    return labels


def check_weights(sample_weight: Any, count: int) -> HostArray:
    """Return the weights of ``count`` samples as float64 (n,).

    Raises ValueError if there are not ``count`` weights, or if any is negative, NaN or infinite.
    """
    weights = host_array(sample_weight)
    if weights.dtype.kind not in "biuf" or weights.size != count or weights.shape[:1] != (count,):
        raise ValueError(
            f"sample_weight must have one weight for each of the {count} samples. "
            f"Received: an array of shape {weights.shape} and dtype {weights.dtype}."
        )
    weights = weights.reshape(count).astype(np.float64)
    if not np.isfinite(weights).all() or weights.min() < 0:
        raise ValueError(
            "Sample weights must be finite and not negative. "
            f"Received: weights from {weights.min():g} to {weights.max():g}."
        )
    return weights
