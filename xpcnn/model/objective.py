"""What a model is trained for: outputs, targets and metrics that fit its loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from xpcnn.communicator import ALONE, Communicator
from xpcnn.data.augmentation import View
from xpcnn.layers import Dense, Flatten, GlobalAveragePool2D, GlobalMaxPool2D
from xpcnn.layers.activation import applies
from xpcnn.losses import Loss
from xpcnn.metrics import Metric
from xpcnn.program.network import Network
from xpcnn.targets import Targets
from xpcnn.training import evaluation

HostArray = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Objective:
    """A network, the loss that it minimises, and the metrics by which it is judged."""

    network: Network
    loss: Loss
    metrics: Sequence[Metric]

    @property
    def width(self) -> int:
        """How many outputs there are; ValueError where they are no flat row."""
        shape = self.network.output_shape
        if len(shape) != 1:
            raise ValueError(
                f"To learn, a model must end in flat outputs, (classes,). Its last layer gives {shape}. Add Flatten()."
            )
        return shape[0]

    def check_outputs(self) -> None:
        """Refuse a last layer whose outputs are no probabilities under a loss that needs them."""
        last, loss = self.network.nodes[-1].layer, self.loss
        plain = type(last) in (Dense, Flatten, GlobalAveragePool2D, GlobalMaxPool2D)
        if loss.activation is not None and (plain or any(applies(last, name) for name in ("relu", "tanh", "linear"))):
            raise ValueError(
                f"The loss {loss.name} needs probabilities, but {(last.name or 'the last layer')!r} gives any numbers. "
                f'Give the last layer activation="{loss.activation}", or add layers.{loss.activation.capitalize()}().'
            )

    def targets(self, y: HostArray, weights: Any = None) -> Targets:
        """Check and encode all targets at once, before anything is computed."""
        targets = self.loss.prepare(y, self.width, weights, self.network.dtype)
        refuse_weightless(targets.shares)
        return targets

    def measurable_targets(self, y: HostArray, weights: Any = None) -> Targets:
        """Check and encode all targets; ValueError where the metrics cannot be computed for them."""
        targets = self.targets(y, weights)
        unfit = [metric.name for metric in self.metrics if metric.needs_classes]
        if targets.labels is None and unfit:
            raise ValueError(
                f"The targets are no classes, which {', '.join(unfit)} needs. Compile with metrics=[] or a loss's name."
            )
        return targets

    def calibration_labels(self, y: HostArray) -> HostArray:
        """Return the class of every sample; ValueError where the outputs are no probabilities of one class each."""
        loss, labels = self.loss, self.targets(y).labels
        apart = loss.activation == "sigmoid" and self.width > 1
        if loss.activation is None or labels is None or apart:
            raise ValueError(
                f"Only probabilities of classes can be calibrated. The loss is {loss.name}, and the labels are "
                f"{'rows' if labels is None else 'classes'}. Use cross_entropy, or binary_cross_entropy with one "
                "output, and labels (n,) of whole numbers."
            )
        return labels

    def evaluate(
        self,
        x: Any,
        y: HostArray,
        weights: Any,
        batch_size: int,
        threads: int | None,
        views: Sequence[View] = evaluation.ONE_VIEW,
        temperature: float = 1.0,
        communicator: Communicator = ALONE,
    ) -> dict[str, Any]:
        """Return the loss, without label smoothing, and the metrics for targets that were checked."""
        return evaluation.evaluate(
            self.network, self.loss.unsmoothed(), self.metrics, x, y, weights, batch_size, threads, views, temperature,
            communicator,
        )  # fmt: skip


def refuse_weightless(shares: HostArray) -> None:
    """Raise ValueError where no sample adds to what a mean is divided by."""
    if shares.sum() == 0:
        raise ValueError("All samples weigh 0, so there is nothing to average. Give one a weight above 0.")
