"""Statistics of fractions: a confidence interval, and a test whether one classifier is better than another."""

from __future__ import annotations

import math
from statistics import NormalDist

from xpcnn.registry import check_int


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
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1. Received: {confidence}.")
    if count == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share, correction = correct / count, z * z / count
    middle = (share + correction / 2) / (1 + correction)
    half = z * math.sqrt(share * (1 - share) / count + correction / (4 * count)) / (1 + correction)
    return (middle - half if correct else 0.0), (middle + half if correct < count else 1.0)


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
