"""Metrics: counts that are summed over shards and batches on the device, and a result computed on the host.

A metric receives probabilities (n, width) and labels (n,); a single output has the classes 0 and 1, split at 0.5.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from xpcnn import losses
from xpcnn.backend import Array, ArrayModule
from xpcnn.losses import Loss
from xpcnn.ops.counts import confusion, hits
from xpcnn.registry import Named, Registry, check_int
from xpcnn.targets import Targets, encode

HostArray = np.ndarray[Any, Any]


class Metric(Named):
    """Base class of metrics."""

    #: Whether the targets must be classes; other metrics compare the outputs with rows.
    needs_classes = True

    def sums(self, xp: ArrayModule, outputs: Array, labels: Array) -> Array:
        """Return 1-D counts or sums of ``xp`` for these samples, which can be added to those of other samples.

        outputs: (n, width) probabilities. labels: (n,) int64, in range. Nothing is read back from the device.
        """
        raise NotImplementedError

    def result(self, sums: HostArray) -> Any:
        """Return the value of the metric for counts that were summed and copied to the host."""
        raise NotImplementedError


def _by_class(xp: ArrayModule, outputs: Array) -> Array:
    """Return a column for each class: a single output p becomes 1 - p and p."""
    return xp.concatenate((1.0 - outputs, outputs), axis=1) if outputs.shape[1] == 1 else outputs


def _share(sums: HostArray) -> float:
    right, count = sums
    return float(right / count) if count else float("nan")


class Accuracy(Metric):
    """The fraction of samples whose largest output is that of their class; NaN without samples.

    >>> accuracy = Accuracy()
    >>> accuracy.result(accuracy.sums(np, np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([0, 1])))
    0.5
    """

    def sums(self, xp: ArrayModule, outputs: Array, labels: Array) -> Array:
        """Return (hits, samples)."""
        return hits(xp, _by_class(xp, outputs), labels)

    def result(self, sums: HostArray) -> float:
        """Return hits / samples."""
        return _share(sums)


class TopK(Metric):
    """The fraction of samples whose class is among the ``k`` largest outputs; 1 with k classes or fewer.

    Ties are broken by class, as in ``argmax``, and NaN ranks above all other outputs, so a constant or diverged model
    gets no credit. For k = 5, the metric is called "top_5".
    """

    name = "top_k"

    def __init__(self, k: int = 5) -> None:
        self.k = check_int("k", k, 1)
        self.name = f"top_{self.k}"

    def sums(self, xp: ArrayModule, outputs: Array, labels: Array) -> Array:
        """Return (hits, samples)."""
        outputs = _by_class(xp, outputs)
        classes = xp.arange(outputs.shape[1])
        labels = labels.reshape(-1, 1)
        own = xp.take_along_axis(outputs, labels, axis=1)
        # "Not less" instead of "greater" makes NaN, which compares as neither, rank first.
        ahead = xp.where(classes < labels, ~(outputs < own), ~(outputs <= own)) & (classes != labels)
        counts = xp.full(2, labels.size, dtype=np.int64)
        counts[0] = (ahead.sum(axis=1) < self.k).sum()
        return counts

    def result(self, sums: HostArray) -> float:
        """Return hits / samples."""
        return _share(sums)


class ConfusionMatrix(Metric):
    """The number of samples of each class (rows) that were predicted as each class (columns), an int64 matrix."""

    def sums(self, xp: ArrayModule, outputs: Array, labels: Array) -> Array:
        """Return the matrix in row-major order."""
        return confusion(xp, _by_class(xp, outputs), labels)

    def result(self, sums: HostArray) -> Any:
        """Return the square matrix."""
        return sums.reshape(round(sums.size**0.5), -1).astype(np.int64)


class _Macro(ConfusionMatrix):
    """The mean of a per-class metric over the classes that occur, as label or as prediction."""

    def result(self, sums: HostArray) -> float:
        """Return the mean, or NaN without samples."""
        confusion = super().result(sums)
        occurs = (confusion.sum(axis=0) + confusion.sum(axis=1)) > 0
        figures: HostArray = getattr(per_class(confusion), self.name)[occurs]
        return float(figures.mean()) if figures.size else float("nan")


class Precision(_Macro):
    """Macro precision: the fraction of samples predicted as a class that belong to it, averaged over classes.

    The mean is over classes that occur as label or prediction; 0 for a class never predicted.
    """


class Recall(_Macro):
    """Macro recall: the fraction of a class's samples that are predicted as it, averaged over classes.

    The mean is over classes that occur as label or prediction; 0 for a class without samples.
    """


class F1(_Macro):
    """Macro F1: the harmonic mean of precision and recall, averaged over classes.

    The mean is over classes that occur as label or prediction. Van Rijsbergen, "Information retrieval", 1979.
    """


class MultilabelF1(Metric):
    """Macro F1 of samples that may have several labels: that of each label, present above 0.5, averaged over labels.

    The mean is over labels that occur, as target or as prediction; NaN without any. Targets are rows (n, width) of 0
    and 1.

    >>> f1 = MultilabelF1()
    >>> f1.result(f1.sums(np, np.array([[0.9, 0.8], [0.2, 0.7]]), np.array([[1.0, 1.0], [0.0, 0.0]])))
    0.8333333333333333
    """

    name = "multilabel_f1"
    needs_classes = False

    def sums(self, xp: ArrayModule, outputs: Array, labels: Array) -> Array:
        """Return the hits, samples and predictions of each label, int64 (3 x width,); labels: rows (n, width)."""
        true, predicted = labels > 0.5, outputs > 0.5
        counted = (true & predicted, true, predicted)
        return xp.concatenate([one.sum(axis=0).astype(np.int64) for one in counted])

    def result(self, sums: HostArray) -> float:
        """Return the mean."""
        hits, support, predicted = sums.reshape(3, -1)
        occurs = support + predicted > 0
        return float((2 * hits / np.maximum(support + predicted, 1))[occurs].mean()) if occurs.any() else float("nan")


class CalibrationError(Metric):
    """The expected calibration error: how far probabilities are from the fraction of correct predictions; best is 0.

    Samples are grouped by their largest probability into ``bins`` of equal width; the error is the mean over samples of
    the difference between their bin's mean probability and its accuracy. Naeini, Cooper and Hauskrecht, "Obtaining well
    calibrated probabilities using Bayesian binning", 2015. NaN without samples.

    >>> error = CalibrationError()
    >>> error.result(error.sums(np, np.array([[0.75, 0.25], [0.25, 0.75]]), np.array([0, 0])))
    0.25
    """

    def __init__(self, bins: int = 10) -> None:
        self.bins = check_int("bins", bins, 1)

    def sums(self, xp: ArrayModule, outputs: Array, labels: Array) -> Array:
        """Return the sums of samples, correct predictions and probabilities of each bin, float64 (3 x bins,)."""
        outputs = _by_class(xp, outputs).astype(np.float64)
        confidence = outputs.max(axis=1)
        right = outputs.argmax(axis=1) == labels
        numbers = xp.minimum(xp.floor(confidence * self.bins), self.bins - 1)
        inside = (numbers.reshape(-1, 1) == xp.arange(self.bins)).astype(np.float64)
        return (xp.stack([xp.ones_like(confidence), right.astype(np.float64), confidence]) @ inside).reshape(-1)

    def result(self, sums: HostArray) -> float:
        """Return the error."""
        samples, right, confidence = sums.reshape(3, self.bins)
        return float(np.abs(right - confidence).sum() / samples.sum()) if samples.sum() else float("nan")


class LossValue(Metric):
    """A loss as a metric: its mean over the samples, from probabilities, without any weights."""

    needs_classes = False

    def __init__(self, loss: Loss) -> None:
        self.loss = loss
        self.name = loss.name

    def config(self) -> dict[str, Any]:
        """Return the loss's configuration, which also stands for the metric."""
        return self.loss.config()

    def sums(self, xp: ArrayModule, outputs: Array, labels: Array) -> Array:
        """Return (sum of the loss, its divisor); labels: rows (n, width)."""
        value, _, _ = self.loss.evaluate(xp, outputs, labels, None, 1.0, from_logits=False)
        return xp.stack([value, xp.full((), self.loss.terms(*outputs.shape), dtype=outputs.dtype)])

    def result(self, sums: HostArray) -> float:
        """Return the mean."""
        return float(sums[0] / sums[1])


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


