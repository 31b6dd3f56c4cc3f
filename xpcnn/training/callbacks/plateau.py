"""Lowers the learning rate when a quantity no longer improves."""

from __future__ import annotations

from typing import Any

from xpcnn.registry import check_float, check_int
from xpcnn.schedules import Schedule
from xpcnn.training.callbacks.best import Best
from xpcnn.training.callbacks.learning_rate import LearningRate
from xpcnn.training.fit import Fit


class ReduceLROnPlateau(Best):
    """Multiply the learning rate by ``factor`` when ``monitor`` has not improved for ``patience`` epochs.

    The arguments are those of Keras. monitor: as of :class:`~xpcnn.callbacks.EarlyStopping`. min_delta: smaller
    improvements do not count. cooldown: the epochs after a reduction that do not count towards patience. min_lr: the
    rate never falls below it. The optimiser keeps the reduced rate after the fit.

    Raises ValueError when the fit begins if the optimiser's rate is a schedule, or a
    :class:`~xpcnn.callbacks.LearningRate` sets it.
    """

    def __init__(
        self,
        monitor: str | None = None,
        factor: float = 0.1,
        patience: int = 10,
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ) -> None:
        super().__init__(monitor, min_delta)
        self.factor = check_float("factor", factor, "(0, 1)")
        self.patience = check_int("patience", patience, 1)
        self.cooldown = check_int("cooldown", cooldown)
        self.min_lr = check_float("min_lr", min_lr, "[0, inf)")
        self._waited = self._cooling = 0

    def on_fit_begin(self, fit: Fit) -> None:
        """Forget earlier fits; refuse a rate that something else sets."""
        super().on_fit_begin(fit)
        self._waited = self._cooling = 0
        own = fit.optimizer.learning_rate
        others = [callback.rate for callback in fit.callbacks if isinstance(callback, LearningRate)]
        if others or isinstance(own, Schedule):
            raise ValueError(
                f"ReduceLROnPlateau lowers a constant learning rate, but {[*others, own][0]!r} sets it anew. "
                "Give the optimizer a number as its learning_rate, or omit ReduceLROnPlateau."
            )

    def on_epoch_end(self, fit: Fit) -> None:
        """Count the epochs without an improvement, and reduce the rate after too many."""
        improved = self.improved(fit)
        self._waited = 0 if improved or self._cooling else self._waited + 1
        self._cooling = max(0, self._cooling - 1)
        rate = fit.optimizer.rate
        if self._waited >= self.patience and rate > self.min_lr:
            fit.optimizer.learning_rate = max(rate * self.factor, self.min_lr)
            self._waited, self._cooling = 0, self.cooldown

    def state(self) -> dict[str, Any]:
        """Return the best value so far, its epoch, the epochs waited since, and those of the cooldown that are left."""
        return {**super().state(), "waited": self._waited, "cooling": self._cooling}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on counting; the checkpoint itself contains the reduced rate."""
        super().load_state(state)
        self._waited, self._cooling = (check_int(name, state[name]) for name in ("waited", "cooling"))
