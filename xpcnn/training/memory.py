"""What a run keeps from batch to batch: working memory, and the recordings made on it."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import numpy as np

from xpcnn.backend import Array, ArrayModule
from xpcnn.losses import Targets
from xpcnn.ops.workspace import Workspace
from xpcnn.training.repetition import Repetition

HostArray = np.ndarray[Any, Any]

#: Recordings for batches of the latest kinds only: a fit has two, its last batch being smaller.
MOST_KINDS = 4


class Batch:
    """The batch at hand: what recorded passes read and write anew each time."""

    x: HostArray
    targets: Targets
    seed: int
    step: int
    y: Array


class Memory:
    """A workspace for each thread of a run, and the repetitions whose recordings refer to them."""

    def __init__(self, xp: ArrayModule, threads: int) -> None:
        self.batch = Batch()
        self._threads = threads
        self._workspaces = [Workspace(xp) for _ in range(threads)]
        self._repetitions: dict[Hashable, Repetition] = {}

    def grow(self, pieces: int) -> None:
        """Give each piece a workspace of its own; those of pieces on one thread share their scratch memory."""
        for piece in range(self._threads, pieces):
            of_thread = self._workspaces[piece % self._threads]
            self._workspaces.append(Workspace(of_thread.xp, scratch_of=of_thread))

    def workspace(self, piece: int) -> Workspace:
        """Return the memory of a piece, all of it free: its own, or that of the thread that runs it."""
        workspace = self._workspaces[piece % len(self._workspaces)]
        workspace.reset()
        return workspace

    def repetition(self, kind: Hashable, make: Callable[[], Repetition]) -> Repetition:
        """Return the repetition for batches of one kind."""
        if kind not in self._repetitions:
            while len(self._repetitions) >= MOST_KINDS:
                del self._repetitions[next(iter(self._repetitions))]
            self._repetitions[kind] = make()
        return self._repetitions[kind]
