"""Prediction on the host, in shards on threads."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from xpcnn.backend import is_host, to_device, to_host
from xpcnn.layers import Context
from xpcnn.program.execute import Executor, Shard, prediction_rounds
from xpcnn.program.memory import Memory
from xpcnn.program.program import Program
from xpcnn.program.replay import Notes
from xpcnn.program.shards import cut
from xpcnn.recording import each_time, unwatched

HostArray = np.ndarray[Any, Any]


class HostPrediction:
    """Computes the outputs of a network batch by batch, on an executor that has been entered."""

    def __init__(self, executor: Executor) -> None:
        self._executor, self._network = executor, executor.network
        threads = executor.threads
        self._memory = executor.borrow_memory(
            lambda: Memory(executor.xp, threads), ("prediction", threads, executor.xp)
        )
        self._params = self._network.prediction_params(self._memory.folded)

    def infer(self, x: HostArray, program: Program, y: HostArray) -> None:
        """Write the output of ``program`` for one batch of host arrays into the host array ``y``."""
        executor, memory, network = self._executor, self._memory, self._network
        batch, shards = memory.batch, cut(len(x), executor.shards)
        batch.x, batch.y = x, y
        begin = functools.partial(self._begin, shards, program)

        def compute(notes: Notes | None) -> None:
            executor.run(prediction_rounds(program), begin, len(shards), notes=notes)

        holds = network.changes if is_host(network.xp) and network.knows() else None
        replay = memory.replay((len(x), len(shards), program.from_logits), holds)
        if replay is None:
            compute(None)
        else:
            replay.run(compute, lambda: (batch.y,), executor.on_shards, self._other_images)

    @contextmanager
    def _other_images(self) -> Iterator[None]:
        """Let the current batch be of other images, whose outputs are dropped."""
        batch = self._memory.batch
        x, y = batch.x, batch.y
        batch.x, batch.y = 1 - x, np.empty_like(y)
        try:
            yield
        finally:
            batch.x, batch.y = x, y

    def _begin(self, shards: list[slice], program: Program, number: int) -> Shard:
        """Return a shard of the current batch."""
        batch, network, rows = self._memory.batch, self._network, shards[number]
        xp, workspace = self._executor.xp, self._memory.workspace(number)
        x = workspace.batch_last(batch.x[rows].shape, network.dtype)

        def enter() -> None:
            unwatched(x)[...] = to_device(xp, batch.x[rows])

        def report(output: Any) -> None:
            output = unwatched(output)

            def leave() -> None:
                batch.y[rows] = to_host(output)

            each_time(leave)

        each_time(enter)
        return Shard(program, self._params, x, Context(workspace), report=report, releases=network.knows())
