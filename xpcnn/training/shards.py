"""Runs batches through a network in pieces that work side by side."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
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
from xpcnn.training.communicator import ALONE, Communicator
from xpcnn.training.memory import Batch, Memory
from xpcnn.training.pieces import add_tree, cut
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
    a prediction. communicator: of the processes among which the pieces are spread.
    """

    def __init__(
        self,
        network: Network,
        batch_size: int,
        shards: int | None = None,
        threads: int | None = None,
        training: bool = False,
        communicator: Communicator = ALONE,
    ) -> None:
        self.network = network
        self._communicator = communicator
        self.xp = network.xp
        host = is_host(self.xp)
        self.shards = min(check_shards(shards, batch_size), batch_size) if host or shards else communicator.size
        work = network.multiplications * (3 if training else 1) * batch_size / self.shards
        if threads is None and communicator.size > 1:
            threads = 1  # the other processors belong to the other ranks
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
        own = len(range(self.shards)[self._communicator.pieces(self.shards)[0]])  # no rank has more than the first
        self._gradients = [self.xp.zeros(layout.size, dtype=self.network.dtype) for _ in range(own)]
        self._views = [layout.layer_views(gradient) for gradient in self._gradients]

    def prepare_inference(self) -> None:
        """Take over the memory, and with it the recordings, that an earlier run with as many threads has left."""
        lent = self.network.lent(self.threads, functools.partial(Memory, self.xp, self.threads))
        self._memory = self._stack.enter_context(lent)
        self._stack.callback(self._memory.batch.clear)

    def train(
        self,
        x: HostArray,
        targets: Targets,
        measured: Sequence[tuple[Metric, HostArray]],
        seed: int,
        step: int,
    ) -> StepResult:
        """Return loss, metrics and gradient of one batch of host arrays; each metric comes with what it compares.

        x: the images of :meth:`own_rows`; all else is of the whole batch, and so is what is returned.
        """
        n, together = len(targets.rows), self._communicator
        batch, pieces, dtype = self._memory.batch, cut(n, self.shards), self.network.dtype
        shares = together.pieces(len(pieces))
        own, holders = range(len(pieces))[shares[together.rank]], sum(share.start < len(pieces) for share in shares)
        batch.x, batch.rows, batch.weights = x, targets.rows, targets.weights
        batch.first_row = self.own_rows(n).start
        batch.normalizer = np.asarray(targets.normalizer or 1.0, dtype)  # a batch without any weight counts nothing
        batch.seed, batch.step = seed, step
        batch.losses = self.xp.empty(len(pieces), dtype=dtype)
        batch.y = self.xp.empty((n, *self.network.output_shape), dtype=dtype)
        gradients = self._gradients[: len(own)] or self._gradients[:1]
        buffers: dict[str, dict[str, Array]] = {}
        if own:
            buffers = self._memory.repetition(
                (n, targets.weights is None),
                self._holds(self._loss),
                lambda part, combine: together.join(part, combine, holders),
            ).run(
                [
                    functools.partial(self._training_pass, place, piece, pieces[piece])
                    for place, piece in enumerate(own)
                ],
                lambda: (*gradients, batch.losses, batch.y),
                self._on_pieces,
            )[0]
        if together.size > 1:
            buffers = self._exchange(batch, pieces, shares, buffers)
        return StepResult(
            add_tree(list(batch.losses), self.xp.add),
            [metric.sums(self.xp, batch.y, to_device(self.xp, expected)) for metric, expected in measured],
            together.add(self.xp, add_tree(gradients, lambda a, b: self.xp.add(a, b, out=a)), holders),
            buffers,
        )

    def own_rows(self, n: int) -> slice:
        """Return which rows of a batch of n this process computes."""
        pieces = cut(n, self.shards)
        own = pieces[self._communicator.pieces(len(pieces))[self._communicator.rank]]
        return slice(own[0].start, own[-1].stop) if own else slice(0, 0)

    def _exchange(
        self, batch: Batch, pieces: list[slice], shares: list[slice], buffers: dict[str, dict[str, Array]]
    ) -> dict[str, dict[str, Array]]:
        """Fill in losses and outputs of the other ranks, and return the buffers, which a rank without pieces lacks."""
        together = self._communicator
        places = [(share, slice(pieces[share][0].start, pieces[share][-1].stop)) for share in shares if pieces[share]]
        mine: tuple[HostArray, HostArray] = np.empty(0), np.empty(0)
        if together.rank < len(places):
            own, rows = places[together.rank]
            mine = to_host(batch.losses[own]), to_host(batch.y[rows])
        everyone = together.gather((mine, buffers if together.rank == 0 else None))
        for (own, rows), ((losses, y), _) in zip(places, everyone, strict=False):
            batch.losses[own], batch.y[rows] = to_device(self.xp, losses), to_device(self.xp, y)
        return buffers or everyone[0][1] or {}

    def _training_pass(self, place: int, piece: int, rows: slice) -> Pass:
        """Return the pass of one piece, which gives new values of buffers; place: that among the own ones."""
        memory, xp = self._memory, self.xp  # what is noted must not hold the runner, which holds the recordings
        batch, context = memory.batch, Context(memory.workspace(place), training=True, first_row=rows.start)
        here = slice(rows.start - batch.first_row, rows.stop - batch.first_row)
        x = context.workspace.batch_last(batch.x[here].shape, self.network.dtype)

        def enter() -> None:
            context.seed, context.step = batch.seed, batch.step
            unwatched(x)[...] = to_device(xp, batch.x[here])

        def weights() -> Array:
            return to_device(xp, cast(HostArray, batch.weights)[rows])

        def leave() -> None:
            batch.losses[piece], batch.y[rows] = loss, probabilities

        each_time(enter)
        result = yield from self.network.train(
            x,
            made_each_time(lambda: to_device(xp, batch.rows[rows])),
            None if batch.weights is None else made_each_time(weights),
            made_each_time(lambda: to_device(xp, batch.normalizer)),
            self._loss,
            self._views[place],
            context,
        )
        loss, probabilities = unwatched(result.loss), unwatched(result.probabilities)
        each_time(leave)
        return result.buffers

    def infer(self, x: HostArray, program: Program, y: HostArray) -> None:
        """Write the output of ``program`` for one batch of host arrays into the host array ``y``."""
        batch, pieces = self._memory.batch, cut(len(x), self.shards)
        batch.x, batch.y = x, y
        self._memory.repetition((len(x), len(pieces), program.from_logits), self._holds()).run(
            [functools.partial(self._inference_pass, piece, rows, program) for piece, rows in enumerate(pieces)],
            lambda: (y,),
            self._on_pieces,
        )

    def _inference_pass(self, piece: int, rows: slice, program: Program) -> Pass:
        memory, xp = self._memory, self.xp
        batch, context = memory.batch, Context(memory.workspace(piece))
        x = context.workspace.batch_last(batch.x[rows].shape, self.network.dtype)

        def enter() -> None:
            unwatched(x)[...] = to_device(xp, batch.x[rows])

        def leave() -> None:
            batch.y[rows] = to_host(output)

        each_time(enter)
        output = unwatched(self.network.infer(x, context, program))
        each_time(leave)
        yield from ()

    def _holds(self, *others: object) -> Hashable:
        """Return what a recording holds for, None if it can't be known: parts of this package alone, on the host."""
        apart = self._communicator.size > 1 and any(step.layer.meets for step in self.network.steps)
        return self.network.changes if is_host(self.xp) and self.network.knows(*others) and not apart else None

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
            wait(others)  # all of them, since they work on memory that the next passes use
        for future in others:
            future.result()
        return results
