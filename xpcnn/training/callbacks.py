"""What may be done between the steps of a fit: stop early, save the best, log, change the learning rate."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from xpcnn import files, schedules
from xpcnn.backend import Array, to_device, to_host
from xpcnn.layers import Context
from xpcnn.ops.workspace import Workspace
from xpcnn.registry import number, whole
from xpcnn.training import checkpoints
from xpcnn.training.steps import Failure

if TYPE_CHECKING:
    from xpcnn.training.loop import Fit


class Model(Protocol):
    """What a fit and its callbacks may ask of the model that is fitted."""

    epochs: int

    def save(self, path: files.PathLike) -> None:
        """Write the model file."""

    def evaluate(self, x: Any, y: Any) -> dict[str, float]:
        """Measure loss and metrics."""


class Callback:
    """Base of all callbacks: overwrite what you need. ``fit`` knows epoch, step, logs, history, network and model.

    A step is: gradient, ``on_gradient``, update, ``on_step_end``. ``fit.stop(reason)`` ends the fit after the step.

    >>> class Print(Callback):
    ...     def on_epoch_end(self, fit):
    ...         print(fit.epoch, fit.logs["loss"])
    """

    def on_fit_begin(self, fit: Fit) -> None:
        """Run before the first epoch."""

    def on_epoch_begin(self, fit: Fit) -> None:
        """Run before each epoch."""

    def on_gradient(self, fit: Fit) -> None:
        """Run when the gradient is known and the weights are not changed yet."""

    def on_step_end(self, fit: Fit) -> None:
        """Run after each update."""

    def on_epoch_end(self, fit: Fit) -> None:
        """Run after each epoch, when ``fit.logs`` is complete."""

    def on_stop(self, fit: Fit) -> None:
        """Run after the last step, while all is as it was left; not where an error ended the fit."""

    def on_fit_end(self, fit: Fit) -> None:
        """Run at the end, whatever ended the fit."""

    @property
    def has_state(self) -> bool:
        """Whether a checkpoint keeps something of this callback."""
        return type(self).state is not Callback.state

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps of this callback: arrays, and what JSON can hold; nothing by default."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state` gave, after ``on_fit_begin`` of a fit that is resumed."""


class _Best(Callback):
    """Follows one quantity and knows whether the last epoch was the best so far."""

    def __init__(self, monitor: str | None = None) -> None:
        self.monitor = monitor
        self.best = math.nan
        self.best_epoch = 0

    def on_fit_begin(self, fit: Fit) -> None:
        """Forget earlier fits."""
        self.best, self.best_epoch = math.nan, fit.epoch

    def monitored(self, fit: Fit) -> str:
        """Return the name of the quantity followed: by default val_loss where there is a validation part, else loss."""
        return self.monitor or ("val_loss" if "val_loss" in fit.logs else "loss")

    def improved(self, fit: Fit) -> bool:
        """Note the last epoch's figure; whether it beats all before. Losses should fall, everything else rise."""
        name, numbers = self.monitored(fit), [name for name, value in fit.logs.items() if np.ndim(value) == 0]
        if name not in numbers:
            raise ValueError(f"There is no {name!r} to monitor. Use one of: {', '.join(numbers)}.")
        value = fit.logs[name]
        falls = any(word in name for word in ("loss", "entropy", "mse"))
        better = math.isnan(self.best) or (value < self.best if falls else value > self.best)
        if better and not math.isnan(value):
            self.best, self.best_epoch = float(value), fit.epoch
            return True
        return False

    def state(self) -> dict[str, Any]:
        """Return the best figure so far, and its epoch."""
        return {"best": self.best, "best_epoch": self.best_epoch}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from the best so far."""
        self.best, self.best_epoch = float(state["best"]), whole("best_epoch", state["best_epoch"])


class EarlyStopping(_Best):
    """Stop when ``monitor`` has not improved for ``patience`` epochs, and take back the best epoch's weights.

    monitor: "val_loss" where there is a validation part, else "loss"; losses should fall, all else rise.
    """

    def __init__(self, patience: int = 5, monitor: str | None = None, restore_best: bool = True) -> None:
        super().__init__(monitor)
        self.patience = whole("patience", patience, 1)
        self.restore_best = restore_best
        self._kept: dict[str, Any] = {}

    def on_fit_begin(self, fit: Fit) -> None:
        """Forget earlier fits."""
        super().on_fit_begin(fit)
        self._kept = {}

    def on_epoch_end(self, fit: Fit) -> None:
        """Keep the weights of the best epoch, or stop."""
        if self.improved(fit):
            self._kept = {name: np.array(value) for name, value in fit.network.host_values().items()}
        elif fit.epoch - self.best_epoch >= self.patience:
            fit.stop(f"no better {self.monitored(fit)} for {self.patience} epochs")

    def on_fit_end(self, fit: Fit) -> None:
        """Take back the best weights."""
        if self.restore_best and self._kept:
            fit.network.set_values(self._kept)
            self._kept = {}

    def state(self) -> dict[str, Any]:
        """Return the best figure so far, its epoch and its weights."""
        return super().state() | self._kept

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from the best so far."""
        super().load_state(state)
        self._kept = {name: value for name, value in state.items() if isinstance(value, np.ndarray)}


