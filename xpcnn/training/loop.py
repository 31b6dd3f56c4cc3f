"""The loop over epochs and steps."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np

from xpcnn.backend import has_graphs
from xpcnn.communicator import ALONE, Communicator
from xpcnn.data.batches import batches, shuffled
from xpcnn.graphs import own_stream
from xpcnn.losses import Loss
from xpcnn.metrics import Metric
from xpcnn.optimizers import Optimizer
from xpcnn.program.execute import Executor, StepResult
from xpcnn.program.network import Network
from xpcnn.training import checkpoints
from xpcnn.training.callbacks import Callback, Checkpoint, Model, StopOnNaN
from xpcnn.training.device import DeviceSteps
from xpcnn.training.history import History
from xpcnn.training.progress import Progress
from xpcnn.training.steps import NOTHING, EagerSteps, Failure, Samples, Steps
from xpcnn.training.task import Task, code_digest

HostArray = np.ndarray[Any, Any]


class Fit:
    """One fit: what callbacks see and may stop.

    epoch and step count from 0 over all fits of the model. logs: the quantities of the last whole epoch. result: loss,
    gradient and metric sums of the step at hand, on the device.
    """

    def __init__(
        self,
        model: Model,
        network: Network,
        optimizer: Optimizer,
        loss: Loss,
        metrics: Sequence[Metric],
        task: Task,
        *,
        seed: int = 0,
        first_epoch: int = 0,
        communicator: Communicator = ALONE,
    ) -> None:
        self.communicator = communicator
        self.model = model
        self.network = network
        self.optimizer = optimizer
        self.loss = loss
        self.metrics = list(metrics)
        self.task = task
        self.seed = seed
        self.epoch = first_epoch
        self.history = History()
        self.logs: dict[str, float] = {}
        self.result: StepResult
        self._steps: Steps | None = None
        self._positions: HostArray | None = None
        self._batch: tuple[HostArray, HostArray] | None = None
        #: Whether the step at hand is the epoch's last.
        self.ends_epoch = False
        self.stop_reason: str | None = None
        #: Whether what stopped the fit is no end of it, so that it can be resumed.
        self.interrupted = False
        #: Whether all processes know by now that one of them stops.
        self._ended = False
        self._first_epoch = first_epoch
        #: Steps of the epoch at hand, and what the first of them gave if they were made before it was resumed.
        self._done, self._before, self._seconds = 0, NOTHING, 0.0

    @property
    def step(self) -> int:
        """Number of updates that the optimiser has made so far."""
        return self.optimizer.step

    @property
    def batch(self) -> tuple[HostArray, HostArray]:
        """The images and targets of the step at hand, on the host."""
        if self._batch is None:
            if self._steps is None or self._positions is None:
                raise RuntimeError("There is no batch before the first step, nor after the fit.")
            self._batch = self._steps.batch(self._positions)
        return self._batch

    def failure(self) -> Failure | None:
        """Return the first step whose loss or gradient was not finite, as far as the device has come: this waits."""
        return None if self._steps is None else self._steps.failure()

    def stop(self, reason: str) -> None:
        """End the fit after the step, or the epoch, at hand, for good."""
        self.stop_reason, self.interrupted = reason, False

    def interrupt(self, reason: str) -> None:
        """End the fit after the step at hand, to be resumed there; one that was stopped for good stays so."""
        if self.stop_reason is None:
            self.stop_reason, self.interrupted = reason, True

    def position(self) -> checkpoints.Position:
        """Return how far the fit has come; on a device, this waits."""
        if self._steps is None or not self._done:  # not begun yet, or between two epochs
            return checkpoints.Position(self.epoch, self._first_epoch, self._done, self._seconds, self._before)
        seconds = time.perf_counter() - self._started
        return checkpoints.Position(self.epoch, self._first_epoch, self._done, seconds, self._steps.figures())

    def go_on_from(self, position: checkpoints.Position) -> None:
        """Begin where another fit of the same task has come to."""
        self.epoch, self._first_epoch = position.epoch, position.first_epoch
        self._done, self._seconds, self._before = position.done, position.seconds, position.figures
        self.model.epochs = self.epoch

    def run(
        self,
        samples: Samples,
        *,
        epochs: int,
        batch_size: int,
        shuffle: bool,
        validate: Callable[[], dict[str, float]] | None,
        shards: int | None,
        threads: int | None,
        callbacks: Sequence[Callback],
        verbose: int,
        resume: checkpoints.SavedFit | None = None,
    ) -> History:
        """Train for some epochs, or for what another fit has left of them; ``validate`` measures after each."""
        # A checkpoint holds what all the others know, so it comes last.
        self.callbacks = sorted(callbacks, key=lambda callback: isinstance(callback, Checkpoint))
        callbacks = [callback for callback in self.callbacks if self.communicator.rank == 0 or not callback.writes]
        apart = self.communicator.size > 1
        if resume is not None or apart or any(isinstance(callback, Checkpoint) for callback in callbacks):
            self.settings = self.task.settings(self)  # here, since callbacks may change the learning rate
        if apart:
            self._compare_ranks(resume is not None)
        if resume is not None:
            resume.restore(self)
        self.model.temperature = 1.0  # what was found for the weights before
        self.epochs = self._first_epoch + epochs
        self.batches_per_epoch = -(-len(samples.rows) // batch_size)
        self.segments = self.network.layout.segments(self.network.frozen())
        self.optimizer.build(self.network.xp, self.network.parameters)
        with ExitStack() as stack:
            make_steps = self._way_to_step(stack, samples, batch_size, shards, threads, callbacks)
            stack.callback(self._let_go)
            for callback in reversed(callbacks):  # each gets its end, whatever happens, and in the order given
                stack.callback(callback.on_fit_end, self)
            for callback in callbacks:
                callback.on_fit_begin(self)
            if resume is not None:
                resume.restore_callbacks(self)
            self._agree()
            if self.epoch < self.epochs and not self._ended:
                self._steps = make_steps()
                progress = Progress(self, shown=verbose > 0)
                while self.epoch < self.epochs and not self._ended:
                    self._run_epoch(self._steps, batch_size, shuffle, validate, callbacks, progress, verbose)
                for callback in callbacks:
                    callback.on_stop(self)
            self.history.steps.extend(self.position().figures.losses.tolist())  # of an epoch that was not finished
        self.history.stop_reason = self.stop_reason
        return self.history

    def _compare_ranks(self, resumed: bool) -> None:
        """Refuse ranks that would not make the same fit, and let all begin with the weights of the first."""
        together = self.communicator
        backend = str(self.network.xp.__name__)
        together.same("code", checkpoints.versions() | {"backend": backend, "sources": code_digest()})
        together.same("arguments", self.settings)
        together.same("data", self.task.sample_digests())
        together.same("past", {"epochs": self.epoch, "steps": self.step})
        if any(isinstance(callback, Checkpoint) for callback in self.callbacks) or resumed:
            self.task.find_digests(together.spread)  # here, while all can help, and not when the first rank writes
        self.network.set_values(together.hand_down(self.network.host_values()))

    def _agree(self) -> None:
        """Note whether the fit ends here, on all ranks if one of them stops: a signal reaches that at any moment."""
        self.communicator.doing = f"step {self.step}, epoch {self.epoch + 1}"
        for reason, interrupted in self.communicator.gather((self.stop_reason, self.interrupted)):
            if reason is not None:
                self._ended = True
                if self.stop_reason is None:
                    self.stop_reason, self.interrupted = reason, interrupted

    def _let_go(self) -> None:
        """Let go of the steps, and of the memory that they took."""
        if self._steps is not None:
            self._steps.close()
            self._steps = None

    def _way_to_step(
        self,
        stack: ExitStack,
        samples: Samples,
        batch_size: int,
        shards: int | None,
        threads: int | None,
        callbacks: Sequence[Callback],
    ) -> Callable[[], Steps]:
        """Return what makes the steps that suit the backend: a device is left alone unless a callback looks in."""
        quiet = (Callback.on_gradient, StopOnNaN.on_gradient)
        watched = any(type(callback).on_gradient not in quiet for callback in callbacks)
        if has_graphs(self.network.xp) and shards in (None, 1) and not watched and self.communicator.size == 1:
            stack.enter_context(own_stream(self.network.xp))
            guarded = any(isinstance(callback, StopOnNaN) for callback in callbacks)
            return lambda: DeviceSteps(self, samples, batch_size, guarded)
        size = min(batch_size, len(samples.rows))
        runner = stack.enter_context(Executor(self.network, size, shards, threads, True, self.communicator))
        ranks = self.communicator.size
        if self.communicator.rank == 0 and runner.shards < ranks:
            warnings.warn(
                f"A batch of {size} is cut into {runner.shards} pieces, so that {ranks - runner.shards} of {ranks} "
                "ranks have nothing to do. Give more shards, or larger batches.",
                stacklevel=3,
            )

        def on_gradient() -> None:
            for callback in callbacks:
                callback.on_gradient(self)

        return lambda: EagerSteps(self, samples, runner, on_gradient)

    def _run_epoch(
        self,
        steps: Steps,
        batch_size: int,
        shuffle: bool,
        validate: Callable[[], dict[str, float]] | None,
        callbacks: Sequence[Callback],
        progress: Progress,
        verbose: int,
    ) -> None:
        self._started = time.perf_counter() - self._seconds
        for callback in callbacks:
            callback.on_epoch_begin(self)
        n = len(steps.samples.rows)
        steps.begin_epoch(shuffled(n, self.seed, self.epoch) if shuffle else np.arange(n), self._before)
        self._before, self._seconds = NOTHING, 0.0
        done = self._done * batch_size
        with progress.epoch(steps, done):
            for positions in batches(steps.order[done:], batch_size):
                self._batch, self._positions = None, positions
                steps.step(positions)
                self._done += 1
                progress.step(len(positions))
                self.ends_epoch = self._done == self.batches_per_epoch
                for callback in callbacks:
                    callback.on_step_end(self)
                self._agree()
                if self._ended:
                    break
        if self._done < self.batches_per_epoch:
            return
        losses, weights, sums = steps.figures()
        self.history.steps.extend(losses.tolist())
        self._done = 0
        self.epoch += 1
        self.model.epochs = self.epoch
        self.logs = {"loss": float(np.average(losses, weights=weights))}
        for metric, total in zip(self.metrics, sums, strict=True):
            self.logs[metric.name] = metric.result(total)
        if validate is not None:
            self.logs.update({f"val_{name}": value for name, value in validate().items()})
        self.logs["lr"] = steps.rate
        self.logs["seconds"] = time.perf_counter() - self._started
        self.history.append(self.logs)
        for callback in callbacks:
            callback.on_epoch_end(self)
        if verbose and self.epoch % verbose == 0:
            print(self._line(), flush=True)  # at last: an epoch that is printed is saved
        self._agree()

    def _line(self) -> str:
        """Return the epoch in one line."""
        shown = (
            f"{name} {value:.4g}" for name, value in self.logs.items() if np.ndim(value) == 0 and name != "seconds"
        )
        return f"epoch {self.epoch}/{self.epochs}  {'  '.join(shown)}  {self.logs['seconds']:.1f} s"
