"""The state of a model as plain data, used for files, pickling and copies."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from xpcnn.data import Preprocessing
from xpcnn.losses import Loss
from xpcnn.metrics import Metric
from xpcnn.optimizers import Optimizer
from xpcnn.parameters import Shape
from xpcnn.registry import Number

HostArray = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class ModelState:
    """The complete state of a model, except for its backend.

    layers: as :func:`xpcnn.layers.configs.to_plain` returns them. arrays: all parameters and buffers by name, on the
    host; None for an incomplete model. optimizer, loss, metrics: as compiled, including the optimiser's moments. The
    others are the attributes of the model with the same names.
    """

    layers: list[Any]
    input_shape: Shape | None
    seed: int
    arrays: Mapping[str, HostArray] | None
    class_names: tuple[str, ...] | None
    preprocessing: Preprocessing | None
    temperature: float
    thresholds: tuple[float, ...] | None
    epochs: int
    digests: HostArray | None
    optimizer: Optimizer | None
    loss: Loss | None
    metrics: Sequence[Metric]


def check_finite(arrays: Mapping[str, HostArray]) -> None:
    """Raise ValueError unless all arrays of a model are float32 and finite."""
    for name, array in arrays.items():
        if array.dtype != np.float32:
            raise ValueError(f"The array {name[:100]!r} is {array.dtype}, but a model's arrays must be float32.")
        if not np.isfinite(array).all():
            raise ValueError(
                f"The array {name[:100]!r} contains NaN or infinite values. Use the model of an earlier epoch."
            )


def check_names(names: Any, output_shape: Shape) -> None:
    """Raise ValueError unless class names are None or one string per class."""
    count = max(output_shape[0], 2)  # one output distinguishes two classes
    fit = isinstance(names, tuple | list) and len(names) == count and all(isinstance(n, str) for n in names)
    if names is not None and not fit:
        raise ValueError(
            f"class_names must be one string for each of {count} classes. Received: {reprlib.repr(names)}."
        )


def check_thresholds(thresholds: Any, output_shape: Shape) -> None:
    """Raise ValueError unless thresholds are None or one number from 0 to 1 for each of several outputs."""
    count = output_shape[0]
    fit = isinstance(thresholds, tuple | list) and len(thresholds) == count > 1
    if thresholds is not None and not (fit and all(isinstance(t, Number) and 0 <= t <= 1 for t in thresholds)):
        raise ValueError(
            f"thresholds must be one number from 0 to 1 for each of {count} outputs, of which there are several. "
            f"Received: {reprlib.repr(thresholds)}."
        )
