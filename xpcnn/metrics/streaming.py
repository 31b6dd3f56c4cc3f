"""Metrics of a fit: counts that are summed over shards and batches on the device, and a result computed on the host."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from xpcnn.backend import Array, ArrayModule
from xpcnn.losses import Loss
from xpcnn.metrics.by_class import per_class
from xpcnn.ops.counts import confusion, hits
from xpcnn.registry import Named, check_int
from xpcnn.targets import Targets, encode

HostArray = np.ndarray[Any, Any]


class Metric(Named):
    """Base class of metrics."""

    #: Whether the targets must be classes; other metrics compare the outputs with rows.
    needs_classes = True
    #: Whether a smaller value is better, for callbacks that monitor it; None: its name tells, see EarlyStopping.
    lower_is_better: bool | None = None

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

    The mean is over labels that some sample has; NaN without any. Targets are rows (n, width) of 0 and 1.

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
        occurs = support > 0
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

    lower_is_better = True

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
    lower_is_better = True

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


def with_targets(metrics: Sequence[Metric], targets: Targets, y: Any, width: int) -> list[tuple[Metric, HostArray]]:
    """Return each metric with the targets it uses: classes (n,), or rows (n, width) without weights and smoothing.

    targets: ``y`` as prepared by the loss, which may have weighted and smoothed its rows.
    """
    return [
        (metric, targets.labels)
        if metric.needs_classes and targets.labels is not None
        else (metric, encode(y, width, targets.encoded.dtype)[0])
        for metric in metrics
    ]
