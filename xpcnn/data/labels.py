"""The labels of images as arrays: (n,) class indices, or (n, classes) of 0 and 1 where an image may have several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: What separates several labels of an image in a table; no label of such an image contains it.
SEPARATOR = ";"

Labels = NDArray[np.integer[Any]]


def are_several(labels: Labels) -> bool:
    """Whether each image may have several labels, or none."""
    return labels.ndim == 2


def counts(labels: Labels, classes: int) -> NDArray[np.int64]:
    """Return the number of images of each class, int64 (classes,).

    >>> counts(np.array([0, 2, 2]), 3).tolist(), counts(np.array([[1, 1], [0, 1], [0, 0]]), 2).tolist()
    ([1, 0, 2], [1, 2])
    """
    return np.asarray(labels.sum(axis=0) if are_several(labels) else np.bincount(labels, minlength=classes))


def text(label: Any, classes: Sequence[str]) -> str:
    """Return the class of one image, or its labels with semicolons between them.

    >>> text(1, ["cat", "dog"]), text(np.array([1, 1]), ["cat", "dog"]), text(np.array([0, 0]), ["cat", "dog"])
    ('dog', 'cat;dog', '')
    """
    if np.ndim(label) == 0:
        return str(classes[label])
    return SEPARATOR.join(classes[index] for index in np.flatnonzero(label).tolist())


def names(told: str) -> list[str]:
    """Return the labels of an image that :func:`text` has told.

    >>> names("cat;dog"), names("")
    (['cat', 'dog'], [])
    """
    return told.split(SEPARATOR) if told else []


def strata(labels: Labels, least: int = 2) -> NDArray[np.int64]:
    """Return the class by which each image is drawn into a part, int64 (n,): the rarest of its labels.

    The images of the rarest labels are thus spread first, as in Sechidis, Tsoumakas and Vlahavas, "On the
    stratification of multi-label data", 2011. Images without a label have the number of classes as theirs. Those of
    fewer than ``least`` images join the largest. Class indices (n,) are returned unchanged.

    >>> strata(np.array([[1, 1], [1, 0], [1, 1], [1, 0], [0, 0]])).tolist()
    [1, 0, 1, 0, 0]
    """
    if not are_several(labels):
        return labels.astype(np.int64)
    classes = labels.shape[1]
    order = np.argsort(labels.sum(axis=0), kind="stable")
    found = np.where(labels.any(axis=1), order[labels[:, order].argmax(axis=1)], classes).astype(np.int64)
    sizes = np.bincount(found, minlength=classes + 1)
    found[sizes[found] < least] = sizes.argmax()
    return np.asarray(found)
