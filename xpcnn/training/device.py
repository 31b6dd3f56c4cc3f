"""Steps on a device, each captured as one CUDA graph for every size of batch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from xpcnn.backend import Array, is_out_of_memory, to_host
from xpcnn.data.augmentation import GeometricAugmentation
from xpcnn.data.contrast_brightness import adjust_contrast_brightness
from xpcnn.data.preprocessing import Normalized
from xpcnn.graphs import Captured
from xpcnn.layers import Context
from xpcnn.metrics import with_targets
from xpcnn.ops.batches import count_step, gather, next_rows
from xpcnn.ops.workspace import COLUMN_BUDGET, Workspace
from xpcnn.training.latest import Latest
from xpcnn.training.out_of_memory import out_of_memory
from xpcnn.training.pieces import whole_pass
from xpcnn.training.shards import StepResult
from xpcnn.training.steps import NOTHING, Failure, Figures, Samples, Steps

if TYPE_CHECKING:
    from xpcnn.training.loop import Fit

HostArray = np.ndarray[Any, Any]

#: Bytes of images that are sent at once.
BYTES_SENT = 64 * 2**20
#: Graphs of the latest kinds of batch only, since each keeps the memory of a step.
MOST_KINDS = 4

#: Images stay on the device if they take no more than this part of the memory that is free there.
PART_FOR_IMAGES = 0.5


class DeviceSteps(Steps):
    """Steps that the host only starts: what they work on, and everything they count, lies on the device.

    Images that fit are kept there as they are, gathered, augmented and normalised; others are sent batch by batch. The
    batch is taken whole. guarded: from the first step on whose loss or gradient is not finite, nothing is updated.
    """

    def __init__(self, fit: Fit, samples: Samples, batch_size: int, guarded: bool) -> None:
        super().__init__(fit, samples)
        network = fit.network
        xp, dtype, rows = network.xp, network.dtype, samples.rows
        network.plan_training(fit.loss)
        self._batch_size, self._guarded = batch_size, guarded
        self._steps_per_epoch = -(-len(rows) // batch_size)
        self._learns_as_ours = network.knows(fit.loss, fit.optimizer, *fit.metrics)
        self._captured: Latest[Captured[StepResult]] = Latest(MOST_KINDS)
        self._sent: dict[int, Array] = {}
        self._workspace = Workspace(xp)
        self._saves_memory = False
        self._gradient = xp.zeros(network.layout.size, dtype=dtype)
        self._views = network.layout.layer_views(self._gradient)

        weights = None if samples.weights is None else samples.weights[rows]
        y, width = samples.y[rows], network.output_shape[0]
        targets = fit.loss.prepare(y, width, weights, dtype)
        self._shares = targets.shares
        self._rows = xp.asarray(targets.rows)
        self._weights = None if targets.weights is None else xp.asarray(targets.weights)
        self._expected = [xp.asarray(expected) for _, expected in with_targets(fit.metrics, targets, y, width)]

        self._order = xp.zeros(len(rows), dtype=np.int32)
        self._place_images(samples)
        #: The number of the next step, in the epoch and in all.
        self._number, self._step = xp.zeros(1, dtype=np.int32), xp.zeros(1, dtype=np.uint64)
        #: For each step of the epoch the normalizer of its batch, and the optimiser's scalars.
        self._table = xp.zeros((self._steps_per_epoch, 1 + len(fit.optimizer.scalars(0))), dtype=dtype)
        self._losses = xp.zeros(self._steps_per_epoch, dtype=dtype)
        nothing = xp.zeros((1, width), dtype=dtype)
        self._sums = [
            xp.zeros_like(metric.sums(xp, nothing, expected[:1]))
            for metric, expected in zip(fit.metrics, self._expected, strict=True)
        ]
        #: The number of the first step that failed, in all; below 0 where none has.
        self._failed = xp.full(1, -1, dtype=np.int64)
        self._failed_gradient = xp.zeros_like(self._gradient)

    def _place_images(self, samples: Samples) -> None:
        """Keep the images on the device, if they fit and nothing but the device need work on them."""
        self._images = self._mean = self._deviation = self._places = self._tones = None
        xp, dtype = self.fit.network.xp, self.fit.network.dtype
        x, rows = samples.x, samples.rows
        normalized = isinstance(x, Normalized) and not x.preprocessing.per_image
        if not (normalized or isinstance(x, np.ndarray)):
            return
        if not isinstance(samples.augment, GeometricAugmentation | None):
            return
        stored, stored_rows = (x.images, x.rows[rows]) if normalized else (x, rows)
        stored_dtype = np.dtype(np.uint8) if stored.dtype == np.uint8 else dtype
        xp.get_default_memory_pool().free_all_blocks()  # what earlier work has left is free again
        room = xp.cuda.runtime.memGetInfo()[0] * PART_FOR_IMAGES
        if len(rows) * stored[0].size * stored_dtype.itemsize > room:
            return
        self._images = xp.empty((len(rows), *stored.shape[1:]), dtype=stored_dtype)
        at_once = max(1, BYTES_SENT // max(1, self._images[:1].nbytes))
        for start in range(0, len(rows), at_once):  # a copy of all would take as much memory on the host, for good
            some = slice(start, start + at_once)
            self._images[some] = xp.asarray(np.ascontiguousarray(stored[stored_rows[some]], dtype=stored_dtype))
        if normalized:
            self._mean = xp.asarray(np.array(x.preprocessing.mean, dtype))
            self._deviation = xp.asarray(np.array(x.preprocessing.std, dtype))
        if samples.augment is not None:
            self._places = xp.zeros((len(rows), 5), dtype=np.int32)
            if samples.augment.contrast_brightness is not None:
                self._tones = xp.zeros((len(rows), 2), dtype=np.float32)

    def begin_epoch(self, order: HostArray, before: Figures = NOTHING) -> None:
        """Send the order, how images are laid and the optimiser's numbers, and set all counts to where they begin."""
        super().begin_epoch(order, before)
        fit, xp = self.fit, self.fit.network.xp
        self._done = len(before.losses)
        self._first_step = fit.step - self._done
        self._order[...] = xp.asarray(order.astype(np.int32))
        if self._places is not None:
            rows, augment = self.samples.rows, self.samples.augment
            assert isinstance(augment, GeometricAugmentation)
            size = fit.network.input_shape[1:]
            self._places[...] = xp.asarray(augment.transforms((size[0], size[1]), fit.seed, fit.epoch, rows))
            if self._tones is not None and augment.contrast_brightness is not None:
                self._tones[...] = xp.asarray(augment.contrast_brightness(fit.seed, fit.epoch, rows))
        starts = range(0, len(order), self._batch_size)
        self._normalizers = [float(self._shares[order[start : start + self._batch_size]].sum()) for start in starts]
        self._plan()
        self._number.fill(self._done)
        self._step.fill(fit.step)
        self._losses.fill(0)
        self._losses[: self._done] = xp.asarray(before.losses.astype(self._losses.dtype))
        for number, total in enumerate(self._sums):
            total.fill(0)
            if before.sums:
                total += xp.asarray(before.sums[number])

    def _plan(self) -> None:
        """Send the numbers of all steps of the epoch, as the optimiser would have them now."""
        scalars = self.fit.optimizer.scalars
        self._planned = [scalars(self._first_step + number) for number in range(len(self._normalizers))]
        self._table[: len(self._planned)] = self._rows_of_table(range(len(self._planned)))

    def _send_changed_numbers(self) -> None:
        """Send the next step's numbers anew, where something has changed the learning rate."""
        scalars = self.fit.optimizer.scalars(self.fit.step)
        if scalars != self._planned[self._done]:
            self._planned[self._done] = scalars
            self._table[self._done : self._done + 1] = self._rows_of_table([self._done])

    def _rows_of_table(self, numbers: Iterable[int]) -> Array:
        # A batch without any weight counts nothing.
        rows = [(self._normalizers[number] or 1.0, *self._planned[number]) for number in numbers]
        return self.fit.network.xp.asarray(np.array(rows, dtype=self.fit.network.dtype))

    def step(self, positions: HostArray) -> None:
        """Start one step; the host waits for nothing."""
        fit, n = self.fit, len(positions)
        self.rate = fit.optimizer.rate
        self._send_changed_numbers()
        try:
            fit.result = self._run(positions)
            ran_out = False
        except Exception as error:
            ran_out = is_out_of_memory(fit.network.xp, error)
            if self._saves_memory and ran_out:
                raise out_of_memory(error, n, fit.network) from error
            if not ran_out:
                raise
        if ran_out:  # only here has everything been let go that the error's trace held
            self._save_memory()
            self.step(positions)
            return
        self._done += 1
        fit.optimizer.step += 1

    def _run(self, positions: HostArray) -> StepResult:
        """Do a step's work, as a graph if it has been done before."""
        n = len(positions)
        if self._images is None:
            self._send(positions)
        if not self._learns_as_ours:
            return self._work(n)
        kind = (n, self.fit.network.changes, self.fit.optimizer.changes)
        return self._captured.get(kind, lambda: Captured(self.fit.network.xp, lambda: self._work(n)))()

    def _save_memory(self) -> None:
        """Take less memory from now on: images are sent, and convolutions that lower columns lower half as much."""
        self._saves_memory = True
        self._images = self._mean = self._deviation = self._places = self._tones = None
        self._captured.clear()
        self._workspace = Workspace(self.fit.network.xp, COLUMN_BUDGET // 2)
        self.fit.network.xp.get_default_memory_pool().free_all_blocks()  # what is free there, graphs can't get

    def _send(self, positions: HostArray) -> None:
        """Send the images of a batch."""
        network, n = self.fit.network, len(positions)
        x, _ = self.fit.batch
        if n not in self._sent:
            self._sent[n] = self._workspace.batch_last(x.shape, network.dtype)
        self._sent[n][...] = network.xp.asarray(x)

    def _work(self, n: int) -> StepResult:
        """Do everything that a step of n images does on the device."""
        fit, network, xp = self.fit, self.fit.network, self.fit.network.xp
        indices = next_rows(xp, self._order, self._number, self._batch_size, n)
        places = None if self._places is None else xp.take(self._places, indices, axis=0)
        x = (
            self._sent[n]
            if self._images is None
            else gather(xp, self._images, indices, places, self._mean, self._deviation, network.dtype, self._workspace)
        )
        if self._images is not None and self._tones is not None:
            x[...] = adjust_contrast_brightness(xp, x, xp.take(self._tones, indices, axis=0))
        scalars = xp.take(self._table, self._number, axis=0)[0]
        context = Context(self._workspace, training=True, seed=fit.seed, step=self._step)
        loss, probabilities, buffers = whole_pass(
            network.train(
                x,
                xp.take(self._rows, indices, axis=0),
                None if self._weights is None else xp.take(self._weights, indices, axis=0),
                scalars[0],
                fit.loss,
                self._views,
                context,
            )
        )
        sums = [
            metric.sums(xp, probabilities, xp.take(expected, indices, axis=0))
            for metric, expected in zip(fit.metrics, self._expected, strict=True)
        ]
        if self._guarded:
            self._update_unless_failed(loss, scalars[1:], buffers)
        else:
            self._update(scalars[1:], buffers)
        self._count(loss, sums)
        return StepResult(loss, sums, self._gradient, buffers)

    def _update(self, scalars: Array, buffers: dict[str, dict[str, Array]]) -> None:
        fit = self.fit
        fit.optimizer.apply(fit.network.parameters, self._gradient, fit.segments, scalars)
        fit.network.update_buffers(buffers)

    def _update_unless_failed(self, loss: Array, scalars: Array, buffers: dict[str, dict[str, Array]]) -> None:
        """Update, but take it back if this step failed or one before it did."""
        network, xp = self.fit.network, self.fit.network.xp
        fails = ~xp.isfinite(loss + self._gradient.sum()) & (self._failed < 0)
        xp.copyto(self._failed, self._step.astype(np.int64), where=fails)
        xp.copyto(self._failed_gradient, self._gradient, where=fails)
        failed = self._failed >= 0
        state = (network.parameters, network.buffers, *self.fit.optimizer.moments.values())
        kept = [(flat, flat.copy()) for flat in state]
        xp.copyto(self._gradient, xp.zeros(1, dtype=network.dtype), where=failed)
        self._update(scalars, buffers)
        for flat, before in kept:
            xp.copyto(flat, before, where=failed)

    def _count(self, loss: Array, sums: list[Array]) -> None:
        """Add up what the epoch reports, and go on to the next step."""
        xp = self.fit.network.xp
        count_step(xp, self._losses, loss, self._number, self._step)
        for total, part in zip(self._sums, sums, strict=True):
            total += part

    def close(self) -> None:
        """Let go of the graphs, whose work refers to these steps."""
        vars(self.fit).pop("result", None)  # which lies in the graphs' memory
        super().close()
        self._captured.clear()

    def figures(self) -> Figures:
        """Wait for the epoch's steps and read everything back."""
        losses = to_host(self._losses)[: self._done].astype(float)
        return Figures(losses, self._normalizers[: self._done], [to_host(total) for total in self._sums])

    def failure(self) -> Failure | None:
        """Wait for the steps so far, and return the first that failed; the optimiser has then made those before it."""
        if not self._guarded:
            return None
        step = int(to_host(self._failed)[0])
        if step < 0:
            return None
        self.fit.optimizer.step = step
        number = step - self._first_step
        x, _ = self.batch(self.order[number * self._batch_size :][: self._batch_size])
        return Failure(step, float(to_host(self._losses)[number]), x, self._failed_gradient)
