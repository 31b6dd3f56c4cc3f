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
