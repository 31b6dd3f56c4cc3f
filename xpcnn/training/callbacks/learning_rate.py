"""Overrides the optimiser's learning rate."""

from __future__ import annotations

from collections.abc import Callable

from xpcnn import schedules
from xpcnn.training.callbacks.base import Callback
from xpcnn.training.fit import Fit


class LearningRate(Callback):
    """Set the learning rate during a fit: by a schedule of updates, a number, or a function of the epoch (from 0).

    >>> halving = LearningRate(lambda epoch: 1e-3 * 0.5**epoch)
    """

    def __init__(self, rate: schedules.Schedule | float | Callable[[int], float]) -> None:
        self._before: schedules.Schedule | float | None = None
        self.rate: schedules.Schedule | Callable[[int], float]
        self.rate = rate if callable(rate) else schedules.get(rate)

    def on_fit_begin(self, fit: Fit) -> None:
        """Remember the optimiser's own rate."""
        self._before = fit.optimizer.learning_rate

    def on_epoch_begin(self, fit: Fit) -> None:
        """Set the epoch's rate."""
        rate = self.rate
        if not isinstance(rate, schedules.Schedule):
            rate = schedules.get(float(rate(fit.epoch)))
        fit.optimizer.learning_rate = rate

    def on_fit_end(self, fit: Fit) -> None:
        """Restore the optimiser's own rate."""
        if self._before is not None:  # None: another callback failed before the fit began
            fit.optimizer.learning_rate, self._before = self._before, None
