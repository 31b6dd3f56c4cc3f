"""Training steps driven by the host, in shards on threads and ranks, with access to every gradient."""

from __future__ import annotations

import functools
from collections.abc import Hashable, Sequence
from typing import Any, cast

import numpy as np

from xpcnn.backend import Array, ArrayModule, is_host, to_device, to_host
from xpcnn.layers import Context
from xpcnn.losses import Loss, Targets
from xpcnn.metrics import Metric, with_targets
from xpcnn.optimizers.loss_scale import LossScale
from xpcnn.program.execute import Executor, Goal, Shard, training_rounds
from xpcnn.program.memory import Batch, Memory
from xpcnn.program.network import Network
from xpcnn.program.replay import Notes
from xpcnn.program.shards import add_tree, cut
from xpcnn.recording import each_time, made_each_time, unwatched
from xpcnn.training.engine.base import EMPTY, Figures, OnGradient, StepEngine, StepResult, Work

HostArray = np.ndarray[Any, Any]
Buffers = dict[str, dict[str, Array]]


class HostEngine(StepEngine):
    """Runs steps on an executor that has been entered."""

    def __init__(self, work: Work, executor: Executor) -> None:
        super().__init__(work)
        self._sharded = ShardedTraining(executor, work.loss)
        self._segments = work.segments

    def begin_epoch(self, epoch: int, order: HostArray, before: Figures = EMPTY) -> None:
        """Reset the figures, or continue from those before the fit was resumed."""
        super().begin_epoch(epoch, order, before)
        losses, weights, sums = before
        xp, dtype = self.work.network.xp, self.work.network.dtype
        self._losses: list[Array] = [xp.asarray(loss) for loss in losses.astype(dtype)]
        self._weights = list(weights)
        self._sums: list[Array] = [xp.asarray(total) for total in sums]

    def step(self, positions: HostArray, on_gradient: OnGradient) -> None:
        """Run one step: gradient, ``on_gradient``, update."""
        work = self.work
        network, optimizer, loss, samples, seed = work.network, work.optimizer, work.loss, work.samples, work.seed
        rows = samples.rows[positions]
        own = self._sharded.own_rows(len(rows))
        whole = own == slice(0, len(rows))
        x = self.images(positions) if whole else samples.images(rows[own], seed, self.epoch, network.dtype)
        y, weights = samples.y[rows], None if samples.weights is None else samples.weights[rows]
        width = network.output_shape[0]
        targets = loss.prepare(y, width, weights, network.dtype)
        measured, scale = with_targets(work.metrics, targets, y, width), optimizer.loss_scale
        result = self._sharded.train(x, targets, measured, seed, optimizer.step, scale)
        finite = None if scale is None else scale.unscale(network.xp, result.gradient)
        on_gradient(result)
        self.rate = optimizer.rate
        if scale is not None:
            scale.update(network.xp, finite)
        if finite is None or to_host(finite):
            optimizer.update(network.parameters, result.gradient, self._segments)
            network.update_buffers(result.buffers)
        else:
            optimizer.skip()
        self._losses.append(result.loss)
        self._weights.append(targets.normalizer)
        pairs = zip(self._sums, result.sums, strict=True)
        self._sums = [total + part for total, part in pairs] if self._sums else result.sums

    def figures(self) -> Figures:
        """Return the figures so far, read back at once."""
        if not self._losses:
            return EMPTY
        losses = to_host(self.work.network.xp.stack(self._losses)).astype(float)
        return Figures(losses, list(self._weights), [to_host(total) for total in self._sums])


class TrainingMemory(Memory):
    """Memory with a flat gradient for each shard, and a separate workspace too if shards synchronize."""

    def __init__(self, network: Network, xp: ArrayModule, threads: int, shards: int, workspaces: int) -> None:
        super().__init__(xp, threads)
        self.grow(workspaces)
        self.gradients = [xp.zeros(network.layout.size, dtype=network.dtype) for _ in range(shards)]
        #: Their views by layer.
        self.views = [network.layout.layer_views(gradient) for gradient in self.gradients]


