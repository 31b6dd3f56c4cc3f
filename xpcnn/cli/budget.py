"""``--minutes``: how many epochs fit into them, by timing a few epochs of some of the images."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from xpcnn.backend import ArrayModule
from xpcnn.communicator import Communicator
from xpcnn.data import Split
from xpcnn.program.network import Network
from xpcnn.report import SHARE_OF_TIME
from xpcnn.training.callbacks import Callback
from xpcnn.training.fit import Fit

HostArray = np.ndarray[Any, Any]

#: Epochs to time, the first of which has costs that occur once.
TIMED = 4
#: The learning rate of these epochs, with which no weight can grow.
RATE = 1e-9
#: The fraction of the minutes for timing, and the one that is kept for what could not be foreseen.
TIMING, UNFORESEEN = 0.05, 0.05


@dataclass(frozen=True)
class Times:
    """Seconds of a timed fit: before its first epoch; for steps, validation and files of each epoch; at the end."""

    start: float
    train: HostArray
    validate: HostArray
    save: HostArray
    measure: float


class Clock(Callback):
    """Times the first :data:`TIMED` epochs of a fit, which it ends there."""

    def __init__(self) -> None:
        self._made = time.perf_counter()
        self._begun: list[float] = []
        self._trained: list[float] = []
        self._validated: list[float] = []

    def on_epoch_begin(self, fit: Fit) -> None:
        """Note when an epoch begins."""
        self._begun.append(time.perf_counter())

    def on_step_end(self, fit: Fit) -> None:
        """Note when the steps of an epoch are done."""
        if fit.ends_epoch:
            fit.position()  # which waits for the device
            self._trained.append(time.perf_counter())

    def on_epoch_end(self, fit: Fit) -> None:
        """Note how long it took with validation."""
        self._validated.append(self._begun[-1] + fit.logs["seconds"])
        if fit.epoch == TIMED:
            fit.stop("enough is timed")

    def on_stop(self, fit: Fit) -> None:
        """Note when the files of the last epoch are written."""
        self._begun.append(time.perf_counter())

    def times(self, measure: float) -> Times:
        """Return the times; measure: seconds that it took to evaluate the model."""
        begun, trained, validated = map(np.array, (self._begun, self._trained, self._validated))
        return Times(
            start=self._begun[0] - self._made,
            train=trained - begun[:-1],
            validate=validated - trained,
            save=begun[1:] - validated,
            measure=measure,
        )


@dataclass(frozen=True)
class Estimate:
    """Estimated seconds of a run: of an epoch, and of what occurs once."""

    epoch: float
    once: float

    def epochs(self, seconds: float) -> int:
        """Return the epochs that fit, 0 if not even one does."""
        return max(0, int((seconds * (1 - SHARE_OF_TIME - UNFORESEEN) - self.once) / self.epoch))


#: Begins a fit of so many epochs of a copy of a model, on an array module, to some images, evaluates it if the last
#: argument is True, and times it.
Rehearse = Callable[[ArrayModule, Split, int, bool], Times]


@dataclass(frozen=True)
class Budget:
    """The minutes of a run that began at ``started``, of which all ranks make the same epochs.

    views: of each image that frozen first layers compute once, before the first epoch, if there are as many epochs; 0:
    none. kept: whether those of all images fit in memory, as those of a sample do; else each epoch computes its own.
    """

    options: argparse.Namespace
    started: float
    network: Network
    split: Split
    rehearse: Rehearse
    communicator: Communicator
    views: int
    kept: bool

    def epochs(self) -> int:
        """Return how many epochs fit, at least 1, and print it.

        With the backend ``auto``, a run that is long enough for compiled kernels is timed with them too.
        """
        least = max(TIMED, self.views if self.kept else 0)
        fitting, one = self._fitting(least)
        if fitting < least > TIMED:  # too few to compute all views once
            fitting, one = self._fitting(TIMED)
            fitting = min(fitting, self.views - 1)
        epochs = max(1, fitting)
        found = f"{epochs} of {one.epoch:.2g} s" if fitting else f"not even one of {one.epoch:.2g} s, which is trained"
        print(
            f"epochs that fit into {self.options.minutes:g} minutes: {found}; "
            f"--epochs {epochs} in place of --minutes repeats this run",
            flush=True,
        )
        return epochs

    def _fitting(self, planned: int) -> tuple[int, Estimate]:
        """Return how many epochs fit, 0 if not even one does, and what each takes in a run of ``planned`` or more."""
        estimates: dict[str, Estimate] = {}
        fitting, name = 1, ""
        while True:
            xp = self.network.for_run(max(1, fitting) * len(self.split.train), training=True)
            last, name = name, self.communicator.broadcast(str(xp.__name__))
            if name in estimates:
                return fitting, estimates[last]
            estimates[name] = self._estimate(xp, planned)
            fitting = self.communicator.broadcast(estimates[name].epochs(self._left()))

    def _left(self) -> float:
        return 60 * float(self.options.minutes) - (time.monotonic() - self.started)

    def _estimate(self, xp: ArrayModule, planned: int) -> Estimate:
        """Time epochs of one batch, which also compiles what is to be compiled, then of as many as is worthwhile."""
        split, size = self.split, self.options.batch_size
        batches = -(-len(split.train) // size)
        frozen = 0 < self.views <= planned  # in a rehearsal
        batch_alone = _sample(split, size, size)
        first = self.rehearse(xp, batch_alone, planned, False)
        step, left = float(first.train[1:].min()), self._left()
        batch = TIMED * step + (first.start if frozen else 0.0)
        affordable = self.communicator.broadcast(int(left * TIMING / batch) if step * batches <= left else None)
        if not affordable:
            once = each = 0.0
            if frozen and affordable is not None:  # else there is no time for one epoch
                again = self.rehearse(xp, batch_alone, planned, False)  # with all compiled
                once, each = self._of_frozen(again.start / self._computed(batch_alone))
            return Estimate(step * batches + each, once)
        some = _sample(split, min(batches, max(2, affordable)) * size, size)
        times = self.rehearse(xp, some, planned, True)
        train, validate, save = (float(np.median(each[1:])) for each in (times.train, times.validate, times.save))
        longer = len(split.train) / len(some.train)
        held, timed = len(split.validation), max(1, len(some.validation))
        start, each, image = times.start, 0.0, validate / timed
        if frozen:
            start, each = self._of_frozen(times.start / self._computed(some))
            image = max(image, times.start / self._computed(some))
        once = start + (times.train[0] - train) + (times.validate[0] - validate) + (times.save[0] - save)
        # Calibration, evaluation and the report predict images that were left out here, too.
        views = 8 if self.options.test_augment else 1
        others = (1 + views) * (held - timed) + 2 * views * (len(split.test) - len(some.test))
        after = times.measure + image * others
        epoch = train * longer + each + validate * held / timed + save
        return Estimate(epoch, float(max(0.0, once) + after))

    def _of_frozen(self, image: float) -> tuple[float, float]:
        """Return what frozen layers take once, before the first epoch, and in each, if they take so long an image."""
        if self.kept:
            return image * self._computed(self.split), 0.0
        return 0.0, image * (len(self.split.train) + len(self.split.validation))

    def _computed(self, split: Split) -> int:
        """Return of how many views frozen layers compute what they give."""
        return self.views * len(split.train) + len(split.validation)


def _sample(split: Split, images: int, batch_size: int) -> Split:
    """Return so many training images, and as large a fraction of the others, at least a batch, evenly spaced."""

    def sample(rows: HostArray, count: int) -> HostArray:
        return rows[np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(np.int64))]

    fraction = images / len(split.train)
    validation, test = (
        sample(rows, max(batch_size, round(fraction * len(rows)))) for rows in (split.validation, split.test)
    )
    return Split(sample(split.train, images), validation, test)
