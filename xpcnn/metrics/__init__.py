"""Metrics of a fit, of predictions on the host, and statistics of them.

A metric receives probabilities (n, width) and labels (n,); a single output has the classes 0 and 1, split at 0.5.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from xpcnn import losses
from xpcnn.losses import Loss
from xpcnn.metrics.by_class import PerClass, average_precision, confusion_matrix, per_class, per_label
from xpcnn.metrics.statistics import macro_f1_interval, mcnemar, wilson_interval
from xpcnn.metrics.streaming import (
    F1,
    Accuracy,
    CalibrationError,
    ConfusionMatrix,
    LossValue,
    Metric,
    MultilabelF1,
    Precision,
    Recall,
    TopK,
    with_targets,
)
from xpcnn.registry import Registry

__all__ = [
    "F1", "Accuracy", "CalibrationError", "ConfusionMatrix", "LossValue", "Metric", "MultilabelF1", "PerClass",
    "Precision", "Recall", "TopK", "average_precision", "confusion_matrix", "get", "macro_f1_interval", "mcnemar",
    "per_class", "per_label", "wilson_interval", "with_targets",
]  # fmt: skip

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
