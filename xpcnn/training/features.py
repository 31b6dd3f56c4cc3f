"""What a network's frozen first layers give for the samples of a fit: computed once, not in every epoch."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from xpcnn.backend import is_host
from xpcnn.communicator import ALONE, Communicator
from xpcnn.training import evaluation
from xpcnn.training.engine.base import Work

HostArray = np.ndarray[Any, Any]


class FrozenPart:
    """The frozen first layers of a network, and the rest of it, whose images are what these give.

    xp, batch_size, threads, communicator: of the fit.
    """

    def __init__(self, work: Work, count: int, threads: int | None = None, communicator: Communicator = ALONE) -> None:
        self._first, self.rest = work.network.split(count)
        self._work, self._threads, self._communicator = work, threads, communicator
        self._known: list[tuple[Any, HostArray]] = []

    def features(self, x: Any) -> HostArray:
        """Return the features of images, (n, …); those of the same images are computed once."""
        known = next((features for images, features in self._known if images is x), None)
        if known is None:
            work = self._work
            size = max(work.batch_size, 64)
            known = evaluation.infer(self._first, x, size, self._threads, communicator=self._communicator, xp=work.xp)
            self._known.append((x, known))
        return known

    def work(self) -> Work:
        """Return the work of training the rest on the features."""
        work = self._work
        return replace(work, network=self.rest, samples=replace(work.samples, x=self.features(work.samples.x)))


def frozen_part(work: Work, threads: int | None, communicator: Communicator) -> FrozenPart | None:
    """Return the part of a fit's network that need not be computed again, or None if there is none.

    Images that are augmented differ from epoch to epoch, and features that take more memory than the images are not
    kept. A device, whose kernels gather batches of images, computes everything.
    """
    network = work.network
    count = network.frozen_start()
    if work.samples.augment is not None or count == 0 or not is_host(network.xp):
        return None
    part = FrozenPart(work, count, threads, communicator)
    worthwhile = part.rest.multiplications < network.multiplications
    smaller = math.prod(part.rest.input_shape) <= math.prod(network.input_shape)
    return part if worthwhile and smaller else None
