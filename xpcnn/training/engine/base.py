"""The interface of engines: a batch forward and backward, and one update."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from xpcnn.backend import Array, ArrayModule
from xpcnn.data.augmentation import Augmentation
from xpcnn.losses import Loss
from xpcnn.metrics import Metric
from xpcnn.optimizers import Optimizer
from xpcnn.parameters import Segment
from xpcnn.program.network import Network

HostArray = np.ndarray[Any, Any]


class StepResult(NamedTuple):
    """The results of a batch: its mean loss, the sums of each metric, its flat gradient, and new buffer values.

    The gradient and the buffers are valid until the next step.
    """

    loss: Array
    sums: list[Array]
    gradient: Array
    buffers: dict[str, dict[str, Array]]


#: Called with the results of a step before the weights are updated.
OnGradient: TypeAlias = Callable[[StepResult], None]


@dataclass(frozen=True)
class Samples:
    """The samples to train on.

    x: images (n, channels, height, width), any array that can be indexed by rows; y: (n, …); weights: (n,) or None;
    rows: the indices of those to train on; augment: applied to images before each step.
    """

    x: Any
    y: HostArray
    weights: HostArray | None
    rows: HostArray
    augment: Augmentation | None = None

    def images(self, rows: HostArray, seed: int, epoch: int, dtype: Any) -> HostArray:
        """Return the images of some rows, augmented for an epoch."""
        x = np.asarray(self.x[rows], dtype=dtype)
        return x if self.augment is None else np.asarray(self.augment(x, seed, epoch, rows), dtype=dtype)


class Held(NamedTuple):
    """The validation data, evaluated after every epoch: images, targets and weights, or None."""

    x: Any
    y: HostArray
    weights: HostArray | None


@dataclass(frozen=True)
class Work:
    """The network to train, with everything that stays the same for all steps of a fit.

    xp: the array module that computes them.
    """

    network: Network
    xp: ArrayModule
    optimizer: Optimizer
    loss: Loss
    metrics: Sequence[Metric]
    samples: Samples
    batch_size: int
    seed: int

    @property
    def segments(self) -> list[Segment]:
        """The parts of the flat parameters that are trained."""
        return self.network.layout.segments(self.network.frozen(), self.network.rates())


class Figures(NamedTuple):
    """The results of an epoch, on the host: the loss and weight of every step, and the sums of each metric."""

    losses: HostArray
    weights: list[float]
    sums: list[HostArray]


#: The figures of an epoch before its first step.
EMPTY = Figures(np.empty(0), [], [])


class Failure(NamedTuple):
    """The first step whose loss or gradient was not finite, with its images; nothing has been updated since."""

    step: int
    loss: float
    x: HostArray
    gradient: Array


class StepEngine(ABC):
    """Runs the steps of a fit."""

    #: The learning rate of the latest step.
    rate: float

    def __init__(self, work: Work) -> None:
        self.work = work
        self._latest: tuple[HostArray, HostArray] | None = None

    def begin_epoch(self, epoch: int, order: HostArray, before: Figures = EMPTY) -> None:
        """Prepare an epoch.

        order: the order of the samples, as positions in ``samples.rows``. before: the figures of the steps that were
        made before the fit was resumed.
        """
        self.epoch, self.order, self._latest = epoch, order, None

    def images(self, positions: HostArray) -> HostArray:
        """Return the images at some positions, augmented for this epoch; those of the latest step are cached."""
        if self._latest is None or self._latest[0] is not positions:
            samples, dtype = self.work.samples, self.work.network.dtype
            self._latest = positions, samples.images(samples.rows[positions], self.work.seed, self.epoch, dtype)
        return self._latest[1]

    @abstractmethod
    def step(self, positions: HostArray, on_gradient: OnGradient) -> None:
        """Run the epoch's next step, with the samples at these positions.

        on_gradient: called with the results before the update, by engines that do not have to wait for them.
        """

    @abstractmethod
    def figures(self) -> Figures:
        """Return the figures of the steps since the epoch began."""

    def failure(self) -> Failure | None:
        """Return the first step that failed, on engines that detect it only later, such as a device."""
        return None
