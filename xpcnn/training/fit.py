"""A running fit as callbacks see it: its progress, and how to stop it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from xpcnn import files
from xpcnn.communicator import ALONE, Communicator
from xpcnn.losses import Loss
from xpcnn.metrics import Metric
from xpcnn.optimizers import Optimizer
from xpcnn.program.network import Network
from xpcnn.training.engine.base import EMPTY, Failure, Figures, StepEngine, Work
from xpcnn.training.history import History
from xpcnn.training.task import Task

HostArray = np.ndarray[Any, Any]


class Model(Protocol):
    """The part of a model that a fit and its callbacks may use."""

    epochs: int
    temperature: float
    thresholds: tuple[float, ...] | None

    def save(self, path: files.PathLike) -> None:
        """Write the model file."""

    def evaluate(self, x: Any, y: Any) -> dict[str, float]:
        """Return loss and metrics."""


class Stateful(Protocol):
    """The part of a callback that a checkpoint uses."""

    @property
    def has_state(self) -> bool:
        """Whether it has a state to store in a checkpoint."""

    def state(self) -> dict[str, Any]:
        """Return the state to store: arrays and JSON-serialisable values."""

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state` returned."""


class Position(NamedTuple):
    """The progress of a fit: epochs, epochs before it began, steps of the current epoch, their time and figures."""

    epoch: int
    first_epoch: int
    done: int
    seconds: float
    figures: Figures


class Fit:
    """One fit, as callbacks see it.

    epoch and step count from 0 over all fits of the model. logs: the quantities of the last complete epoch.
    """

    def __init__(
        self,
        model: Model,
        work: Work,
        task: Task,
        *,
        epochs: int = 1,
        first_epoch: int = 0,
        callbacks: Sequence[Stateful] = (),
        communicator: Communicator = ALONE,
    ) -> None:
        self.model = model
        self.work = work
        self.task = task
        self.communicator = communicator
        self.callbacks = callbacks
        #: What determines the fit, for a checkpoint; recorded at the start, since callbacks change the learning rate.
        self.settings: dict[str, Any] = {}
        self.history = History()
        self.logs: dict[str, float] = {}
        self.engine: StepEngine | None = None
        self.epoch = first_epoch
        self.first_epoch = first_epoch
        self.batches_per_epoch = -(-len(work.samples.rows) // work.batch_size)
        #: Whether the current step is the last of the epoch.
        self.ends_epoch = False
        self.stop_reason: str | None = None
        #: Whether the fit was interrupted rather than ended, so that it can be resumed.
        self.interrupted = False
        #: Where features of frozen layers are kept on disk, if anywhere.
        self.features_folder: Path | None = None
        #: The samples of the current step, as positions in ``work.samples.rows``.
        self.positions: HostArray | None = None
        #: Steps done in the current epoch; figures and seconds of those before the fit was resumed.
        self.done, self.before, self.seconds = 0, EMPTY, 0.0
        self.started = 0.0
        self._count = epochs

    @property
    def network(self) -> Network:
        """The network that is trained."""
        return self.work.network

    @property
    def optimizer(self) -> Optimizer:
        """The optimiser, whose learning rate callbacks may change."""
        return self.work.optimizer

    @property
    def loss(self) -> Loss:
        """The loss that is minimised."""
        return self.work.loss

    @property
    def metrics(self) -> Sequence[Metric]:
        """The metrics reported with the loss."""
        return self.work.metrics

    @property
    def epochs(self) -> int:
        """The epoch at which the fit ends."""
        return self.first_epoch + self._count

    @property
    def step(self) -> int:
        """Number of steps that the optimiser has made so far, with those that float16 skipped."""
        return self.work.optimizer.step

    @property
    def batch(self) -> tuple[HostArray, HostArray]:
        """The images and targets of the current step, on the host."""
        if self.engine is None or self.positions is None:
            raise RuntimeError(
                "There is no batch before the first step or after the fit. Use fit.batch in on_gradient or on_step_end."
            )
        samples, rows = self.work.samples, self.work.samples.rows[self.positions]
        if self.engine.work is self.work:
            return self.engine.images(self.positions), samples.y[rows]
        return samples.images(rows, self.work.seed, self.epoch, self.network.dtype), samples.y[rows]

    def failure(self) -> Failure | None:
        """Return the first step whose loss or gradient was not finite, or None; waits for the device."""
        return None if self.engine is None else self.engine.failure()

    def stop(self, reason: str) -> None:
        """End the fit for good after the current step or epoch."""
        self.stop_reason, self.interrupted = reason, False

    def interrupt(self, reason: str) -> None:
        """End the fit after the current step so that it can be resumed there, unless it was stopped for good."""
        if self.stop_reason is None:
            self.stop_reason, self.interrupted = reason, True

    def position(self) -> Position:
        """Return the progress of the fit; waits for the device."""
        if self.engine is None or not self.done:  # not begun yet, or between two epochs
            return Position(self.epoch, self.first_epoch, self.done, self.seconds, self.before)
        seconds = time.perf_counter() - self.started
        return Position(self.epoch, self.first_epoch, self.done, seconds, self.engine.figures())

    def go_on_from(self, position: Position) -> None:
        """Start from the progress of another fit of the same task."""
        self.epoch, self.first_epoch = position.epoch, position.first_epoch
        self.done, self.seconds, self.before = position.done, position.seconds, position.figures
        self.model.epochs = self.epoch
