"""The training and validation data of a fit, checked before training."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from xpcnn.data.augmentation import Augmentation
from xpcnn.data.augmentation import augment as augmentation_of
from xpcnn.data.rows import Rows
from xpcnn.data.splits import stratified_split
from xpcnn.model import inputs
from xpcnn.model.objective import Objective, refuse_weightless
from xpcnn.registry import Number
from xpcnn.targets import check_weights
from xpcnn.training.engine.base import Held, Samples

HostArray = np.ndarray[Any, Any]


class TrainingData(NamedTuple):
    """The samples to train on, the validation data, and all arrays by their names in a checkpoint."""

    samples: Samples
    held: Held | None
    arrays: Mapping[str, Any]


def prepare(
    objective: Objective,
    x: Any,
    y: Any,
    sample_weight: Any,
    class_weight: Mapping[int, float] | Sequence[float] | None,
    validation_split: float,
    validation_data: tuple[Any, Any] | None,
    seed: int,
    augment: Augmentation | str | None,
    data_format: str,
) -> TrainingData:
    """Return the data for arguments of :meth:`xpcnn.Sequential.fit`, or raise the errors that it documents."""
    shape = objective.network.input_shape
    x, y = inputs.samples(x, y, shape, data_format)
    targets = objective.measurable_targets(y)
    own = None if sample_weight is None else check_weights(sample_weight, len(y))
    weights = inputs.sample_weights(own, class_weight, targets.labels, len(y), objective.width)
    rows, held = np.arange(len(y)), None
    arrays = {"x": x, "y": y, "sample weights": weights}
    if validation_data is not None:
        if not isinstance(validation_data, tuple | list) or len(validation_data) != 2:
            raise ValueError(f"validation_data must be a pair (x, y). Received: {reprlib.repr(validation_data)}.")
        held = Held(*inputs.samples(*validation_data, shape, data_format), None)
        objective.measurable_targets(held.y)
        arrays |= {"validation x": held.x, "validation y": held.y}
    elif validation_split:
        rows, kept = _split(targets.labels, len(y), validation_split, seed)
        held = Held(Rows(x, kept), y[kept], None if own is None else own[kept])
        refuse_weightless(targets.shares[kept] if own is None else targets.shares[kept] * own[kept])
    refuse_weightless(targets.shares[rows] if weights is None else targets.shares[rows] * weights[rows])
    augment = augmentation_of(augment) if isinstance(augment, str) else augment
    return TrainingData(Samples(x, y, weights, rows, augment), held, arrays)


def _split(labels: HostArray | None, n: int, fraction: float, seed: int) -> tuple[HostArray, HostArray]:
    """Return the rows to train on and the rows to validate on, stratified by class."""
    if not isinstance(fraction, Number) or not 0 < fraction < 1:
        raise ValueError(f"validation_split must be between 0 and 1. Received: {fraction!r}.")
    split = stratified_split(np.zeros(n, dtype=np.int64) if labels is None else labels, fraction, 0.0, seed)
    return split.train, split.test
