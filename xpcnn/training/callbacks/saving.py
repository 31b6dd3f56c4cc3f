"""Files written during a fit: the model, the history, the checkpoint."""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np

from xpcnn import files
from xpcnn.endings import refuse_foreign
from xpcnn.registry import check_float, check_int
from xpcnn.training import checkpoints
from xpcnn.training.callbacks.base import Callback
from xpcnn.training.callbacks.stop_on_nan import are_finite, not_finite
from xpcnn.training.fit import Fit


class SaveLast(Callback):
    """Write the model file after each epoch and at the end of the fit, even after an error."""

    writes = True

    def __init__(self, path: files.PathLike) -> None:
        refuse_foreign(path)
        self.path = path

    def on_epoch_end(self, fit: Fit) -> None:
        """Save."""
        fit.model.save(self.path)

    def on_fit_end(self, fit: Fit) -> None:
        """Save the progress of an interrupted epoch, unless the weights contain NaN or infinite values."""
        if are_finite(fit.network.parameters) and are_finite(fit.network.buffers):
            fit.model.save(self.path)


class CSVLog(Callback):
    """Write one line per epoch to a CSV file: epoch, loss, every scalar metric, learning rate, seconds."""

    writes = True

    def __init__(self, path: files.PathLike) -> None:
        self.path = path

    def on_epoch_end(self, fit: Fit) -> None:
        """Rewrite the whole history, so that the file is always complete."""
        columns = {name: column for name, column in fit.history.history.items() if np.ndim(column) == 1}
        first = fit.epoch - fit.history.epochs + 1
        epochs = enumerate(zip(*columns.values(), strict=True), start=first)
        lines = ((epoch, *(f"{value:.8g}" for value in values)) for epoch, values in epochs)
        files.write_csv(self.path, [("epoch", *columns), *lines])


class Checkpoint(Callback):
    """Write a checkpoint, from which ``fit(resume=path)`` continues as if never interrupted.

    It is written after each epoch, when the fit is interrupted, and every ``steps`` updates or ``minutes``; the
    previous one is replaced only once the new one is complete. record: any JSON-serialisable value to store with it.
    Raises ValueError unless steps is at least 1 and minutes are positive, and FloatingPointError, without writing, for
    NaN or infinite weights.

    >>> checkpoint = Checkpoint("cells.checkpoint", minutes=10)
    """

    writes = saves_fit = True

    def __init__(
        self,
        path: files.PathLike,
        steps: int | None = None,
        minutes: float | None = None,
        record: Any = None,
    ) -> None:
        refuse_foreign(path)
        self.path, self.record = path, record
        self.steps = None if steps is None else check_int("steps", steps, 1)
        self.minutes = None if minutes is None else check_float("minutes", minutes, "(0, inf)")

    def on_fit_begin(self, fit: Fit) -> None:
        """Start the clock for ``minutes``."""
        self._written = time.monotonic()  # unaffected by changes of the system clock

    def on_step_end(self, fit: Fit) -> None:
        """Write if ``steps`` or ``minutes`` have passed; after an epoch's last step, on_epoch_end writes."""
        due = self.steps is not None and fit.step % self.steps == 0
        late = self.minutes is not None and time.monotonic() - self._written >= self.minutes * 60
        if (due or late) and not fit.ends_epoch:
            self._write(fit)

    def on_epoch_end(self, fit: Fit) -> None:
        """Write."""
        self._write(fit)

    def on_stop(self, fit: Fit) -> None:
        """Write the progress of an unfinished epoch."""
        if not fit.ends_epoch:
            self._write(fit)

    def _write(self, fit: Fit) -> None:
        failure = fit.failure()
        if failure is not None:
            raise not_finite(fit, failure)
        state = (fit.network.parameters, fit.network.buffers, *fit.optimizer.moments.values())
        if not all(map(are_finite, state)):
            raise FloatingPointError(
                f"Step {fit.step}: weights, running statistics or moments are not finite. The earlier checkpoint "
                f"{os.fspath(self.path)!r} was kept. Use callbacks.StopOnNaN() to find the step where this starts."
            )
        checkpoints.write(self.path, fit, self.record)
        self._written = time.monotonic()