class ShardedTraining:
    """Computes loss and gradient of batches, for the layers that are not currently frozen."""

    def __init__(self, executor: Executor, loss: Loss) -> None:
        network, together = executor.network, executor.communicator
        self._executor, self._network, self._together, self._loss = executor, network, together, loss
        self._xp = executor.xp
        self._program = network.training_program(loss)
        self._rounds = training_rounds(self._program)
        own = len(range(executor.shards)[together.shards(executor.shards)[0]])  # rank 0 has the most
        shape = executor.threads, own, executor.shards if self._program.reduces else executor.threads
        purpose = executor.xp, *shape, executor.shards, together.rank, together.size
        # A second fit reuses the memory and the recordings of the first.
        self._memory = executor.borrow_memory(
            lambda: TrainingMemory(network, executor.xp, *shape), "training", only=purpose
        )
        for gradient in self._memory.gradients:
            gradient.fill(0)  # backward doesn't reach frozen layers before the first trained one

    def train(
        self,
        x: HostArray,
        targets: Targets,
        measured: Sequence[tuple[Metric, HostArray]],
        seed: int,
        step: int,
        scale: LossScale | None = None,
    ) -> StepResult:
        """Return loss, metrics and gradient of one batch of host arrays.

        x: the images of :meth:`own_rows` only; everything else, including the result, refers to the whole batch.
        measured: each metric with the targets that it compares. scale: what the gradient is multiplied by, if anything.
        """
        n, together, executor, xp = len(targets.encoded), self._together, self._executor, self._xp
        batch, shards, dtype = self._memory.batch, cut(n, executor.shards), self._network.dtype
        shares = together.shards(len(shards))
        own, holders = range(len(shards))[shares[together.rank]], sum(share.start < len(shards) for share in shares)
        batch.x, batch.targets, batch.weights = x, targets.encoded, targets.weights
        batch.first_row = self.own_rows(n).start
        batch.normalizer = np.asarray(targets.normalizer or 1.0, dtype)  # if all weights are 0, it contributes nothing
        batch.seed, batch.step, batch.scale = seed, step, None if scale is None else scale.scale
        batch.losses = xp.empty(len(shards), dtype=dtype)
        batch.y = xp.empty((n, *self._network.output_shape), dtype=dtype)
        gradients = self._memory.gradients[: len(own)] or self._memory.gradients[:1]
        begin = functools.partial(self._begin, own, shards)
        replay = self._memory.replay((n, targets.encoded.shape[1:], targets.weights is None), self._holds())
        if not own:
            buffers: Buffers = {}
        elif replay is None:
            buffers = executor.run(self._rounds, begin, len(own), holders)[0].context.buffers
        else:

            def compute(notes: Notes | None) -> Buffers:
                return executor.run(self._rounds, begin, len(own), holders, notes)[0].context.buffers

            buffers = replay.run(compute, lambda: (*gradients, batch.losses, batch.y), executor.on_shards)
        if together.size > 1:
            buffers = self._exchange(batch, shards, shares, buffers)
        return StepResult(
            add_tree(list(batch.losses), xp.add),
            [metric.sums(xp, batch.y, to_device(xp, expected)) for metric, expected in measured],
            together.add(xp, add_tree(gradients, lambda a, b: xp.add(a, b, out=a)), holders),
            buffers,
        )

    def own_rows(self, n: int) -> slice:
        """Return which rows of a batch of n this process computes."""
        shards = cut(n, self._executor.shards)
        own = shards[self._together.shards(len(shards))[self._together.rank]]
        return slice(own[0].start, own[-1].stop) if own else slice(0, 0)

    def _exchange(self, batch: Batch, shards: list[slice], shares: list[slice], buffers: Buffers) -> Buffers:
        """Fill in the losses and outputs of the other ranks; return the buffers, which idle ranks get from rank 0."""
        together, xp = self._together, self._xp
        places = [(share, slice(shards[share][0].start, shards[share][-1].stop)) for share in shares if shards[share]]
        mine: tuple[HostArray, HostArray] = np.empty(0), np.empty(0)
        if together.rank < len(places):
            own, rows = places[together.rank]
            mine = to_host(batch.losses[own]), to_host(batch.y[rows])
        everyone = together.allgather((mine, buffers if together.rank == 0 else None))
        for (own, rows), ((losses, y), _) in zip(places, everyone, strict=False):
            batch.losses[own], batch.y[rows] = to_device(xp, losses), to_device(xp, y)
        return buffers or everyone[0][1] or {}

    def _begin(self, own: Sequence[int], shards: list[slice], place: int) -> Shard:
        """Return a shard of the current batch, by its index among the shards of this rank."""
        memory, xp, number, rows = self._memory, self._xp, own[place], shards[own[place]]
        batch, context = memory.batch, Context(memory.workspace(place), training=True, first_row=rows.start)
        here = slice(rows.start - batch.first_row, rows.stop - batch.first_row)
        x = context.workspace.batch_last(batch.x[here].shape, self._network.dtype)

        def enter() -> None:
            context.seed, context.step = batch.seed, batch.step
            unwatched(x)[...] = to_device(xp, batch.x[here])

        def weights() -> Array:
            return to_device(xp, cast(HostArray, batch.weights)[rows])

        def report(loss: Array, probabilities: Array) -> None:
            loss, probabilities = unwatched(loss), unwatched(probabilities)

            def leave() -> None:
                batch.losses[number], batch.y[rows] = loss, probabilities

            each_time(leave)

        each_time(enter)
        goal = Goal(
            self._loss,
            made_each_time(lambda: to_device(xp, batch.targets[rows])),
            None if batch.weights is None else made_each_time(weights),
            made_each_time(lambda: to_device(xp, batch.normalizer)),
            batch.scale,
        )
        params, releases = self._network.params, self._network.knows(self._loss)
        return Shard(self._program, params, x, context, memory.views[place], goal, report, releases=releases)

    def _holds(self) -> Hashable:
        """Return the state for which a recording is valid; None, unless on the host with this package's parts only."""
        network, apart = self._network, self._together.size > 1 and self._program.reduces
        known = is_host(self._xp) and network.knows(self._loss) and not apart
        return (network.changes, repr(self._loss.config())) if known else None
