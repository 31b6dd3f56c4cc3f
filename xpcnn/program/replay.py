"""Record and replay of the rounds over the shards of a batch: first computed, then recorded, then replayed.

A replay makes the same NumPy calls on the same memory, without the Python code in between. ``XPCNN_REPLAY=0`` disables
it, so that prints and breakpoints in a layer are reached at every step.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from enum import Enum, auto
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from xpcnn.backend import Array
from xpcnn.recording import Recording, RecordingError, unwatched

ENVIRONMENT_VARIABLE = "XPCNN_REPLAY"

#: on_shards(work, n) returns [work(0), …, work(n - 1)]; shards that share memory run sequentially.
OnShards: TypeAlias = Callable[[Callable[[int], Any], int], list[Any]]


class Recorded(NamedTuple):
    """The calls of each shard in one round, and those that sum their results."""

    shards: list[Recording]
    between: Recording


class Notes:
    """Records the calls of all rounds."""

    def __init__(self) -> None:
        self.rounds: list[Recorded] = []

    def taken(self, work: Callable[[int], Any], shards: int) -> Callable[[int], Any]:
        """Start a new round, and return its work wrapped so that all calls are recorded."""
        recorded = Recorded([Recording() for _ in range(shards)], Recording())
        self.rounds.append(recorded)

        def taken(shard: int) -> Any:
            with recorded.shards[shard]:
                return work(shard)

        return taken

    def between(self) -> Recording:
        """Return a context manager that records how the latest round's results are summed."""
        return self.rounds[-1].between


class State(Enum):
    """The state of a replay."""

    FRESH = auto()  # never computed
    COMPUTED = auto()  # computed once, so that all memory is allocated
    RECORDED = auto()  # recorded but not yet compared
    TRUSTED = auto()  # replayed once, with bit-identical results
    NEVER = auto()  # must not be replayed


class Replay:
    """The rounds of one kind of batch.

    Inputs that change between runs go through :func:`~xpcnn.recording.made_each_time`. The first run allocates, and
    the second is recorded. The next run with different results is both computed and replayed (one with the same results
    may be repeated with other inputs). Unless the two are bit-identical, nothing is ever replayed, so a call missing
    from the recording costs only speed.
    """

    def __init__(self) -> None:
        self.state = State.FRESH
        self._rounds: list[Recorded] = []
        self._results: Any = None
        self._bits: list[bytes] = []

    def run(
        self,
        compute: Callable[[Notes | None], Any],
        written: Callable[[], Iterable[Array]],
        on_shards: OnShards,
        others: Callable[[], AbstractContextManager[None]] | None = None,
    ) -> Any:
        """Return the results of ``compute(notes)``, in memory that the next run may reuse.

        written: returns the arrays that ``compute`` writes into. others: a context in which ``compute`` has other
        inputs and writes elsewhere, to compare with where the same inputs may come again and again; for passes that
        return nothing else.
        """
        if self.state is State.TRUSTED:
            return self._replayed(on_shards)
        if self.state is State.COMPUTED:
            return self._recorded(compute, written)
        results = compute(None)
        if self.state is State.FRESH:
            self.state = State.COMPUTED
        elif self.state is State.RECORDED:
            if others is not None and _bits(results, written()) == self._bits:
                with others():
                    self._compared(compute(None), written, on_shards)
                if self.state is State.RECORDED:
                    self.state = State.NEVER  # other inputs have the same results: there is nothing to compare by
            elif not self._compared(results, written, on_shards):
                return compute(None)  # the replay has overwritten the correct results
        return results

    def _compared(self, results: Any, written: Callable[[], Iterable[Array]], on_shards: OnShards) -> bool:
        """Replay the batch just computed, unless it is the recorded one; return False if the results differ."""
        bits = _bits(results, written())
        if bits == self._bits:
            return True  # inconclusive: the same results as when recorded
        self._replayed(on_shards)
        if _bits(self._results, written()) == bits:
            self.state, self._bits = State.TRUSTED, []
            return True
        self.state, self._rounds, self._results = State.NEVER, [], None
        return False

    def _recorded(self, compute: Callable[[Notes | None], Any], written: Callable[[], Iterable[Array]]) -> Any:
        notes = Notes()
        try:
            self._results = unwatched(compute(notes))
        except RecordingError:
            self.state = State.NEVER
            return compute(None)
        self._rounds, self._bits = notes.rounds, _bits(self._results, written())
        self.state = State.RECORDED
        return self._results

    def _replayed(self, on_shards: OnShards) -> Any:
        for recordings, between in self._rounds:
            on_shards(functools.partial(_replay, recordings), len(recordings))
            between.replay()
        return self._results


def _replay(recordings: list[Recording], shard: int) -> None:
    recordings[shard].replay()


def is_on() -> bool:
    """Whether steps may be replayed: unless the environment variable ``XPCNN_REPLAY`` is 0."""
    return os.environ.get(ENVIRONMENT_VARIABLE, "1") != "0"


def _bits(results: Any, written: Iterable[Array]) -> list[bytes]:
    """Return the bytes of all arrays, both in nested results and written."""
    return [array.tobytes() for array in (*_arrays(results), *written)]


def _arrays(value: Any) -> Iterable[Array]:
    """Yield the arrays in nested lists, tuples and dicts."""
    if isinstance(value, list | tuple):
        for part in value:
            yield from _arrays(part)
    elif isinstance(value, dict):
        yield from _arrays(list(value.values()))
    elif isinstance(value, np.ndarray):
        yield value
