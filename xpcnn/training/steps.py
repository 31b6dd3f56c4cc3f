"""The steps of a fit: a batch forward and backward, and one update."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from xpcnn.backend import Array, to_host
from xpcnn.data.augmentation import Augmentation
from xpcnn.metrics import with_targets
from xpcnn.program.execute import Executor

if TYPE_CHECKING:
    from xpcnn.training.loop import Fit

HostArray = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Samples:
    """What to learn from.

    x: images (n, channels, height, width), any array that takes rows; y: (n, …); weights: (n,) or None; rows: the
    indices of those to train on; augment: what is done to images before each step.
    """

    x: Any
    y: HostArray
    weights: HostArray | None
    rows: HostArray
    augment: Augmentation | None = None

    def images(self, rows: HostArray, seed: int, epoch: int, dtype: Any) -> HostArray:
        """Return images as a network takes them in an epoch."""
        x = np.asarray(self.x[rows], dtype=dtype)
        return x if self.augment is None else np.asarray(self.augment(x, seed, epoch, rows), dtype=dtype)


class Figures(NamedTuple):
    """What an epoch gave, on the host: the loss and the weight of every step, and the sums of each metric."""

    losses: HostArray
    weights: list[float]
    sums: list[HostArray]


#: The figures of an epoch before its first step.
NOTHING = Figures(np.empty(0), [], [])


class Failure(NamedTuple):
    """The first step whose loss or gradient was not finite, and what it worked on; nothing has been updated since."""

    step: int
    loss: float
    x: HostArray
    gradient: Array


class Steps(ABC):
    """How a fit makes its steps."""

    #: The learning rate of the latest step.
    rate: float

    def __init__(self, fit: Fit, samples: Samples) -> None:
        self.fit = fit
        self.samples = samples

    def begin_epoch(self, order: HostArray, before: Figures = NOTHING) -> None:
        """Prepare an epoch that takes the samples in this order, positions in ``samples.rows``.

        before: what its first steps gave, where they were made before the fit was resumed.
        """
        self.order, self._epoch = order, self.fit.epoch

    @abstractmethod
    def step(self, positions: HostArray) -> None:
        """Make the epoch's next step, with the samples at these positions, and set the fit's ``result``."""

    @abstractmethod
    def figures(self) -> Figures:
        """Return the figures of the steps since the epoch began."""

    def close(self) -> None:
        """Let go of what refers to the fit, so that it and its memory are freed at once."""
        del self.fit

    def failure(self) -> Failure | None:
        """Return the first step that failed, where that is only known later: on a device."""
        return None

    def batch(self, positions: HostArray) -> tuple[HostArray, HostArray]:
        """Return the images and targets at some positions, as they are in this epoch."""
        rows, fit = self.samples.rows[positions], self.fit
        return self.samples.images(rows, fit.seed, self._epoch, fit.network.dtype), self.samples.y[rows]


class EagerSteps(Steps):
    """Steps whose batches are made on the host, and in which callbacks see every gradient before the update."""

    def __init__(self, fit: Fit, samples: Samples, runner: Executor, on_gradient: Callable[[], None]) -> None:
        super().__init__(fit, samples)
        self._runner = runner
        self._on_gradient = on_gradient
        runner.prepare_training(fit.loss)

    def begin_epoch(self, order: HostArray, before: Figures = NOTHING) -> None:
        """Begin to count, or go on counting."""
        super().begin_epoch(order, before)
        losses, weights, sums = before
        xp, dtype = self.fit.network.xp, self.fit.network.dtype
        self._losses: list[Array] = [xp.asarray(loss) for loss in losses.astype(dtype)]
        self._weights = list(weights)
        self._sums: list[Array] = [xp.asarray(total) for total in sums]

    def step(self, positions: HostArray) -> None:
        """Make one update."""
        fit, samples = self.fit, self.samples
        network, rows = fit.network, samples.rows[positions]
        own = self._runner.own_rows(len(rows))
        if own == slice(0, len(rows)):
            x, y = fit.batch
        else:
            x, y = samples.images(rows[own], fit.seed, self._epoch, network.dtype), samples.y[rows]
        width = network.output_shape[0]
        targets = fit.loss.prepare(y, width, None if samples.weights is None else samples.weights[rows], network.dtype)
        measured = with_targets(fit.metrics, targets, y, width)
        fit.result = self._runner.train(x, targets, measured, fit.seed, fit.step)
        self._on_gradient()
        self.rate = fit.optimizer.rate
        fit.optimizer.update(network.parameters, fit.result.gradient, fit.segments)
        network.update_buffers(fit.result.buffers)
        self._losses.append(fit.result.loss)
        self._weights.append(targets.normalizer)
        self._add(fit.result.sums)

    def close(self) -> None:
        """Let go of the fit, which the function refers to."""
        super().close()
        del self._on_gradient

    def figures(self) -> Figures:
        """Read everything back at once."""
        if not self._losses:
            return NOTHING
        losses = to_host(self.fit.network.xp.stack(self._losses)).astype(float)
        return Figures(losses, list(self._weights), [to_host(total) for total in self._sums])

    def _add(self, sums: list[Array]) -> None:
        pairs = zip(self._sums, sums, strict=True)
        self._sums = [total + part for total, part in pairs] if self._sums else sums