class SaveBest(_Best):
    """Write the model file after each epoch in which ``monitor`` improved (default: val_loss, else loss)."""

    def __init__(self, path: files.PathLike, monitor: str | None = None) -> None:
        super().__init__(monitor)
        self.path = path

    def on_epoch_end(self, fit: Fit) -> None:
        """Save if this epoch was the best."""
        if self.improved(fit):
            fit.model.save(self.path)


class SaveLast(Callback):
    """Write the model file after each epoch and at the end of the fit, whatever ended it."""

    def __init__(self, path: files.PathLike) -> None:
        self.path = path

    def on_epoch_end(self, fit: Fit) -> None:
        """Save."""
        fit.model.save(self.path)

    def on_fit_end(self, fit: Fit) -> None:
        """Save what an interrupted epoch has learned, unless it has come to numbers that are none."""
        if _finite(fit.network.parameters):
            fit.model.save(self.path)


class Checkpoint(Callback):
    """Write the file from which ``fit(resume=path)`` goes on as if nothing had happened.

    It is written after each epoch, where a fit is interrupted, and every so many ``steps`` (updates) or ``minutes``;
    the one before it stays until it is whole. record: what JSON can hold, kept for whoever resumes. Raises ValueError
    for numbers below 1 step or without any time, FloatingPointError in place of keeping weights that are not finite.

    >>> checkpoint = Checkpoint("cells.checkpoint", minutes=10)
    """

    def __init__(
        self,
        path: files.PathLike,
        steps: int | None = None,
        minutes: float | None = None,
        record: Any = None,
    ) -> None:
        self.path, self.record = path, record
        self.steps = None if steps is None else whole("steps", steps, 1)
        self.minutes = None if minutes is None else number("minutes", minutes, "(0, inf)")

    def on_fit_begin(self, fit: Fit) -> None:
        """Note the time."""
        self._written = time.monotonic()  # which no clock that is set can move

    def on_step_end(self, fit: Fit) -> None:
        """Write after so many steps or minutes; what ends an epoch is written when all of it is known."""
        due = self.steps is not None and fit.step % self.steps == 0
        late = self.minutes is not None and time.monotonic() - self._written >= self.minutes * 60
        if (due or late) and not fit.ends_epoch:
            self._write(fit)

    def on_epoch_end(self, fit: Fit) -> None:
        """Write."""
        self._write(fit)

    def on_stop(self, fit: Fit) -> None:
        """Write what an epoch that was not finished has brought."""
        if not fit.ends_epoch:
            self._write(fit)

    def _write(self, fit: Fit) -> None:
        failure = fit.failure()
        if failure is not None:
            raise _not_finite(fit, failure)
        state = (fit.network.parameters, fit.network.buffers, *fit.optimizer.moments.values())
        if not all(map(_finite, state)):
            raise FloatingPointError(
                f"Step {fit.step}: weights, statistics or moments are not finite, so that the checkpoint of an earlier "
                f"step was kept: {os.fspath(self.path)!r}. Use callbacks.StopOnNaN() to see where that begins."
            )
        checkpoints.write(self.path, fit, self.record)
        self._written = time.monotonic()


