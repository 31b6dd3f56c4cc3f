"""The loop over epochs and steps."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np

from xpcnn.backend import Array, to_host
from xpcnn.data.augmentation import Augmentation
from xpcnn.data.batches import batches, shuffled
from xpcnn.losses import Loss
from xpcnn.metrics import Metric, with_targets
from xpcnn.network import Network
from xpcnn.optimizers import Optimizer
from xpcnn.training.callbacks import Callback, Model
from xpcnn.training.history import History
from xpcnn.training.shards import Runner, StepResult


@dataclass(frozen=True)
class Samples:
    """What to learn from.

    x: images (n, channels, height, width), any array that takes rows; y: (n, …); weights: (n,) or None; rows: the
    indices of those to train on.
    """

    x: Any
    y: np.ndarray[Any, Any]
    weights: np.ndarray[Any, Any] | None
    rows: np.ndarray[Any, Any]


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
        *,
        seed: int = 0,
        first_epoch: int = 0,
    ) -> None:
        self.model = model
        self.network = network
        self.optimizer = optimizer
        self.loss = loss
        self.metrics = list(metrics)
        self.seed = seed
        self.epoch = first_epoch
        self.history = History()
        self.logs: dict[str, float] = {}
        self.result: StepResult
        self.batch: tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]
        self.stop_reason: str | None = None

    @property
    def step(self) -> int:
        """Number of updates that the optimiser has made so far."""
        return self.optimizer.step

    def stop(self, reason: str) -> None:
        """End the fit after the step, or the epoch, at hand."""
        self.stop_reason = reason

    def run(
        self,
        samples: Samples,
        *,
        epochs: int,
        batch_size: int,
        shuffle: bool,
        validate: Callable[[], dict[str, float]] | None,
        augment: Augmentation | None,
        shards: int | None,
        threads: int | None,
        callbacks: Sequence[Callback],
        verbose: int,
    ) -> History:
        """Train for some epochs; ``validate`` measures the validation part after each."""
        self.epochs = self.epoch + epochs
        self.batches_per_epoch = -(-len(samples.rows) // batch_size)
        self.segments = self.network.layout.segments(self.network.frozen())
        self.optimizer.build(self.network.xp, self.network.parameters)
        with ExitStack() as stack:
            size = min(batch_size, len(samples.rows))
            runner = stack.enter_context(Runner(self.network, size, shards, threads, training=True))
            for callback in reversed(callbacks):  # each gets its end, whatever happens, and in the order given
                stack.callback(callback.on_fit_end, self)
            for callback in callbacks:
                callback.on_fit_begin(self)
            runner.prepare_training(self.loss)
            while self.epoch < self.epochs and self.stop_reason is None:
                self._run_epoch(runner, samples, batch_size, shuffle, augment, validate, callbacks, verbose)
        return self.history

    def _run_epoch(
        self,
        runner: Runner,
        samples: Samples,
        batch_size: int,
        shuffle: bool,
        augment: Augmentation | None,
        validate: Callable[[], dict[str, float]] | None,
        callbacks: Sequence[Callback],
        verbose: int,
    ) -> None:
        from tqdm import tqdm

        started = time.perf_counter()
        for callback in callbacks:
            callback.on_epoch_begin(self)
        rows = samples.rows
        order = rows[shuffled(len(rows), self.seed, self.epoch)] if shuffle else rows
        losses: list[Array] = []
        weights: list[float] = []
        sums: list[Array] | None = None
        bar = tqdm(
            batches(order, batch_size),
            desc=f"epoch {self.epoch + 1}/{self.epochs}",
            total=self.batches_per_epoch,
            disable=None if verbose else True,
            leave=False,
            unit="step",
        )
        with bar:
            for rows in bar:
                weights.append(self._run_step(runner, samples, rows, augment, callbacks))
                losses.append(self.result.loss)
                sums = self._add(sums, self.result.sums)
                for callback in callbacks:
                    callback.on_step_end(self)
                if self.stop_reason is not None:
                    break
        step_losses = to_host(self.network.xp.stack(losses)).astype(float)
        self.history.steps.extend(step_losses.tolist())
        if len(losses) < self.batches_per_epoch:
            return
        self.epoch += 1
        self.model.epochs = self.epoch
        self.logs = {"loss": float(np.average(step_losses, weights=weights))}
        for metric, total in zip(self.metrics, sums or [], strict=True):
            self.logs[metric.name] = metric.result(to_host(total))
        if validate is not None:
            self.logs.update({f"val_{name}": value for name, value in validate().items()})
        self.logs["lr"] = self._rate
        self.logs["seconds"] = time.perf_counter() - started
        self.history.append(self.logs)
        if verbose and self.epoch % verbose == 0:
            print(self._line(), flush=True)
        for callback in callbacks:
            callback.on_epoch_end(self)

    def _run_step(
        self,
        runner: Runner,
        samples: Samples,
        rows: np.ndarray[Any, Any],
        augment: Augmentation | None,
        callbacks: Sequence[Callback],
    ) -> float:
        """Make one update and return the batch's normaliser, its weight in the epoch's mean loss."""
        dtype = self.network.dtype
        x = np.asarray(samples.x[rows], dtype=dtype)
        if augment is not None:
            x = np.asarray(augment(x, self.seed, self.epoch, rows), dtype=dtype)
        y = samples.y[rows]
        weights = None if samples.weights is None else samples.weights[rows]
        width = self.network.output_shape[0]
        targets = self.loss.prepare(y, width, weights, dtype)
        measured = with_targets(self.metrics, targets, y, width)
        self.batch = (x, y)
        self.result = runner.train(x, targets, measured, self.seed, self.step)
        for callback in callbacks:
            callback.on_gradient(self)
        self._rate = float(self.optimizer.rate)
        self.optimizer.update(self.network.parameters, self.result.gradient, self.segments)
        self.network.update_buffers(self.result.buffers)
        return targets.normalizer

    def _line(self) -> str:
        """Return the epoch in one line."""
        shown = (
            f"{name} {value:.4g}" for name, value in self.logs.items() if np.ndim(value) == 0 and name != "seconds"
        )
        return f"epoch {self.epoch}/{self.epochs}  {'  '.join(shown)}  {self.logs['seconds']:.1f} s"

    def _add(self, sums: list[Array] | None, more: list[Array]) -> list[Array]:
        if sums is None:
            return more
        return [total + part for total, part in zip(sums, more, strict=True)]
