"""The training objective: outputs, targets and metrics that fit the loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from xpcnn.layers import Average, Concatenate, GlobalAveragePool2D, GlobalMaxPool2D, Multiply, Reshape
from xpcnn.layers.activation import applies
from xpcnn.layers.pooling import Pool2D
from xpcnn.losses import Loss
from xpcnn.metrics import Metric
from xpcnn.program.network import Network
from xpcnn.registry import is_known
from xpcnn.targets import Targets

HostArray = np.ndarray[Any, Any]

#: Layers whose outputs lie between 0 and 1 where their inputs do.
_PASS_PROBABILITIES = (Reshape, Pool2D, GlobalAveragePool2D, GlobalMaxPool2D, Multiply, Concatenate, Average)


@dataclass(frozen=True, eq=False)
class Objective:
    """A network, the loss to minimise, and the metrics to report."""

    network: Network
    loss: Loss
    metrics: Sequence[Metric]

    @property
    def width(self) -> int:
        """The number of outputs; ValueError if they are not flat."""
        shape = self.network.output_shape
        if len(shape) != 1:
            raise ValueError(
                f"Training needs flat outputs, (classes,), but the last layer returns {shape}. Add Flatten()."
            )
        return shape[0]

    def check_outputs(self) -> None:
        """Reject outputs that are not flat, or not probabilities for a loss of these; custom layers are trusted."""
        _ = self.width
        network, loss = self.network, self.loss
        if loss.activation is not None and not self._are_probabilities(network.nodes[-1].output):
            raise ValueError(
                f"The loss {loss.name} needs probabilities, but {network.layers[-1].name!r} returns other values. "
                f'Give the last layer activation="{loss.activation}", or add layers.{loss.activation.capitalize()}().'
            )

    def _are_probabilities(self, slot: int) -> bool:
        """Whether a slot holds what softmax, sigmoid or a custom layer gives, perhaps in another form."""
        node = next((node for node in self.network.nodes if node.output == slot), None)
        if node is None:  # the images
            return False
        if isinstance(node.layer, _PASS_PROBABILITIES) and is_known(node.layer):
            return all(self._are_probabilities(one) for one in node.inputs)
        return not is_known(node.layer) or any(applies(node.layer, name) for name in ("softmax", "sigmoid"))

    def targets(self, y: HostArray, weights: Any = None) -> Targets:
        """Check and encode all targets before training or evaluation."""
        targets = self.loss.prepare(y, self.width, weights, self.network.dtype)
        refuse_weightless(targets.shares)
        return targets

    def measurable_targets(self, y: HostArray, weights: Any = None) -> Targets:
        """Check and encode all targets; ValueError if the metrics cannot be computed for them."""
        targets = self.targets(y, weights)
        unfit = [metric.name for metric in self.metrics if metric.needs_classes]
        if targets.labels is None and unfit:
            raise ValueError(
                f"The targets are not classes, as required for: {', '.join(unfit)}. "
                "Compile with metrics=[] or the name of a loss."
            )
        return targets

    def calibration_labels(self, y: HostArray) -> HostArray:
        """Return the class of every sample; ValueError if the outputs are not class probabilities."""
        loss, labels = self.loss, self.targets(y).labels
        apart = loss.activation == "sigmoid" and self.width > 1
        if loss.activation is None or labels is None or apart:
            raise ValueError(
                f"Only class probabilities can be calibrated. The loss is {loss.name}, and the labels are "
                f"{'rows' if labels is None else 'classes'}. Use cross_entropy, or binary_cross_entropy with one "
                "output, and integer labels (n,)."
            )
        return labels


def refuse_weightless(shares: HostArray) -> None:
    """Raise ValueError if all sample weights are 0, since a mean would divide by 0."""
    if shares.sum() == 0:
        raise ValueError("All sample weights are 0, so there is nothing to average. Give a sample a positive weight.")
