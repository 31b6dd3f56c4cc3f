"""Training steps on a device, captured as one CUDA graph per batch size."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

import numpy as np

from xpcnn.backend import Array, is_out_of_memory, to_host
from xpcnn.layers import Context
from xpcnn.metrics import with_targets
from xpcnn.ops.batches import count_step, next_rows
from xpcnn.ops.workspace import COLUMN_BUDGET, Workspace
from xpcnn.optimizers.loss_scale import LossScale
from xpcnn.program.execute import Goal, Shard, train_whole
from xpcnn.program.lru_cache import LRUCache
from xpcnn.training.engine.base import EMPTY, Failure, Figures, OnGradient, StepEngine, Work
from xpcnn.training.engine.device_images import place
from xpcnn.training.engine.graphs import Captured
from xpcnn.training.engine.out_of_memory import out_of_memory

HostArray = np.ndarray[Any, Any]

#: Graphs are kept for the most recent kinds of batch only, since each holds the memory of a step.
MOST_KINDS = 4


class DeviceEngine(StepEngine):
    """Runs steps that the host only launches: their inputs and results stay on the device.

    If the raw images fit, they are kept there, and each step gathers, augments and normalises its batch; otherwise they
    are sent batch by batch. A batch is not split. guarded: stop updating at the first step whose loss or gradient is
    not finite.
    """

    def __init__(self, work: Work, guarded: bool) -> None:
        super().__init__(work)
        network, samples = work.network, work.samples
        xp, dtype, rows = network.xp, network.dtype, samples.rows
        self._program, self._segments = network.training_program(work.loss), work.segments
        self._batch_size, self._guarded = work.batch_size, guarded
        self._steps_per_epoch = -(-len(rows) // work.batch_size)
        self._learns_as_ours = network.knows(work.loss, work.optimizer, *work.metrics)
        self._captured: LRUCache[Captured[None]] = LRUCache(MOST_KINDS)
        self._sent: dict[int, Array] = {}
        self._workspace = Workspace(xp)
        self._saves_memory = False
        self._gradient = xp.zeros(network.layout.size, dtype=dtype)
        self._views = network.layout.layer_views(self._gradient)

        weights = None if samples.weights is None else samples.weights[rows]
        y, width = samples.y[rows], network.output_shape[0]
        targets = work.loss.prepare(y, width, weights, dtype)
        self._shares = targets.shares
        self._targets = xp.asarray(targets.encoded)
        self._weights = None if targets.weights is None else xp.asarray(targets.weights)
        self._expected = [xp.asarray(expected) for _, expected in with_targets(work.metrics, targets, y, width)]

        self._order = xp.zeros(len(rows), dtype=np.int32)
        self._images = place(work)
        #: The number of the next step, in the epoch and in total.
        self._number, self._step = xp.zeros(1, dtype=np.int32), xp.zeros(1, dtype=np.uint64)
        #: For each step of the epoch, the normalizer of its batch and the optimiser's scalars.
        numbers = len(work.optimizer.scalars(0))
        self._table = xp.zeros((self._steps_per_epoch, 1 + numbers), dtype=dtype)
        #: In float16: the loss scale, the scalars' corrections by updates, and the steps skipped before the epoch.
        self._scale = work.optimizer.loss_scale
        self._corrections = xp.zeros((self._steps_per_epoch, numbers), dtype=dtype)
        self._skipped = xp.zeros(1, dtype=np.int32)
        self._losses = xp.zeros(self._steps_per_epoch, dtype=dtype)
        nothing = xp.zeros((1, width), dtype=dtype)
        self._sums = [
            xp.zeros_like(metric.sums(xp, nothing, expected[:1]))
            for metric, expected in zip(work.metrics, self._expected, strict=True)
        ]
        #: The first step that failed, counted over all epochs; negative if none has.
        self._failed = xp.full(1, -1, dtype=np.int64)
        self._failed_gradient = xp.zeros_like(self._gradient)

    def begin_epoch(self, epoch: int, order: HostArray, before: Figures = EMPTY) -> None:
        """Send order, transforms and optimiser scalars to the device, and reset the counters."""
        super().begin_epoch(epoch, order, before)
        work, xp = self.work, self.work.network.xp
        self._done = len(before.losses)
        self._first_step = work.optimizer.step - self._done
        self._order[...] = xp.asarray(order.astype(np.int32))
        if self._images is not None:
            self._images.begin_epoch(epoch)
        starts = range(0, len(order), self._batch_size)
        self._normalizers = [float(self._shares[order[start : start + self._batch_size]].sum()) for start in starts]
        self._plan()
        self._number.fill(self._done)
        self._step.fill(work.optimizer.step)
        self._losses.fill(0)
        self._losses[: self._done] = xp.asarray(before.losses.astype(self._losses.dtype))
        for number, total in enumerate(self._sums):
            total.fill(0)
            if before.sums:
                total += xp.asarray(before.sums[number])

    def _plan(self) -> None:
        """Send the optimiser's scalars for all steps of the epoch, as they are planned now."""
        optimizer = self.work.optimizer
        optimizer.note_skipped()
        # Rows of steps that were made before the fit was resumed are not read.
        steps = [max(self._first_step + number, optimizer.step) for number in range(len(self._normalizers))]
        self._planned = [self._scalars(step) for step in steps]
        self._table[: len(steps)] = self._rows_of_table(range(len(steps)))
        if self._scale is not None:
            corrections = [optimizer.corrections(step - optimizer.skipped) for step in steps]
            self._corrections[: len(steps)] = self.work.network.xp.asarray(np.array(corrections, self._table.dtype))
            self._skipped.fill(optimizer.skipped)

    def _scalars(self, step: int) -> tuple[float, ...]:
        """Return the scalars of a step; in float16 not corrected yet, since only the device knows what it skips."""
        optimizer = self.work.optimizer
        return optimizer.scalars_at(step) if self._scale is None else optimizer.uncorrected(step)

    def _send_changed_numbers(self) -> None:
        """Send the scalars of the next step again, if the learning rate has changed."""
        scalars = self._scalars(self.work.optimizer.step)
        if scalars != self._planned[self._done]:
            self._planned[self._done] = scalars
            self._table[self._done : self._done + 1] = self._rows_of_table([self._done])

    def _rows_of_table(self, numbers: Iterable[int]) -> Array:
        # A batch whose weights are all 0 contributes nothing.
        rows = [(self._normalizers[number] or 1.0, *self._planned[number]) for number in numbers]
        return self.work.network.xp.asarray(np.array(rows, dtype=self.work.network.dtype))

    def step(self, positions: HostArray, on_gradient: OnGradient) -> None:
        """Launch one step, without waiting for it."""
        network, optimizer, n = self.work.network, self.work.optimizer, len(positions)
        self.rate = optimizer.rate
        self._send_changed_numbers()
        try:
            self._run(positions)
            ran_out = False
        except Exception as error:
            ran_out = is_out_of_memory(network.xp, error)
            if self._saves_memory and ran_out:
                raise out_of_memory(error, n, network) from error
            if not ran_out:
                raise
        if ran_out:  # outside of except, where the traceback no longer holds references to arrays
            self._save_memory()
            self.step(positions, on_gradient)
            return
        self._done += 1
        optimizer.step += 1

    def _run(self, positions: HostArray) -> None:
        """Run one step, as a captured graph if possible."""
        network, n = self.work.network, len(positions)
        if self._images is None:
            self._send(positions)
        if not self._learns_as_ours:
            self._whole_step(n)
            return
        kind = (n, network.changes, self.work.optimizer.changes)
        alive = weakref.proxy(self)  # the engine holds the graphs, so they must not hold the engine
        self._captured.get(kind, lambda: Captured(network.xp, lambda: alive._whole_step(n)))()

    def _save_memory(self) -> None:
        """Use less memory from now on: send images batch by batch, and halve the columns lowered at once."""
        self._saves_memory = True
        self._images = None
        self._captured.clear()
        self._workspace = Workspace(self.work.network.xp, COLUMN_BUDGET // 2)
        self.work.network.xp.get_default_memory_pool().free_all_blocks()  # graphs cannot use what the pool has cached

    def _send(self, positions: HostArray) -> None:
        """Send the images of a batch."""
        network, n = self.work.network, len(positions)
        x = self.images(positions)
        if n not in self._sent:
            self._sent[n] = self._workspace.batch_last(x.shape, network.dtype)
        self._sent[n][...] = network.xp.asarray(x)

    def _whole_step(self, n: int) -> None:
        """Run all device work of a step with n images."""
        work, network, xp = self.work, self.work.network, self.work.network.xp
        indices = next_rows(xp, self._order, self._number, self._batch_size, n)
        x = self._sent[n] if self._images is None else self._images.batch(indices, self._workspace)
        scalars = xp.take(self._table, self._number, axis=0)[0]
        context = Context(self._workspace, training=True, seed=work.seed, step=self._step)
        targets = xp.take(self._targets, indices, axis=0)
        weights = None if self._weights is None else xp.take(self._weights, indices, axis=0)
        reported: list[tuple[Array, Array]] = []
        goal = Goal(work.loss, targets, weights, scalars[0], None if self._scale is None else self._scale.scale)
        report = lambda *result: reported.append(result)  # noqa: E731
        train_whole(Shard(self._program, network.params, x, context, self._views, goal, report))
        ((loss, probabilities),) = reported
        buffers = context.buffers
        sums = [
            metric.sums(xp, probabilities, xp.take(expected, indices, axis=0))
            for metric, expected in zip(work.metrics, self._expected, strict=True)
        ]
        if self._scale is not None:
            self._update_unless_skipped(self._scale, loss, scalars[1:], buffers)
        elif self._guarded:
            fails = ~xp.isfinite(loss + self._gradient.sum())
            self._update_unless(self._failed_by(fails), scalars[1:], buffers)
        else:
            self._update(scalars[1:], buffers)
        self._count(loss, sums)

    def _update(self, scalars: Array, buffers: dict[str, dict[str, Array]]) -> None:
        network = self.work.network
        self.work.optimizer.apply(network.parameters, self._gradient, self._segments, scalars)
        network.update_buffers(buffers)

    def _update_unless_skipped(
        self, scale: LossScale, loss: Array, scalars: Array, buffers: dict[str, dict[str, Array]]
    ) -> None:
        """Update in float16, but undo it if the gradient has overflowed, or this step or an earlier one has failed."""
        xp = self.work.network.xp
        updates = self._number - (scale.skipped - self._skipped)
        scalars = scalars * xp.take(self._corrections, updates, axis=0)[0]
        finite = scale.unscale(xp, self._gradient)
        if self._guarded:
            failed = self._failed_by(~xp.isfinite(loss) | (~finite & scale.is_lowest()))
        else:
            failed = self._failed >= 0
        self._update_unless(failed | ~finite, scalars, buffers)
        scale.update(xp, finite, failed)  # last, since what is repeated when memory runs out must not count twice

    def _failed_by(self, fails: Array) -> Array:
        """Note whether this step ``fails``, and return whether it or an earlier one has."""
        xp = self.work.network.xp
        fails = fails & (self._failed < 0)
        xp.copyto(self._failed, self._step.astype(np.int64), where=fails)
        xp.copyto(self._failed_gradient, self._gradient, where=fails)
        return self._failed >= 0

    def _update_unless(self, stays: Array, scalars: Array, buffers: dict[str, dict[str, Array]]) -> None:
        """Update, but undo it where the state ``stays``."""
        network, xp = self.work.network, self.work.network.xp
        state = (network.parameters, network.buffers, *self.work.optimizer.moments.values())
        kept = [(flat, flat.copy()) for flat in state]
        xp.copyto(self._gradient, xp.zeros(1, dtype=network.dtype), where=stays)
        self._update(scalars, buffers)
        for flat, before in kept:
            xp.copyto(flat, before, where=stays)

    def _count(self, loss: Array, sums: list[Array]) -> None:
        """Accumulate loss and metrics, and advance to the next step."""
        xp = self.work.network.xp
        count_step(xp, self._losses, loss, self._number, self._step)
        for total, part in zip(self._sums, sums, strict=True):
            total += part

    def figures(self) -> Figures:
        """Wait for the steps of the epoch and read the results back."""
        self.work.optimizer.note_skipped()
        losses = to_host(self._losses)[: self._done].astype(float)
        return Figures(losses, self._normalizers[: self._done], [to_host(total) for total in self._sums])

    def failure(self) -> Failure | None:
        """Wait for the steps so far, and return the first that failed; ``optimizer.step`` is then reset to it."""
        if not self._guarded:
            return None
        step = int(to_host(self._failed)[0])
        if step < 0:
            return None
        self.work.optimizer.step = step
        self.work.optimizer.note_skipped()
        number = step - self._first_step
        x = self.images(self.order[number * self._batch_size :][: self._batch_size])
        return Failure(step, float(to_host(self._losses)[number]), x, self._failed_gradient)
