"""A fit as callbacks see it: its progress, and how to stop it."""

from __future__ import annotations

import time
from collections.abc import Sequence
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
    """What a fit and its callbacks may ask of the model that is fitted."""

    epochs: int
    temperature: float

    def save(self, path: files.PathLike) -> None:
        """Write the model file."""

    def evaluate(self, x: Any, y: Any) -> dict[str, float]:
        """Measure loss and metrics."""


class Stateful(Protocol):
    """What a checkpoint asks of a callback."""

    @property
    def has_state(self) -> bool:
        """Whether a checkpoint keeps something of it."""

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps: arrays, and what JSON can hold."""

    def load_state(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state` gave."""


class Position(NamedTuple):
    """How far a fit has come: epochs, those before it began, steps of the epoch at hand and what they gave."""

    epoch: int
    first_epoch: int
    done: int
    seconds: float
    figures: Figures


class Fit:
    """One fit: what callbacks see and may stop.

    epoch and step count from 0 over all fits of the model. logs: the quantities of the last whole epoch.
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
        #: What decides how it goes, for a checkpoint: noted when it begins, since callbacks change the learning rate.
        self.settings: dict[str, Any] = {}
        self.history = History()
        self.logs: dict[str, float] = {}
        self.engine: StepEngine | None = None
        self.epoch = first_epoch
        self.first_epoch = first_epoch
        self.batches_per_epoch = -(-len(work.samples.rows) // work.batch_size)
        #: Whether the step at hand is the epoch's last.
        self.ends_epoch = False
        self.stop_reason: str | None = None
        #: Whether what stopped the fit is no end of it, so that it can be resumed.
        self.interrupted = False
        #: The samples of the step at hand, as positions in ``work.samples.rows``.
        self.positions: HostArray | None = None
        #: Steps of the epoch at hand, and what the first of them gave if they were made before it was resumed.
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
        """Number of the epoch at which the fit ends."""
        return self.first_epoch + self._count

    @property
    def step(self) -> int:
        """Number of updates that the optimiser has made so far."""
        return self.work.optimizer.step

    @property
    def batch(self) -> tuple[HostArray, HostArray]:
        """The images and targets of the step at hand, on the host."""
        if self.engine is None or self.positions is None:
            raise RuntimeError("There is no batch before the first step, nor after the fit.")
        samples = self.work.samples
        return self.engine.images(self.positions), samples.y[samples.rows[self.positions]]

    def failure(self) -> Failure | None:
        """Return the first step whose loss or gradient was not finite, as far as the device has come: this waits."""
        return None if self.engine is None else self.engine.failure()

    def stop(self, reason: str) -> None:
        """End the fit after the step, or the epoch, at hand, for good."""
        self.stop_reason, self.interrupted = reason, False

    def interrupt(self, reason: str) -> None:
        """End the fit after the step at hand, to be resumed there; one that was stopped for good stays so."""
        if self.stop_reason is None:
            self.stop_reason, self.interrupted = reason, True

    def position(self) -> Position:
        """Return how far the fit has come; on a device, this waits."""
        if self.engine is None or not self.done:  # not begun yet, or between two epochs
            return Position(self.epoch, self.first_epoch, self.done, self.seconds, self.before)
        seconds = time.perf_counter() - self.started
        return Position(self.epoch, self.first_epoch, self.done, seconds, self.engine.figures())

    def go_on_from(self, position: Position) -> None:
        """Start from the progress of another fit of the same task."""
        self.epoch, self.first_epoch = position.epoch, position.first_epoch
        self.done, self.seconds, self.before = position.done, position.seconds, position.figures
        self.model.epochs = self.epoch
