"""Statistics of fractions: a confidence interval, and a test whether one classifier is better than another."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import numpy as np

from xpcnn import random
from xpcnn.registry import check_int

HostArray = np.ndarray[Any, Any]
#: How often samples are drawn again.
RESAMPLES = 1000


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1. Received: {confidence}.")


def wilson_interval(correct: int, count: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the confidence interval of a fraction of which ``correct`` of ``count`` samples were observed.

    The score interval of Wilson, "Probable inference, the law of succession, and statistical inference", 1927, which
    also holds for few samples and for fractions near 0 or 1. Without samples it is (0, 1). Raises ValueError unless
    ``correct`` is from 0 to ``count`` and ``confidence`` between 0 and 1.

    >>> [round(bound, 4) for bound in wilson_interval(9, 10)]
    [0.5958, 0.9821]
    """
    correct = check_int("correct", correct)
    if not correct <= check_int("count", count):
        raise ValueError(f"correct must be from 0 to count. Received: {correct} of {count}.")
    _check_confidence(confidence)
    if count == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share, correction = correct / count, z * z / count
    middle = (share + correction / 2) / (1 + correction)
    half = z * math.sqrt(share * (1 - share) / count + correction / (4 * count)) / (1 + correction)
    return (middle - half if correct else 0.0), (middle + half if correct < count else 1.0)


def macro_f1_interval(targets: HostArray, predicted: HostArray, confidence: float = 0.95) -> tuple[float, float]:
    """Return the confidence interval of macro F1, the mean of the labels that some sample has, by the bootstrap.

    As many samples are drawn again, with replacement, :data:`RESAMPLES` times, always the same ones: the interval
    leaves out equally many of the lowest and the highest macro F1 (Efron, "Bootstrap methods: another look at the
    jackknife", 1979). A label that no drawn sample has keeps its F1 of all samples. With few mistakes, and where labels
    have few samples, it is too narrow, and without any mistake it says nothing: (1, 1).

    targets, predicted: (n, labels) of 0 and 1. Raises ValueError unless they are alike, some sample has a label, and
    ``confidence`` is between 0 and 1.

    >>> macro_f1_interval(np.array([[1], [1], [0], [1]]), np.array([[1], [1], [0], [1]]))
    (1.0, 1.0)
    """
    true, guessed = np.asarray(targets) > 0.5, np.asarray(predicted) > 0.5
    if true.ndim != 2 or true.shape != guessed.shape or not true.any():
        raise ValueError(
            "targets and predicted must be of one shape (n, labels), and some target 1. Received: shapes "
            f"{true.shape} and {guessed.shape}, and {int(true.sum())} targets that are 1."
        )
    _check_confidence(confidence)
    occurs = true.any(axis=0)
    true, guessed = true[:, occurs], guessed[:, occurs]
    n, count = true.shape
    kinds, times = np.unique(np.concatenate((true & guessed, true, guessed), axis=1), axis=0, return_counts=True)
    rows, drawn = kinds.astype(np.float64), random.generator(0, "bootstrap")
    of_all = _f1(*(times @ rows).reshape(3, count))
    found = np.empty(RESAMPLES)
    for number in range(RESAMPLES):
        hits, support, answers = (drawn.multinomial(n, times / n) @ rows).reshape(3, count)
        found[number] = np.where(support > 0, _f1(hits, support, answers), of_all).mean()
    low, high = np.quantile(found, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _f1(hits: HostArray, support: HostArray, answers: HostArray) -> HostArray:
    figures: HostArray = 2 * hits / np.maximum(support + answers, 1)
    return figures


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the p-value of McNemar's test for two classifiers that predicted the same samples.

    only_first, only_second: the number of samples that only one of the two predicted correctly. If both classifiers are
    equally good, each of these samples is as likely to be of one kind as of the other: the p-value is the probability
    of numbers at least as unequal. McNemar, "Note on the sampling error of the difference between correlated
    proportions or percentages", 1947, with the exact binomial distribution, two-sided, which holds for any number of
    samples. Without such samples it is 1. Raises ValueError for negative numbers.

    >>> round(mcnemar(1, 9), 4)
    0.0215
    """
    fewer, more = sorted((check_int("only_first", only_first), check_int("only_second", only_second)))
    count = fewer + more
    term = math.exp(math.lgamma(count + 1) - math.lgamma(fewer + 1) - math.lgamma(more + 1) - count * math.log(2))
    total = 0.0
    for number in range(fewer, -1, -1):  # from the largest term of the tail to the smallest
        total += term
        term *= number / (count - number + 1)
    return min(1.0, 2 * total)