class CSVLog(Callback):
    """Write one line an epoch to a CSV file: epoch, loss, every metric that is one number, learning rate, seconds."""

    def __init__(self, path: files.PathLike) -> None:
        self.path = path

    def on_epoch_end(self, fit: Fit) -> None:
        """Write the whole history anew, so that the file is always whole."""
        columns = {name: column for name, column in fit.history.history.items() if np.ndim(column) == 1}
        first = fit.epoch - fit.history.epochs + 1
        epochs = enumerate(zip(*columns.values(), strict=True), start=first)
        lines = ((epoch, *(f"{value:.8g}" for value in values)) for epoch, values in epochs)
        files.write_csv(self.path, [("epoch", *columns), *lines])


class LearningRate(Callback):
    """Set the learning rate during a fit: by a schedule of updates, a number, or a function of the epoch (from 0).

    >>> halving = LearningRate(lambda epoch: 1e-3 * 0.5**epoch)
    """

    def __init__(self, rate: schedules.Schedule | float | Callable[[int], float]) -> None:
        self._before: schedules.Schedule | float | None = None
        self.rate: schedules.Schedule | Callable[[int], float]
        self.rate = rate if callable(rate) else schedules.get(rate)

    def on_fit_begin(self, fit: Fit) -> None:
        """Note the optimiser's own rate."""
        self._before = fit.optimizer.learning_rate

    def on_epoch_begin(self, fit: Fit) -> None:
        """Set the epoch's rate."""
        rate = self.rate
        if not isinstance(rate, schedules.Schedule):
            rate = schedules.get(float(rate(fit.epoch)))
        fit.optimizer.learning_rate = rate

    def on_fit_end(self, fit: Fit) -> None:
        """Give the optimiser its own rate back."""
        if self._before is not None:  # None: another callback failed before the fit began
            fit.optimizer.learning_rate, self._before = self._before, None


