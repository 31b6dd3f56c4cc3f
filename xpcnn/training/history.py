"""The history of a fit: one entry per epoch for every quantity, and the loss of every step."""

from __future__ import annotations

from typing import Any

import numpy as np


class History:
    """``history``: {"loss": [one an epoch], "val_accuracy": […], …}; ``steps``: the loss of every step.

    The quantities are loss and metrics, the same of the validation part with ``val_`` before them, ``lr`` (of the
    epoch's last step) and ``seconds``.
    """

    def __init__(self) -> None:
        self.history: dict[str, list[Any]] = {}
        self.steps: list[float] = []
        #: Why the fit ended before its last epoch, None where it did not.
        self.stop_reason: str | None = None

    @property
    def epochs(self) -> int:
        """Number of epochs seen so far."""
        return len(self.history.get("loss", []))

    def append(self, logs: dict[str, Any]) -> None:
        """Add an epoch; a quantity that this epoch lacks, or earlier ones lacked, is NaN there."""
        epochs = self.epochs
        for name in {**self.history, **logs}:
            values = self.history.setdefault(name, [float("nan")] * epochs)
            value = logs.get(name, float("nan"))
            values.append(value if isinstance(value, float) else np.asarray(value).tolist())

    def __repr__(self) -> str:
        last = {name: values[-1] for name, values in self.history.items()}
        return f"History({self.epochs} epochs, last: {last})"
