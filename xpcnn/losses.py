"""Losses: targets are checked and encoded on the host, values and gradients are computed on any backend.

The value of a loss over some rows is their sum divided by the normaliser of the whole batch, so that the values and
gradients of a batch's shards add up to those of the batch.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from xpcnn.backend import Array, ArrayModule
from xpcnn.ops.cross_entropy import softmax_cross_entropy
from xpcnn.registry import Named, Registry, check_float
from xpcnn.targets import HostArray, Targets, check_weights, encode

__all__ = ["BinaryCrossEntropy", "CrossEntropy", "Loss", "MeanSquaredError", "Targets", "get"]


class Loss(Named):
    """Base class of losses. A subclass implements ``evaluate`` and, for another encoding, ``prepare``."""

    #: The final activation that the loss can take over, computing from that activation's input, the logits.
    activation: str | None = None

    def prepare(self, y: Any, width: int, sample_weight: Any = None, dtype: Any = np.float32) -> Targets:
        """Check and encode the targets of n samples for a model with ``width`` outputs.

        y: integer labels (n,) or (n, 1), or rows (n, width); with one output, the values themselves.
        sample_weight: (n,) weights of at least 0. The value is a weighted mean over all n * width elements.
        Raises ValueError for labels out of range, fractional labels, rows of another width, NaN or infinite values, and
        weights that are negative or of another length.
        """
        rows, labels = encode(y, width, dtype)
        self._check_encoded(rows)
        if sample_weight is None:
            return Targets(rows, labels, None, np.full(len(rows), float(width)))
        weights = check_weights(sample_weight, len(rows))
        return Targets(rows, labels, weights.astype(dtype)[:, None], weights * width)

    def terms(self, n: int, width: int) -> int:
        """Return the number of terms in the mean over n samples."""
        return n * width

    def unsmoothed(self) -> Loss:
        """Return the loss to evaluate with: this one without label smoothing, which is for training only."""
        return self

    def _check_encoded(self, encoded: HostArray) -> None:
        """Raise ValueError if the loss is not defined for these targets."""

    def evaluate(
        self,
        xp: ArrayModule,
        outputs: Array,
        targets: Array,
        weights: Array,
        normalizer: Array | float,
        from_logits: bool,
    ) -> tuple[Array, Array, Array]:
        """Return the value, its gradient with respect to ``outputs``, and the probabilities.

        outputs, targets: (n, width) arrays of ``xp``; weights: (n, 1) or None; normalizer: the whole batch's.
        from_logits: whether ``outputs`` are the inputs of ``activation``; never True if that is None. The value is a
        0-d array; the gradient and probabilities have the shape and dtype of the outputs.
        """
        raise NotImplementedError


class CrossEntropy(Loss):
    """Cross-entropy over classes, the mean of -sum_k t_k log p_k.

    Bishop, "Pattern recognition and machine learning", 2006, eq. 4.108. label_smoothing: s in [0, 1) turns the targets
    into (1 - s) t + s / K (Szegedy et al., "Rethinking the Inception architecture", CVPR 2016, section 7).
    class_weights: K weights of at least 0, by which each class's term is multiplied; the mean is then weighted by the
    samples' class weights.

    >>> loss = CrossEntropy()
    >>> targets = loss.prepare([1, 0], width=2)
    >>> logits = np.zeros((2, 2), np.float32)
    >>> value, gradient, _ = loss.evaluate(np, logits, targets.encoded, None, targets.normalizer, True)
    >>> print(value, gradient.tolist())
    0.6931472 [[0.25, -0.25], [-0.25, 0.25]]
    """

    activation = "softmax"

    def __init__(self, label_smoothing: float = 0.0, class_weights: Sequence[float] | None = None) -> None:
        self.label_smoothing = check_float("label_smoothing", label_smoothing, "[0, 1)")
        self.class_weights = (
            None
            if class_weights is None
            else tuple(check_float("A class weight", w, "[0, inf)") for w in class_weights)
        )

    def terms(self, n: int, width: int) -> int:
        """Return n: each sample has one term."""
        return n

    def unsmoothed(self) -> Loss:
        """Return the same loss without label smoothing."""
        plain = copy.copy(self)
        plain.label_smoothing = 0.0
        return plain

    def prepare(self, y: Any, width: int, sample_weight: Any = None, dtype: Any = np.float32) -> Targets:
        """Check and encode the targets, with smoothing and all weights multiplied into the rows.

        The normaliser is the sum of sample weight times class weight, as in PyTorch's mean over labelled samples. Also
        raises ValueError for fewer than two outputs, rows that are not distributions, and a number of class weights
        other than ``width``.
        """
        if width < 2:
            raise ValueError(
                "cross_entropy needs an output for each class; use binary_cross_entropy with one output. "
                f"Received: {width} output."
            )
        rows, labels = encode(y, width, dtype)
        if labels is None:
            raise ValueError(
                "Each row of targets for cross_entropy must contain the probability of each class and sum to 1. "
                f"Received: values from {rows.min():g} to {rows.max():g}, "
                f"sums from {rows.sum(axis=1).min():g} to {rows.sum(axis=1).max():g}."
            )
        shares = np.ones(len(rows))
        smooth = (1.0 - self.label_smoothing) * rows + self.label_smoothing / width
        if self.class_weights is not None:
            if len(self.class_weights) != width:
                raise ValueError(
                    f"class_weights needs one weight for each of the {width} outputs. "
                    f"Received: {len(self.class_weights)}."
                )
            class_weights = np.array(self.class_weights)
            shares = rows @ class_weights
            smooth = smooth * class_weights.astype(dtype)
        if sample_weight is not None:
            weights = check_weights(sample_weight, len(rows))
            shares = shares * weights
            smooth = smooth * weights.astype(dtype)[:, None]
        return Targets(smooth.astype(dtype, copy=False), labels, None, shares)

    def evaluate(
        self,
        xp: ArrayModule,
        outputs: Array,
        targets: Array,
        weights: Array,
        normalizer: Array | float,
        from_logits: bool,
    ) -> tuple[Array, Array, Array]:
        """Evaluate from logits with the shifted log-softmax, or from probabilities with logarithms of at least -100."""
        if not from_logits:
            value = xp.asarray((targets * _log(xp, outputs)).sum() / -normalizer)
            return value, targets / xp.maximum(outputs, _SMALLEST_DIVISOR) / -normalizer, outputs
        return softmax_cross_entropy(xp, outputs, targets, normalizer)


class BinaryCrossEntropy(Loss):
    """Mean over all elements of -t log p - (1 - t) log(1 - p), for one output or several independent ones.

    Bishop, "Pattern recognition and machine learning", 2006, eq. 4.90. Targets lie between 0 and 1. label_smoothing: s
    in [0, 1) turns them into (1 - s) t + s / 2.
    """

    activation = "sigmoid"

    def __init__(self, label_smoothing: float = 0.0) -> None:
        self.label_smoothing = check_float("label_smoothing", label_smoothing, "[0, 1)")

    def unsmoothed(self) -> Loss:
        """Return the same loss without label smoothing."""
        plain = copy.copy(self)
        plain.label_smoothing = 0.0
        return plain

    def prepare(self, y: Any, width: int, sample_weight: Any = None, dtype: Any = np.float32) -> Targets:
        """Check and encode the targets, with smoothing."""
        targets = super().prepare(y, width, sample_weight, dtype)
        if not self.label_smoothing:
            return targets
        smooth = (1.0 - self.label_smoothing) * targets.encoded + self.label_smoothing / 2
        return replace(targets, encoded=smooth.astype(dtype, copy=False))

    def _check_encoded(self, encoded: HostArray) -> None:
        if encoded.min() < 0 or encoded.max() > 1:
            raise ValueError(
                "Targets for binary_cross_entropy must be between 0 and 1; a single output has the classes 0 and 1. "
                f"Received: values from {encoded.min():g} to {encoded.max():g}."
            )

    def evaluate(
        self,
        xp: ArrayModule,
        outputs: Array,
        targets: Array,
        weights: Array,
        normalizer: Array | float,
        from_logits: bool,
    ) -> tuple[Array, Array, Array]:
        """Evaluate from logits z as ``max(z, 0) - t z + log(1 + exp(-|z|))``, or from probabilities.

        From probabilities, logarithms are at least -100 and the gradient's divisor p (1 - p) at least 1e-12, as in
        PyTorch.
        """
        if from_logits:
            decay = xp.exp(-xp.abs(outputs))
            elements = xp.maximum(outputs, 0.0) - targets * outputs + xp.log1p(decay)
            # The sigmoid without overflow: 1 / (1 + e^-z) for z >= 0, e^z / (1 + e^z) below.
            probabilities = xp.where(outputs >= 0, 1.0, decay) / (decay + 1.0)
            gradient = probabilities - targets
        else:
            probabilities = xp.clip(outputs, 0.0, 1.0)
            elements = -(targets * _log(xp, probabilities) + (1.0 - targets) * _log(xp, 1.0 - probabilities))
            divisor = xp.maximum(probabilities * (1.0 - probabilities), _SMALLEST_DIVISOR)
            gradient = (probabilities - targets) / divisor
        return (*_weighted_sum(xp, elements, gradient, weights, normalizer), probabilities)


class MeanSquaredError(Loss):
    """Mean over all elements of (y - t)^2, for any final activation; labels become one-hot rows.

    If a difference exceeds 1e19, its square is infinite in float32, but the gradient is not.

    >>> loss = MeanSquaredError()
    >>> targets = loss.prepare([0.5, 2.0], width=1)
    >>> outputs = np.array([[1.5], [2.0]], np.float32)
    >>> print(loss.evaluate(np, outputs, targets.encoded, None, targets.normalizer, from_logits=False)[0])
    0.5
    """

    name = "mse"

    def evaluate(
        self,
        xp: ArrayModule,
        outputs: Array,
        targets: Array,
        weights: Array,
        normalizer: Array | float,
        from_logits: bool,
    ) -> tuple[Array, Array, Array]:
        """Evaluate; the outputs are returned unchanged instead of probabilities."""
        difference = outputs - targets
        return (*_weighted_sum(xp, difference * difference, 2.0 * difference, weights, normalizer), outputs)


#: Below every float32 except 0, and exp(-100): logarithms are clipped at -100.
_ALMOST_ZERO = 1e-45
_SMALLEST_DIVISOR = 1e-12


def _log(xp: ArrayModule, probabilities: Array) -> Array:
    """Return the logarithm, clipped at -100 (PyTorch's BCELoss), without a warning at 0."""
    return xp.maximum(xp.log(xp.maximum(probabilities, _ALMOST_ZERO)), -100.0)


def _weighted_sum(
    xp: ArrayModule, elements: Array, gradient: Array, weights: Array, normalizer: Array | float
) -> tuple[Array, Array]:
    if weights is not None:
        elements, gradient = elements * weights, gradient * weights
    return xp.asarray(elements.sum() / normalizer), gradient / normalizer


_REGISTRY = Registry("loss", Loss, [CrossEntropy, BinaryCrossEntropy, MeanSquaredError])


NAMES = tuple(_REGISTRY.classes)


def get(loss: Loss | str | Mapping[str, Any]) -> Loss:
    """Return the loss for a name, a configuration or an object.

    Raises ValueError for an unknown name, listing the known ones, and TypeError for anything else.

    >>> get("mse")
    MeanSquaredError()
    """
    return _REGISTRY.get(loss)


if not TYPE_CHECKING:  # type checkers know which names are missing

    def __getattr__(name):
        raise _REGISTRY.no_attribute(__name__, name)
