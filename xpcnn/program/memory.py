"""The memory that a run keeps between batches, and the recordings that refer to it."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np

from xpcnn.backend import Array, ArrayModule
from xpcnn.ops.workspace import Workspace
from xpcnn.program.lru_cache import LRUCache
from xpcnn.program.replay import Replay, is_on
from xpcnn.recording import under_way

HostArray = np.ndarray[Any, Any]

#: Recordings are kept for the most recent kinds of batch only; a fit has two, since its last batch is smaller.
MOST_KINDS = 8


class Batch:
    """The current batch, on the host: the data that every pass reads and writes, replayed or not."""

    x: HostArray
    #: The offset of x in the batch.
    first_row: int
    targets: HostArray
    weights: HostArray | None
    normalizer: HostArray
    scale: Array | None
    seed: int
    step: int
    y: Array
    losses: Array

    def clear(self) -> None:
        """Drop all references to arrays, some of which belong to the user."""
        self.__dict__.clear()


class Memory:
    """A workspace for each thread of a run, and the replays whose recordings refer to them."""

    def __init__(self, xp: ArrayModule, threads: int) -> None:
        self.batch = Batch()
        self._threads = threads
        self._workspaces: list[Workspace] = []
        self._temporaries: list[Workspace] = []
        #: The arrays of layers with a folded BatchNorm, by layer.
        self.folded: dict[str, dict[str, Array]] = {}
        self._replays: LRUCache[Replay] = LRUCache(MOST_KINDS)
        self._holds: Hashable = None
        for _ in range(threads):
            self._workspaces.append(Workspace(xp))
            self._temporaries.append(Workspace(xp))

    def grow(self, shards: int) -> None:
        """Give each shard a separate workspace; those of shards on one thread share scratch memory."""
        for shard in range(self._threads, shards):
            of_thread = self._workspaces[shard % self._threads]
            self._workspaces.append(Workspace(of_thread.xp, scratch_of=of_thread))
            self._temporaries.append(Workspace(of_thread.xp))

    def workspace(self, shard: int) -> Workspace:
        """Return the workspace of a shard, reset: a separate one, or that of the thread it runs on.

        An active recording allocates temporary arrays from the matching workspace too.
        """
        place = shard % len(self._workspaces)
        workspace, temporaries, recording = self._workspaces[place], self._temporaries[place], under_way()
        workspace.reset()
        temporaries.reset()
        if recording is not None:
            recording.empty = temporaries.empty
        return workspace

    def replay(self, kind: Hashable, holds: Hashable) -> Replay | None:
        """Return the replay for batches of one kind, or None if nothing should be recorded.

        holds: the state for which recordings are valid; they are dropped when it changes. None: unknown.
        """
        if holds != self._holds:
            self._replays.clear()
            self._holds = holds
        return self._replays.get(kind, Replay) if holds is not None and is_on() else None