def with_targets(metrics: Sequence[Metric], targets: Targets, y: Any, width: int) -> list[tuple[Metric, HostArray]]:
    """Return each metric with the targets it uses: classes (n,), or rows (n, width) without weights and smoothing.

    targets: ``y`` as prepared by the loss, which may have weighted and smoothed its rows.
    """
    return [
        (metric, targets.labels)
        if metric.needs_classes and targets.labels is not None
        else (metric, encode(y, width, targets.rows.dtype)[0])
        for metric in metrics
    ]


_REGISTRY = Registry(
    "metric", Metric, [Accuracy, TopK, Precision, Recall, F1, ConfusionMatrix, CalibrationError, MultilabelF1]
)


def get(metric: Metric | Loss | str | Mapping[str, Any]) -> Metric:
    """Return the metric for a name, a configuration or an object; "top_3" is ``TopK(3)``, and losses are metrics too.

    Raises ValueError for an unknown name, listing the known ones, and TypeError for anything else.

    >>> get("top_3")
    TopK(k=3)
    """
    name = metric.get("name") if isinstance(metric, Mapping) else metric
    if isinstance(metric, Loss) or name in losses.NAMES:
        return LossValue(losses.get(metric))  # type: ignore[arg-type]  # a metric object has no loss's name
    numbered = re.fullmatch(r"top_(\d{1,9})", metric) if isinstance(metric, str) else None
    return TopK(int(numbered[1])) if numbered else _REGISTRY.get(metric)


if not TYPE_CHECKING:  # type checkers know which names are missing

    def __getattr__(name):
        raise _REGISTRY.no_attribute(__name__, name)
