"""Steps whose batches are made on the host: every gradient can be looked at before the update."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpcnn.backend import Array, to_host
from xpcnn.metrics import with_targets
from xpcnn.program.execute import Executor
from xpcnn.training.engine.base import EMPTY, Figures, Look, StepEngine, Work

HostArray = np.ndarray[Any, Any]


class HostEngine(StepEngine):
    """Makes steps in shards, by an executor that is entered already."""

    def __init__(self, work: Work, executor: Executor) -> None:
        super().__init__(work)
        self._executor = executor
        self._segments = work.segments
        executor.prepare_training(work.loss)

    def begin_epoch(self, epoch: int, order: HostArray, before: Figures = EMPTY) -> None:
        """Begin to count, or go on counting."""
        super().begin_epoch(epoch, order, before)
        losses, weights, sums = before
        xp, dtype = self.work.network.xp, self.work.network.dtype
        self._losses: list[Array] = [xp.asarray(loss) for loss in losses.astype(dtype)]
        self._weights = list(weights)
        self._sums: list[Array] = [xp.asarray(total) for total in sums]

    def step(self, positions: HostArray, look: Look) -> None:
        """Make one update."""
        work = self.work
        network, optimizer, loss, samples, seed = work.network, work.optimizer, work.loss, work.samples, work.seed
        rows = samples.rows[positions]
        own = self._executor.own_rows(len(rows))
        whole = own == slice(0, len(rows))
        x = self.images(positions) if whole else samples.images(rows[own], seed, self.epoch, network.dtype)
        y, weights = samples.y[rows], None if samples.weights is None else samples.weights[rows]
        width = network.output_shape[0]
        targets = loss.prepare(y, width, weights, network.dtype)
        result = self._executor.train(x, targets, with_targets(work.metrics, targets, y, width), seed, optimizer.step)
        look(result)
        self.rate = optimizer.rate
        optimizer.update(network.parameters, result.gradient, self._segments)
        network.update_buffers(result.buffers)
        self._losses.append(result.loss)
        self._weights.append(targets.normalizer)
        pairs = zip(self._sums, result.sums, strict=True)
        self._sums = [total + part for total, part in pairs] if self._sums else result.sums

    def figures(self) -> Figures:
        """Read everything back at once."""
        if not self._losses:
            return EMPTY
        losses = to_host(self.work.network.xp.stack(self._losses)).astype(float)
        return Figures(losses, list(self._weights), [to_host(total) for total in self._sums])
