"""Monitoring the best epoch: early stopping, and saving the best model."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from xpcnn import files
from xpcnn.endings import refuse_foreign
from xpcnn.registry import check_float, check_int
from xpcnn.training.callbacks.base import Callback
from xpcnn.training.fit import Fit

#: Words in the names of what should fall.
_FALLING = ("loss", "entropy", "mse", "error")


class Best(Callback):
    """Monitors one quantity and knows whether the last epoch was the best so far, by more than ``min_delta``.

    Less is better if the metric's ``lower_is_better`` says so or, where it is None, if the name contains "loss",
    "entropy", "mse" or "error".
    """

    def __init__(self, monitor: str | None = None, min_delta: float = 0.0) -> None:
        self.monitor = monitor
        self.min_delta = check_float("min_delta", min_delta, "[0, inf)")
        self.best = math.nan
        self.best_epoch = 0

    def on_fit_begin(self, fit: Fit) -> None:
        """Forget earlier fits."""
        self.best, self.best_epoch = math.nan, fit.epoch

    def monitored(self, fit: Fit) -> str:
        """Return the name of the monitored quantity: by default val_loss if there is validation data, else loss."""
        return self.monitor or ("val_loss" if "val_loss" in fit.logs else "loss")

    def improved(self, fit: Fit) -> bool:
        """Return whether the last epoch is the best so far, and record it."""
        name, numbers = self.monitored(fit), [name for name, value in fit.logs.items() if np.ndim(value) == 0]
        if name not in numbers:
            raise ValueError(f"There is no quantity {name!r} to monitor. Use one of: {', '.join(numbers)}.")
        value = fit.logs[name]
        falls = {metric.name: metric.lower_is_better for metric in fit.metrics}.get(name.removeprefix("val_"))
        if falls is None:
            falls = any(word in name for word in _FALLING)
        gain = self.best - value if falls else value - self.best
        better = math.isnan(self.best) or gain > self.min_delta
        if better and not math.isnan(value):
            self.best, self.best_epoch = float(value), fit.epoch
            return True
        return False

    def state(self) -> dict[str, Any]:
        """Return the best value so far, and its epoch."""
        return {"best": self.best, "best_epoch": self.best_epoch}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from the best so far."""
        self.best, self.best_epoch = float(state["best"]), check_int("best_epoch", state["best_epoch"])


class EarlyStopping(Best):
    """Stop when ``monitor`` has not improved for ``patience`` epochs, and restore the best epoch's weights.

    monitor: by default "val_loss" if there is validation data, else "loss". Less is better if the metric's
    ``lower_is_better`` says so or, where it is None, if the name contains "loss", "entropy", "mse" or "error".
    """

    def __init__(self, patience: int = 5, monitor: str | None = None, restore_best: bool = True) -> None:
        super().__init__(monitor)
        self.patience = check_int("patience", patience, 1)
        self.restore_best = restore_best
        self._kept: dict[str, Any] = {}

    def on_fit_begin(self, fit: Fit) -> None:
        """Forget earlier fits."""
        super().on_fit_begin(fit)
        self._kept = {}

    def on_epoch_end(self, fit: Fit) -> None:
        """Keep the weights of the best epoch, if they are to be restored, or stop."""
        if self.improved(fit):
            if self.restore_best:
                self._kept = {name: np.array(value) for name, value in fit.network.host_values().items()}
        elif fit.epoch - self.best_epoch >= self.patience:
            fit.stop(f"{self.monitored(fit)} has not improved for {self.patience} epochs")

    def on_fit_end(self, fit: Fit) -> None:
        """Restore the best weights."""
        if self.restore_best and self._kept:
            fit.network.set_values(self._kept)
            self._kept = {}

    def state(self) -> dict[str, Any]:
        """Return the best value so far, its epoch and, if they are kept, its weights."""
        return super().state() | self._kept

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from the best so far."""
        super().load_state(state)
        self._kept = {name: value for name, value in state.items() if isinstance(value, np.ndarray)}


class SaveBest(Best):
    """Write the model file after each epoch in which ``monitor`` improved (default: val_loss, else loss)."""

    writes = True

    def __init__(self, path: files.PathLike, monitor: str | None = None) -> None:
        super().__init__(monitor)
        refuse_foreign(path)
        self.path = path

    def on_epoch_end(self, fit: Fit) -> None:
        """Save if this epoch was the best."""
        if self.improved(fit):
            fit.model.save(self.path)
