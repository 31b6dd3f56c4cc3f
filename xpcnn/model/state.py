"""What a model is, as plain data: what its file, pickle and copies hold."""

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
    """All that makes a model what it is, but for the backend that it computes with.

    layers: as :func:`xpcnn.layers.configs.to_plain` gives them. arrays: all parameters and buffers by name, on the
    host; None for a model that is not complete. optimizer, loss, metrics: what it was compiled with, the optimiser's
    moments included. All others are the model's attributes of the same names.
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
    """Raise ValueError unless all arrays of a model are of float32 and hold finite numbers only."""
    for name, array in arrays.items():
        if array.dtype != np.float32:
            raise ValueError(f"The array {name!r} is of {array.dtype}, and a model's are of float32.")
        if not np.isfinite(array).all():
            raise ValueError(f"The array {name!r} holds values that are not finite. Use the model of an earlier epoch.")


def check_names(names: Any, output_shape: Shape) -> None:
    """Raise ValueError unless class names are one text for each class, or None."""
    count = max(output_shape[0], 2)  # one output tells two classes apart
    fit = isinstance(names, tuple | list) and len(names) == count and all(isinstance(n, str) for n in names)
    if names is not None and not fit:
        raise ValueError(f"class_names is one text for each of the {count} classes. Received: {reprlib.repr(names)}.")
