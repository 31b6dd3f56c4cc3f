"""Temperature scaling: one parameter that calibrates the probabilities of a trained classifier.

Guo, Pleiss, Sun and Weinberger, "On calibration of modern neural networks", 2017.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

#: The range of temperatures, also in a model file.
LEAST, MOST = 0.05, 20.0
#: Below every positive float32, in place of probabilities that are 0.
ALMOST_ZERO = 1e-45
_HALVINGS = 40


def soften(outputs: NDArray[Any], temperature: float, from_logits: bool = False) -> NDArray[Any]:
    """Return softmax(z / temperature) for probabilities (n, classes) = softmax(z), in the same dtype.

    A single column sigmoid(z) becomes sigmoid(z / temperature). A temperature above 1 makes predictions less confident.
    from_logits: the outputs are z, which are more precise than probabilities that are rounded to 0 or 1.

    >>> soften(np.array([[0.8, 0.2]]), 2.0).round(3).tolist()
    [[0.667, 0.333]]
    """
    if temperature == 1 and not from_logits:
        return outputs
    softened = _softmax(_logits(outputs, from_logits) / temperature)
    columns = slice(1, None) if outputs.shape[1] == 1 else slice(None)
    return np.asarray(softened[:, columns], dtype=outputs.dtype)


def find_temperature(outputs: NDArray[Any], labels: NDArray[Any], from_logits: bool = False) -> float:
    """Return the temperature, from 0.05 to 20, that minimises the cross-entropy of :func:`soften`, to three decimals.

    outputs: as for :func:`soften`, (n, classes), or (n, 1) for two classes; labels: (n,), integers. The targets are
    1 - 1/(n + 2) for the true class and the rest spread over the others, so that a few images that are all predicted
    correctly do not make a model overconfident (Platt, "Probabilistic outputs for support vector machines", 1999).
    Returns 1 if there are no images.

    >>> find_temperature(np.array([[0.99, 0.01]] * 4), np.array([0, 0, 0, 1]))
    6.629
    """
    if len(labels) == 0:
        return 1.0
    logits = _logits(outputs, from_logits)
    if np.ptp(logits, axis=1).max() == 0:  # equal probabilities stay equal at any temperature
        return 1.0
    n, classes = logits.shape
    doubt = 1 / (n + 2)
    targets = np.full(logits.shape, doubt / max(1, classes - 1))
    targets[np.arange(n), labels] = 1 - doubt
    wanted = (targets * logits).sum()
    low, high = np.log(1 / MOST), np.log(1 / LEAST)
    for _ in range(_HALVINGS):  # bisection: the slope with respect to 1 / temperature is increasing
        middle = (low + high) / 2
        scaled = _softmax(logits * np.exp(middle))
        if (scaled * logits).sum() < wanted:
            low = middle
        else:
            high = middle
    return round(float(np.exp(-(low + high) / 2)), 3)


def find_thresholds(probabilities: NDArray[Any], targets: NDArray[Any]) -> tuple[float, ...]:
    """Return for each label the threshold at which predicting it has the highest F1.

    probabilities, targets: (n, labels), of images that may have several labels; targets are 0 or 1. A threshold lies
    halfway between two probabilities, so that it holds for others nearby; of equal ones, it is the one nearest 0.5. It
    is 0.5 for a label that no image has, or that all have. Lipton, Elkan and Naryanaswamy, "Optimal thresholding of
    classifiers to maximize F1 measure", 2014.

    >>> find_thresholds(np.array([[0.9], [0.5], [0.25], [0.1]]), np.array([[1], [1], [0], [0]]))
    (0.375,)
    """
    found = []
    for p, true in zip(probabilities.T.astype(np.float64), targets.T > 0.5, strict=True):
        if true.all() or not true.any():
            found.append(0.5)
            continue
        values, place = np.unique(p, return_inverse=True)
        above = np.cumsum(np.bincount(place)[::-1])[::-1]  # the images with a probability of at least each value
        hits = np.cumsum(np.bincount(place, weights=true)[::-1])[::-1]
        f1 = 2 * hits / (above + true.sum())
        cuts = (values + np.concatenate(([0.0], values[:-1]))) / 2
        best = np.flatnonzero(f1 == f1.max())
        found.append(float(cuts[best[np.abs(cuts[best] - 0.5).argmin()]]))
    return tuple(found)


def _logits(outputs: NDArray[Any], from_logits: bool) -> NDArray[np.float64]:
    """Return z of softmax(z), a column per class: a single column p stands for 1 - p and p, a single z for 0 and z."""
    p = outputs.astype(np.float64)
    if from_logits:
        return np.concatenate((np.zeros_like(p), p), axis=1) if p.shape[1] == 1 else p
    if p.shape[1] == 1:
        p = np.concatenate((1 - p, p), axis=1)
    return np.log(np.maximum(p, ALMOST_ZERO))


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))
