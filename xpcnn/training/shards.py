"""Runs batches through a network in pieces that work side by side."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from types import TracebackType
from typing import Any, NamedTuple, cast

import numpy as np

from xpcnn.backend import Array, is_host, to_device, to_host
from xpcnn.layers import Context
from xpcnn.losses import Loss, Targets
from xpcnn.metrics import Metric
from xpcnn.network import Network, Pass, Program
from xpcnn.recording import each_time, made_each_time, unwatched
from xpcnn.training.memory import Memory
from xpcnn.training.pieces import add_tree, cut
from xpcnn.training.repetition import Repetition
from xpcnn.training.threads import blas_on_one_thread, check_shards, check_threads, hold_in_this_thread

HostArray = np.ndarray[Any, Any]


class StepResult(NamedTuple):
    """What a batch gives: its mean loss, the sums of each metric, its flat gradient, and new values of buffers.

    The gradient and the buffers are valid until the next step.
    """

    loss: Array
    sums: list[Array]
    gradient: Array
    buffers: dict[str, dict[str, Array]]


class Runner:
    """Runs batches through a network in pieces, on threads of this process; a device takes a batch whole.

    Use it as a context manager: BLAS is held to one thread meanwhile. training: to train, with three times the work of
    a prediction.
    """

    def __init__(
        self,
        network: Network,
        batch_size: int,
        shards: int | None = None,
        threads: int | None = None,
        training: bool = False,
    ) -> None:
        self.network = network
        self.xp = network.xp
        host = is_host(self.xp)
        self.shards = min(check_shards(shards, batch_size), batch_size) if host or shards else 1
        work = network.multiplications * (3 if training else 1) * batch_size / self.shards
        self.threads = min(check_threads(threads, work), self.shards) if host else 1
        self._stack = ExitStack()

    def __enter__(self) -> Runner:
        self._stack.enter_context(blas_on_one_thread())
        self._pool = None
        if self.threads > 1:
            pool = ThreadPoolExecutor(self.threads - 1, "xpcnn", initializer=hold_in_this_thread)
            self._pool = self._stack.enter_context(pool)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def prepare_training(self, loss: Loss) -> None:
        """Allocate a flat gradient for each piece, and plan which layers learn."""
        layout = self.network.layout
        self.network.plan_training(loss)
        self._loss = loss
        self._memory = Memory(self.xp, self.threads)
        if any(step.layer.meets for step in self.network.steps):
            # Pieces that meet half-way are all under way at once, so each needs memory of its own.
            self._memory.grow(self.shards)
        self._gradients = [self.xp.zeros(layout.size, dtype=self.network.dtype) for _ in range(self.shards)]
        self._views = [layout.layer_views(gradient) for gradient in self._gradients]

    def prepare_inference(self) -> None:
        """Take over the memory, and with it the recordings, that an earlier run with as many threads has left."""
        lent = self.network.lent(self.threads, functools.partial(Memory, self.xp, self.threads))
        self._memory = self._stack.enter_context(lent)

    def train(
        self,
        x: HostArray,
        targets: Targets,
        measured: Sequence[tuple[Metric, HostArray]],
        seed: int,
        step: int,
    ) -> StepResult:
        """Return loss, metrics and gradient of one batch of host arrays; each metric comes with what it compares."""
        memory, pieces = self._memory, cut(len(x), self.shards)
        gradients = self._gradients[: len(pieces)]
        batch = memory.batch
        batch.x, batch.targets, batch.seed, batch.step = x, targets, seed, step
        batch.y = self.xp.empty((len(x), *self.network.output_shape), dtype=self.network.dtype)
        repetition = memory.repetition(
            (len(x), targets.normalizer, targets.weights is None),
            lambda: Repetition(
                [functools.partial(self._training_pass, piece, rows) for piece, rows in enumerate(pieces)],
                written=lambda: [*gradients, batch.y],
                recordable=self._recordable(self._loss),
            ),
        )
        losses, buffers = zip(*repetition.run(self._on_pieces), strict=True)
        return StepResult(
            add_tree(losses, self.xp.add).copy(),
            [metric.sums(self.xp, batch.y, to_device(self.xp, expected)) for metric, expected in measured],
            add_tree(gradients, self._add_to_first),
            buffers[0],
        )

    def _training_pass(self, piece: int, rows: slice) -> Pass:
        """Return the pass of one piece, which gives its share of the loss, and new values of buffers."""
        batch = self._memory.batch
        context = Context(self._memory.workspace(piece), training=True, first_row=rows.start)
        x = context.workspace.batch_last(batch.x[rows].shape, self.network.dtype)
        weights = None
        if batch.targets.weights is not None:
            weights = made_each_time(lambda: to_device(self.xp, cast(HostArray, batch.targets.weights)[rows]))

        def enter() -> None:
            context.seed, context.step = batch.seed, batch.step
            unwatched(x)[...] = to_device(self.xp, batch.x[rows])

        def write() -> None:
            batch.y[rows] = probabilities

        each_time(enter)
        result = yield from self.network.train(
            x,
            made_each_time(lambda: to_device(self.xp, batch.targets.rows[rows])),
            weights,
            batch.targets.normalizer or 1.0,  # a batch without any weight counts nothing
            self._loss,
            self._views[piece],
            context,
        )
        probabilities = unwatched(result.probabilities)
        each_time(write)
        return result.loss, result.buffers

    def infer(self, x: HostArray, program: Program, y: HostArray) -> None:
        """Write the output of ``program`` for one batch of host arrays into the host array ``y``."""
        memory, pieces = self._memory, cut(len(x), self.shards)
        batch = memory.batch
        batch.x, batch.y = x, y
        repetition = memory.repetition(
            (len(x), len(pieces), program.from_logits),
            lambda: Repetition(
                [
                    functools.partial(_inference_pass, self.network, memory, piece, rows, program)
                    for piece, rows in enumerate(pieces)
                ],
                written=lambda: [batch.y],
                recordable=self._recordable(),
            ),
        )
        repetition.run(self._on_pieces)

    def _recordable(self, *others: object) -> bool:
        """Whether replays do what passes do: on the host, and with parts of this package alone."""
        parts = [*(step.layer for step in self.network.steps), *others]
        return is_host(self.xp) and all(type(part).__module__.startswith("xpcnn.") for part in parts)

    def _add_to_first(self, a: Array, b: Array) -> Array:
        return self.xp.add(a, b, out=a)

    def _on_pieces(self, function: Callable[[int], Any], pieces: int) -> list[Any]:
        """Call a function for every piece: piece i on thread i modulo the threads, of which this one is the first."""
        results: list[Any] = [None] * pieces

        def work(first: int) -> None:
            for piece in range(first, pieces, self.threads):
                results[piece] = function(piece)

        others = [self._pool.submit(work, t) for t in range(1, min(self.threads, pieces))] if self._pool else []
        try:
            work(0)
        finally:
            for future in others:
                future.result()
        return results


def _inference_pass(network: Network, memory: Memory, piece: int, rows: slice, program: Program) -> Pass:
    """Return the pass of one piece in prediction; it outlives the run, and so knows nothing of the runner."""
    batch, context = memory.batch, Context(memory.workspace(piece))
    x = context.workspace.batch_last(batch.x[rows].shape, network.dtype)
    each_time(lambda: _write(unwatched(x), to_device(network.xp, batch.x[rows])))
    output = unwatched(network.infer(x, context, program))
    each_time(lambda: _write(batch.y[rows], to_host(output)))
    yield from ()


def _write(array: Array, value: Array) -> None:
    array[...] = value
