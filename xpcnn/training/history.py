"""The history of a fit: one entry per epoch for every quantity, and the loss of every step."""

from __future__ import annotations

from typing import Any

import numpy as np


class History:
    """``history``: {"loss": [one per epoch], "val_accuracy": […], …}; ``steps``: the loss of every step.

    The quantities are loss and metrics, those of the validation data prefixed with ``val_``, ``lr`` (of the epoch's
    last step) and ``seconds``.
    """

    def __init__(self) -> None:
        self.history: dict[str, list[Any]] = {}
        self.steps: list[float] = []
        #: Why the fit ended before its last epoch; None if it did not.
        self.stop_reason: str | None = None

    @property
    def epochs(self) -> int:
        """Number of epochs recorded so far."""
        return len(self.history.get("loss", []))

    def append(self, logs: dict[str, Any]) -> None:
        """Append an epoch; quantities missing in this epoch, or in earlier ones, are NaN there."""
        epochs = self.epochs
        for name in {**self.history, **logs}:
            values = self.history.setdefault(name, [float("nan")] * epochs)
            value = logs.get(name, float("nan"))
            values.append(value if isinstance(value, float) else np.asarray(value).tolist())

    def __repr__(self) -> str:
        last = {name: values[-1] for name, values in self.history.items()}
        return f"History({self.epochs} epochs, last: {last})"
