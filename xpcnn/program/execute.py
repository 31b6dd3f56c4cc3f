"""The executor: batches through a network in shards, on threads of this process and on its ranks."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from types import TracebackType
from typing import Any, NamedTuple, cast

import numpy as np

from xpcnn.backend import Array, is_host, to_device, to_host
from xpcnn.communicator import ALONE, Communicator
from xpcnn.layers import Context
from xpcnn.losses import Loss, Targets
from xpcnn.metrics import Metric
from xpcnn.program.memory import Batch, Memory
from xpcnn.program.network import Network
from xpcnn.program.passes import Shard, Task, rounds
from xpcnn.program.program import Program
from xpcnn.program.replay import OneRound, Rounds
from xpcnn.program.shards import add_tree, cut
from xpcnn.program.threads import blas_on_one_thread, check_shards, check_threads, hold_in_this_thread
from xpcnn.recording import each_time, made_each_time, unwatched

HostArray = np.ndarray[Any, Any]


class StepResult(NamedTuple):
    """What a batch gives: its mean loss, the sums of each metric, its flat gradient, and new values of buffers.

    The gradient and the buffers are valid until the next step.
    """

    loss: Array
    sums: list[Array]
    gradient: Array
    buffers: dict[str, dict[str, Array]]


class Executor:
    """Runs batches through a network in shards, on threads of this process; a device takes a batch whole.

    Use it as a context manager: BLAS is held to one thread meanwhile. training: to train, with three times the work of
    a prediction. communicator: of the processes among which the shards are spread.
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

    def __enter__(self) -> Executor:
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
        """Allocate a flat gradient for each shard, for the layers that are not frozen now."""
        layout = self.network.layout
        self._loss, self._program = loss, self.network.training_program(loss)
        self._memory = Memory(self.xp, self.threads)
        if self._program.reduces:
            # Shards that wait for each other are all under way at once, so each needs memory of its own.
            self._memory.grow(self.shards)
        own = len(range(self.shards)[self._communicator.pieces(self.shards)[0]])  # no rank has more than the first
        self._gradients = [self.xp.zeros(layout.size, dtype=self.network.dtype) for _ in range(own)]
        self._views = [layout.layer_views(gradient) for gradient in self._gradients]

    def prepare_inference(self) -> None:
        """Take over the memory, and with it the recordings, that an earlier run with as many threads has left."""
        lent = self.network.lent(self.threads, functools.partial(Memory, self.xp, self.threads))
        self._memory = self._stack.enter_context(lent)
        self._stack.callback(self._memory.batch.clear)
        self._params = self.network.prediction_params(self._memory.folded)

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
        batch, shards, dtype = self._memory.batch, cut(n, self.shards), self.network.dtype
        shares = together.pieces(len(shards))
        own, holders = range(len(shards))[shares[together.rank]], sum(share.start < len(shards) for share in shares)
        batch.x, batch.rows, batch.weights = x, targets.rows, targets.weights
        batch.first_row = self.own_rows(n).start
        batch.normalizer = np.asarray(targets.normalizer or 1.0, dtype)  # a batch without any weight counts nothing
        batch.seed, batch.step = seed, step
        batch.losses = self.xp.empty(len(shards), dtype=dtype)
        batch.y = self.xp.empty((n, *self.network.output_shape), dtype=dtype)
        gradients = self._gradients[: len(own)] or self._gradients[:1]
        buffers: dict[str, dict[str, Array]] = {}
        if own:
            begin = functools.partial(self._training_shard, own, shards)
            buffers = self._memory.replay((n, targets.weights is None), self._holds(self._loss)).run(
                functools.partial(_train, self._program, begin, len(own)),
                lambda: (*gradients, batch.losses, batch.y),
                Rounds(self._on_shards, lambda parts: together.all_reduce(add_tree(parts, operator.add), holders)),
            )
        if together.size > 1:
            buffers = self._exchange(batch, shards, shares, buffers)
        return StepResult(
            add_tree(list(batch.losses), self.xp.add),
            [metric.sums(self.xp, batch.y, to_device(self.xp, expected)) for metric, expected in measured],
            together.add(self.xp, add_tree(gradients, lambda a, b: self.xp.add(a, b, out=a)), holders),
            buffers,
        )

    def own_rows(self, n: int) -> slice:
        """Return which rows of a batch of n this process computes."""
        shards = cut(n, self.shards)
        own = shards[self._communicator.pieces(len(shards))[self._communicator.rank]]
        return slice(own[0].start, own[-1].stop) if own else slice(0, 0)

    def _exchange(
        self, batch: Batch, shards: list[slice], shares: list[slice], buffers: dict[str, dict[str, Array]]
    ) -> dict[str, dict[str, Array]]:
        """Fill in losses and outputs of the other ranks, and return the buffers, which a rank without shards lacks."""
        together = self._communicator
        places = [(share, slice(shards[share][0].start, shards[share][-1].stop)) for share in shares if shards[share]]
        mine: tuple[HostArray, HostArray] = np.empty(0), np.empty(0)
        if together.rank < len(places):
            own, rows = places[together.rank]
            mine = to_host(batch.losses[own]), to_host(batch.y[rows])
        everyone = together.gather((mine, buffers if together.rank == 0 else None))
        for (own, rows), ((losses, y), _) in zip(places, everyone, strict=False):
            batch.losses[own], batch.y[rows] = to_device(self.xp, losses), to_device(self.xp, y)
        return buffers or everyone[0][1] or {}

    def _training_shard(self, own: Sequence[int], shards: list[slice], place: int) -> Shard:
        """Return a shard of the batch at hand, by its place among the own ones."""
        memory, xp, number, rows = self._memory, self.xp, own[place], shards[own[place]]
        batch, context = memory.batch, Context(memory.workspace(place), training=True, first_row=rows.start)
        here = slice(rows.start - batch.first_row, rows.stop - batch.first_row)
        x = context.workspace.batch_last(batch.x[here].shape, self.network.dtype)

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
        task = Task(
            self._loss,
            made_each_time(lambda: to_device(xp, batch.rows[rows])),
            None if batch.weights is None else made_each_time(weights),
            made_each_time(lambda: to_device(xp, batch.normalizer)),
            report,
        )
        params, releases = self.network.params, self.network.knows(self._loss)
        return Shard(self._program, params, x, context, self._views[place], task, releases=releases)

    def infer(self, x: HostArray, program: Program, y: HostArray) -> None:
        """Write the output of ``program`` for one batch of host arrays into the host array ``y``."""
        batch, shards = self._memory.batch, cut(len(x), self.shards)
        batch.x, batch.y = x, y
        self._memory.replay((len(x), len(shards), program.from_logits), self._holds()).run(
            lambda one_round: one_round(functools.partial(self._infer_shard, shards, program), len(shards)),
            lambda: (y,),
            Rounds(self._on_shards, lambda parts: None),
        )

    def _infer_shard(self, shards: list[slice], program: Program, number: int) -> None:
        memory, xp, rows = self._memory, self.xp, shards[number]
        batch, workspace = memory.batch, memory.workspace(number)
        x = workspace.batch_last(batch.x[rows].shape, self.network.dtype)

        def enter() -> None:
            unwatched(x)[...] = to_device(xp, batch.x[rows])

        def leave() -> None:
            batch.y[rows] = to_host(output)

        each_time(enter)
        output = unwatched(self.network.infer(x, Context(workspace), program, self._params))
        each_time(leave)

    def _holds(self, *others: object) -> Hashable:
        """Return what a recording holds for, None if it can't be known: parts of this package alone, on the host."""
        apart = self._communicator.size > 1 and self._program.reduces if others else False
        return self.network.changes if is_host(self.xp) and self.network.knows(*others) and not apart else None

    def _on_shards(self, work: Callable[[int], Any], shards: int) -> list[Any]:
        """Let every shard work: shard i on thread i modulo the threads, of which this one is the first."""
        results: list[Any] = [None] * shards

        def work_from(first: int) -> None:
            for shard in range(first, shards, self.threads):
                results[shard] = work(shard)

        others = [self._pool.submit(work_from, t) for t in range(1, min(self.threads, shards))] if self._pool else []
        try:
            work_from(0)
        finally:
            wait(others)  # all of them, since they work on memory that the next round uses
        for future in others:
            future.result()
        return results


def _train(
    program: Program, begin: Callable[[int], Shard], count: int, one_round: OneRound
) -> dict[str, dict[str, Array]]:
    """Make a training step of all shards, round by round, and return new values of buffers."""
    shards: list[Shard | None] = [None] * count
    total: Any = None
    for act, segment in rounds(program):

        def work(place: int, act: Any = act, segment: Any = segment, total: Any = total) -> Any:
            shard = shards[place] or begin(place)
            shards[place] = shard
            return act(shard, segment, total)

        total = one_round(work, count)
    return cast(Shard, shards[0]).context.buffers