class AveragedWeights(Callback):
    """Measure, save and keep an average of the weights over the latest steps in place of the weights themselves.

    decay: in (0, 1); the average remembers about 1 / (1 - decay) steps, fewer at the beginning. After each epoch's last
    step the network holds the average, running statistics too, until the next epoch begins; so it does at the end.
    Polyak and Juditsky, "Acceleration of stochastic approximation by averaging", 1992; as an exponential average in
    Tarvainen and Valpola, "Mean teachers are better role models", 2017.

    >>> average = AveragedWeights(0.99)
    """

    def __init__(self, decay: float = 0.998) -> None:
        self.decay = number("decay", decay, "(0, 1)")
        #: What the network does not hold: the averages of parameters and buffers, or these themselves.
        self._others: list[Array] = []
        self._averaged = False

    def on_fit_begin(self, fit: Fit) -> None:
        """Begin with the weights as they are."""
        self._others = [fit.network.parameters.copy(), fit.network.buffers.copy()]
        self._averaged, self._updates, self._xp = False, 0, fit.network.xp

    def on_epoch_begin(self, fit: Fit) -> None:
        """Go on from the weights themselves."""
        if self._averaged:
            self._exchange(fit)

    def on_step_end(self, fit: Fit) -> None:
        """Take the step into the average, and let the network hold that when the epoch has ended."""
        self._updates += 1
        share = 1 - min(self.decay, self._updates / (self._updates + 9))  # as TensorFlow has it at the beginning
        for average, now in zip(self._others, (fit.network.parameters, fit.network.buffers), strict=True):
            average += share * (now - average)
        if fit.ends_epoch:
            self._exchange(fit)

    def on_fit_end(self, fit: Fit) -> None:
        """Leave the average to the model."""
        if self._others and not self._averaged:
            self._exchange(fit)
        self._others = []

    def state(self) -> dict[str, Any]:
        """Return what the network does not hold at the moment: the average, or the weights themselves."""
        parameters, buffers = map(to_host, self._others)
        return {
            "averaged": self._averaged, "updates": self._updates, "parameters": parameters, "buffers": buffers,
        }  # fmt: skip

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from the average so far."""
        self._averaged, self._updates = bool(state["averaged"]), whole("updates", state["updates"])
        for array, kept in zip(self._others, (state["parameters"], state["buffers"]), strict=True):
            if np.shape(kept) != array.shape:
                raise ValueError(f"an average of {np.shape(kept)} numbers, for {array.shape}")
            array[...] = to_device(self._xp, kept)

    def _exchange(self, fit: Fit) -> None:
        for other, held in zip(self._others, (fit.network.parameters, fit.network.buffers), strict=True):
            kept = held.copy()
            held[...] = other
            other[...] = kept
        self._averaged = not self._averaged


class EvaluateEvery(Callback):
    """Measure the model on given data every ``steps`` updates, without training on it.

    ``results`` holds {"step": …, "loss": …, …} for each measurement.
    """

    def __init__(self, x: Any, y: Any, steps: int) -> None:
        self.x, self.y, self.steps = x, y, whole("steps", steps, 1)
        self.results: list[dict[str, float]] = []

    def on_step_end(self, fit: Fit) -> None:
        """Measure where the step's number is a multiple."""
        if fit.step % self.steps == 0:
            self.results.append({"step": fit.step, **fit.model.evaluate(self.x, self.y)})

    def state(self) -> dict[str, Any]:
        """Return the measurements so far."""
        rows = [{name: np.asarray(value).tolist() for name, value in row.items()} for row in self.results]
        return {"results": rows}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on after the measurements so far."""
        self.results = [dict(row) for row in state["results"]]


#: Images with larger values are the likely cause of numbers that overflow.
EXTREME = 1e6


class StopOnNaN(Callback):
    """Raise FloatingPointError where loss or gradient is NaN or infinite, before the weights are changed.

    The message names the step, the first layer whose output, computed again as in prediction, or the last whose
    gradient is not finite, and the likely cause. A device, which is not waited for, is asked every ``steps`` steps and
    when an epoch ends; it changes no weights from that step on.
    """

    def __init__(self, steps: int = 50) -> None:
        self.steps = whole("steps", steps, 1)

    def on_gradient(self, fit: Fit) -> None:
        """Look at the loss and at the sum of the gradient, one number each."""
        if not math.isfinite(float(fit.result.loss + fit.result.gradient.sum())):
            raise _not_finite(fit, Failure(fit.step, float(fit.result.loss), fit.batch[0], fit.result.gradient))

    def on_step_end(self, fit: Fit) -> None:
        """Ask a device whether a step has failed."""
        failure = fit.failure() if fit.ends_epoch or fit.step % self.steps == 0 else None
        if failure is not None:
            raise _not_finite(fit, failure)

    def on_epoch_end(self, fit: Fit) -> None:
        """Look at the weights, which no later step may look at."""
        if not _finite(fit.network.parameters):
            raise FloatingPointError(
                f"Epoch {fit.epoch}: the weights are not finite after its last update. The likely cause: a learning "
                f"rate of {fit.optimizer.rate:g}. Use a smaller learning rate, or clip_norm."
            )


def _not_finite(fit: Fit, failure: Failure) -> FloatingPointError:
    """Return the error that says which step failed and what in it was not finite."""
    xp = fit.network.xp
    outputs = fit.network.activations(xp.asarray(failure.x), Context(Workspace(xp)))
    guilty = next((name for name, y in outputs.items() if not _finite(y)), None)
    what = f"the output of {guilty!r}" if guilty else "the loss"
    if guilty is None and math.isfinite(failure.loss):
        views = fit.network.layout.views(failure.gradient)
        wrong = [name for name, gradient in views.items() if not _finite(gradient)]
        what = f"the gradient of {wrong[-1]!r}" if wrong else "the gradient's sum"
    reach = float(np.abs(failure.x).max())
    cause = (
        f"images that reach {reach:g}. Bring them to about 0 to 1."
        if reach > EXTREME
        else f"a learning rate of {fit.optimizer.rate:g}. Use a smaller learning rate, or clip_norm."
    )
    return FloatingPointError(
        f"Step {failure.step + 1}, epoch {fit.epoch + 1}: {what} is not finite; loss {failure.loss:g}. "
        f"The weights are those before this step. The likely cause: {cause}"
    )


def _finite(array: Array) -> bool:
    return bool(np.isfinite(to_host(array)).all())
