"""Figures of predictions on the host: counts of classes, precision, recall and F1 of each, average precision."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

HostArray = np.ndarray[Any, Any]


class PerClass(NamedTuple):
    """The metrics of each class, float64 (classes,), and its support, the number of its samples, int64."""

    precision: HostArray
    recall: HostArray
    f1: HostArray
    support: HostArray


def confusion_matrix(labels: Any, predicted: Any, classes: int) -> HostArray:
    """Return the int64 (classes, classes) counts, with true classes as rows, of two host arrays (n,).

    Raises ValueError for arrays of different length or classes out of range.

    >>> confusion_matrix([0, 1, 1], [0, 1, 0], classes=2).tolist()
    [[1, 0], [1, 1]]
    """
    labels, predicted = np.asarray(labels, dtype=np.int64), np.asarray(predicted, dtype=np.int64)
    if labels.ndim != 1 or labels.shape != predicted.shape:
        raise ValueError(
            f"Labels and predictions must have the same length. Received: shapes {labels.shape} and {predicted.shape}."
        )
    both = np.concatenate((labels, predicted))
    if both.size and (both.min() < 0 or both.max() >= classes):
        raise ValueError(f"Classes must be from 0 to {classes - 1}. Received: {both.min()} to {both.max()}.")
    return np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)


def per_class(confusion: HostArray) -> PerClass:
    """Return precision, recall, F1 and support of each class of a confusion matrix; a division by 0 gives 0.

    >>> per_class(np.array([[1, 0], [1, 1]])).recall.tolist()
    [1.0, 0.5]
    """
    hits, support, predicted = np.diagonal(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    return _rates(hits, support, predicted)


def per_label(targets: HostArray, predicted: HostArray) -> PerClass:
    """Return precision, recall, F1 and support of each label, given rows (n, labels) of what is and what is predicted.

    >>> per_label(np.array([[1, 1], [0, 1]]), np.array([[True, False], [True, True]])).precision.tolist()
    [0.5, 1.0]
    """
    true, predicted = targets > 0.5, predicted > 0.5
    hits, support, count = (true & predicted).sum(axis=0), true.sum(axis=0), predicted.sum(axis=0)
    return _rates(hits, support, count)


def _rates(hits: HostArray, support: HostArray, predicted: HostArray) -> PerClass:
    """Return precision, recall and F1, given how often each class is predicted rightly, there, and predicted."""
    return PerClass(
        precision=hits / np.maximum(predicted, 1),
        recall=hits / np.maximum(support, 1),
        f1=2 * hits / np.maximum(support + predicted, 1),
        support=support,
    )


def average_precision(targets: HostArray, probabilities: HostArray) -> HostArray:
    """Return the average precision of each label, float64 (labels,), NaN for one that no sample has.

    targets: (n, labels) of 0 and 1. The samples are ranked by probability; the result is the mean, over those with the
    label, of the precision among the samples ranked no lower. Ties are one rank, as in scikit-learn. Its mean over
    labels is called mAP. Manning, Raghavan and Schütze, "Introduction to information retrieval", 2008, section 8.4.

    >>> average_precision(np.array([[1], [0], [1]]), np.array([[0.9], [0.8], [0.7]])).round(4).tolist()
    [0.8333]
    """
    found = np.full(targets.shape[1], np.nan)
    for label, (true, p) in enumerate(zip(targets.T > 0.5, probabilities.T, strict=True)):
        if true.any():
            order = np.argsort(-p, kind="stable")
            ends = np.append(np.flatnonzero(np.diff(p[order])), len(p) - 1)  # the last sample of each rank
            hits = np.cumsum(true[order])[ends]
            gained = np.diff(hits, prepend=0)
            found[label] = (gained * hits / (ends + 1)).sum() / true.sum()
    return found
