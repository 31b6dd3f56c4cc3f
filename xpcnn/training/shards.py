"""A batch cut into pieces that run side by side and are added in a fixed order."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType, TracebackType
from typing import Any, NamedTuple, TypeVar

import numpy as np

from xpcnn.backend import Array, is_host, to_device, to_host
from xpcnn.layers import Context, Meeting
from xpcnn.losses import Loss, Targets
from xpcnn.metrics import Metric
from xpcnn.network import Network, Pass, Program
from xpcnn.ops.workspace import Workspace
from xpcnn.training.threads import blas_on_one_thread, check_shards, check_threads, hold_in_this_thread

T = TypeVar("T")


class StepResult(NamedTuple):
    """What a batch gives: its mean loss, the sums of each metric, its flat gradient, and new values of buffers."""

    loss: Array
    sums: list[Array]
    gradient: Array
    buffers: dict[str, dict[str, Array]]


@dataclass(frozen=True)
class _Done:
    """The result of a pass that has ended."""

    value: Any


def cut(n: int, pieces: int) -> list[slice]:
    """Cut n rows into at most ``pieces`` parts, sizes differing by one at most.

    >>> cut(5, 2)
    [slice(0, 3, None), slice(3, 5, None)]
    """
    pieces = max(1, min(pieces, n))
    size, larger = divmod(n, pieces)
    starts = [i * size + min(i, larger) for i in range(pieces + 1)]
    return [slice(start, stop) for start, stop in pairwise(starts)]


def add_tree(parts: Sequence[T], combine: Callable[[T, T], T]) -> T:
    """Combine neighbours, then neighbours of those, …: the same order whatever the number of threads."""
    level = list(parts)
    while len(level) > 1:
        pairs = [combine(a, b) for a, b in zip(level[::2], level[1::2], strict=False)]
        level = pairs + level[len(pairs) * 2 :]
    return level[0]


class Runner:
    """Runs batches through a network in pieces, on threads of this process; a device takes a batch whole.

    Use it as a context manager: BLAS is held to one thread meanwhile, and the workspaces go back to the network.
    """

    def __init__(
        self, network: Network, batch_size: int, shards: int | None = None, threads: int | None = None
    ) -> None:
        self.network = network
        self.xp = network.xp
        host = is_host(self.xp)
        self.shards = min(check_shards(shards, batch_size), batch_size) if host or shards else 1
        work = network.multiplications * batch_size / self.shards
        self.threads = min(check_threads(threads, work), self.shards) if host else 1
        self._stack = ExitStack()

    def __enter__(self) -> Runner:
        self._workspaces = self._borrow(self.threads)
        self._stack.enter_context(blas_on_one_thread())
        self._pool = None
        if self.threads > 1:
            pool = ThreadPoolExecutor(self.threads - 1, "xpcnn", initializer=hold_in_this_thread)
            self._pool = self._stack.enter_context(pool)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _borrow(self, count: int) -> list[Workspace]:
        workspaces = self.network.borrow_workspaces(count)
        self._stack.callback(self.network.return_workspaces, workspaces)
        return workspaces

    def prepare_training(self, loss: Loss) -> None:
        """Allocate a flat gradient for each piece, and plan which layers learn."""
        layout = self.network.layout
        self.network.plan_training(loss)
        if any(step.layer.meets for step in self.network.steps):
            # Pieces that meet half-way are all under way at once, so each needs memory of its own.
            self._workspaces = self._workspaces + self._borrow(self.shards - self.threads)
        self._gradients = [self.xp.zeros(layout.size, dtype=self.network.dtype) for _ in range(self.shards)]
        # Read-only mappings: a layer writes into its views, and cannot put another array in their place.
        self._views = [
            {layer: MappingProxyType(views) for layer, views in layout.layer_views(gradient).items()}
            for gradient in self._gradients
        ]

    def train(
        self,
        x: np.ndarray[Any, Any],
        targets: Targets,
        loss: Loss,
        measured: Sequence[tuple[Metric, np.ndarray[Any, Any]]],
        seed: int,
        step: int,
    ) -> StepResult:
        """Return loss, metrics and gradient of one batch of host arrays; each metric comes with what it compares."""
        pieces = cut(len(x), self.shards)

        def start(index: int) -> Pass:
            rows = pieces[index]
            piece = targets.slice(rows.start, rows.stop)
            context = Context(self._workspace(index), True, seed, step, rows.start)
            result = yield from self.network.train(
                to_device(self.xp, x[rows]),
                to_device(self.xp, piece.rows),
                None if piece.weights is None else to_device(self.xp, piece.weights),
                piece.normalizer or 1.0,  # a batch without any weight counts nothing
                loss,
                self._views[index],
                context,
            )
            sums = [
                metric.sums(self.xp, result.probabilities, to_device(self.xp, expected[rows]))
                for metric, expected in measured
            ]
            return result.loss, sums, result.buffers

        results = self._run_together([start(index) for index in range(len(pieces))])
        losses, sums, buffers = zip(*results, strict=True)
        return StepResult(
            add_tree(losses, self.xp.add),
            [add_tree(parts, self.xp.add) for parts in zip(*sums, strict=True)],
            add_tree(self._gradients[: len(pieces)], self._add_to_first),
            buffers[0],
        )

    def infer(self, x: np.ndarray[Any, Any], program: Program, y: np.ndarray[Any, Any]) -> None:
        """Write the output of ``program`` for one batch of host arrays into the host array ``y``."""
        pieces = cut(len(x), self.shards)

        def start(index: int) -> Pass:
            rows = pieces[index]
            context = Context(self._workspace(index))
            y[rows] = to_host(self.network.infer(to_device(self.xp, x[rows]), context, program))
            yield from ()

        self._run_together([start(index) for index in range(len(pieces))])

    def _add_to_first(self, a: Array, b: Array) -> Array:
        return self.xp.add(a, b, out=a)

    def _workspace(self, index: int) -> Any:
        """Return the memory of a piece: its own where pieces meet half-way, else that of the thread that runs it."""
        workspace = self._workspaces[index % len(self._workspaces)]
        workspace.reset()
        return workspace

    def _run_together(self, passes: list[Pass]) -> list[Any]:
        """Advance all passes from meeting to meeting, each time sending the whole to all, and return their results."""
        brought: Any = None
        while True:
            outcomes = self._map(functools.partial(_advance, brought), passes)
            if isinstance(outcomes[0], _Done):
                return [outcome.value for outcome in outcomes]
            brought = add_tree([meeting.part for meeting in outcomes], outcomes[0].combine)

    def _map(self, function: Callable[[Pass], Any], passes: list[Pass]) -> list[Any]:
        """Apply ``function`` to every pass: pass i on thread i modulo the threads, of which this one is the first."""
        results: list[Any] = [None] * len(passes)

        def work(first: int) -> None:
            for index in range(first, len(passes), self.threads):
                results[index] = function(passes[index])

        others = [self._pool.submit(work, t) for t in range(1, self.threads)] if self._pool else []
        try:
            work(0)
        finally:
            for future in others:
                future.result()
        return results


def _advance(brought: Any, run: Pass) -> Meeting | _Done:
    """Send what was brought to a pass and return what it brings next, or its result."""
    try:
        return run.send(brought)
    except StopIteration as end:
        return _Done(end.value)
