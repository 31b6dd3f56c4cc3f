"""Rounds over the shards of a batch, made again and again: computed, then recorded, then replayed.

A replay makes the same NumPy calls on the same memory without the Python between them. ``XPCNN_REPLAY=0`` turns it off,
so that prints and breakpoints in a layer are met at every step.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable, Iterable
from enum import Enum, auto
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from xpcnn.backend import Array
from xpcnn.recording import Recording, RecordingError, unwatched

ENVIRONMENT_VARIABLE = "XPCNN_REPLAY"

#: one_round(work, n) makes a round of n shards and returns the total of what they gave.
OneRound: TypeAlias = Callable[[Callable[[int], Any], int], Any]


class Rounds(NamedTuple):
    """How a round is made.

    on_shards(work, n) returns [work(0), …, work(n - 1)]; shards that share memory follow one another.
    all_reduce(parts) returns the total of all shards, those of other processes included.
    """

    on_shards: Callable[[Callable[[int], Any], int], list[Any]]
    all_reduce: Callable[[list[Any]], Any]

    def make(self, work: Callable[[int], Any], shards: int) -> Any:
        """Let all shards work, and return the total of what they give, None if that is nothing."""
        parts = self.on_shards(work, shards)
        return None if parts[0] is None else self.all_reduce(parts)


class Recorded(NamedTuple):
    """The calls of each shard in one round, and those that added up what they gave."""

    shards: list[Recording]
    between: Recording


class State(Enum):
    """What is known of a replay."""

    FRESH = auto()  # never computed
    COMPUTED = auto()  # computed once, so that all memory is there
    RECORDED = auto()  # recorded, and not yet compared
    TRUSTED = auto()  # replayed once with the very results that were computed
    NEVER = auto()  # not to be replayed


class Replay:
    """The rounds of a batch of one kind.

    What differs from time to time, they take by :func:`~xpcnn.recording.made_each_time`. The first run allocates, the
    second is recorded. The next one with other results is computed and replayed: unless both agree to the bit, nothing
    is ever replayed, so that a call that escapes the recording costs speed alone.
    """

    def __init__(self, recordable: bool) -> None:
        self.state = State.FRESH if recordable and is_on() else State.NEVER
        self._rounds: list[Recorded] = []
        self._results: Any = None
        self._digest = b""

    def run(self, compute: Callable[[OneRound], Any], written: Callable[[], Iterable[Array]], rounds: Rounds) -> Any:
        """Return what ``compute(one_round)`` returns, in memory that the next run may use again.

        written: gives the arrays that it writes into.
        """
        if self.state is State.NEVER:
            return compute(rounds.make)
        if self.state is State.TRUSTED:
            return self._replayed(rounds)
        if self.state is State.COMPUTED:
            return self._recorded(compute, written, rounds)
        results = compute(rounds.make)
        if self.state is State.FRESH:
            self.state = State.COMPUTED
        elif self.state is State.RECORDED and not self._compared(results, written, rounds):
            return compute(rounds.make)  # the replay has overwritten what was right
        return results

    def _compared(self, results: Any, written: Callable[[], Iterable[Array]], rounds: Rounds) -> bool:
        """Replay what was just computed, if that tells anything, and return False where it gives anything else."""
        digest = _digest(results, written())
        if digest == self._digest:
            return True  # the recorded batch over again
        self._replayed(rounds)
        if _digest(self._results, written()) == digest:
            self.state = State.TRUSTED
            return True
        self.state, self._rounds, self._results = State.NEVER, [], None
        return False

    def _recorded(
        self, compute: Callable[[OneRound], Any], written: Callable[[], Iterable[Array]], rounds: Rounds
    ) -> Any:
        def noted_round(work: Callable[[int], Any], shards: int) -> Any:
            noted = Recorded([Recording() for _ in range(shards)], Recording())
            self._rounds.append(noted)
            return rounds._replace(
                all_reduce=lambda parts: _during(noted.between, rounds.all_reduce, parts),
            ).make(lambda shard: _during(noted.shards[shard], work, shard), shards)

        try:
            self._results = unwatched(compute(noted_round))
        except RecordingError:
            self.state, self._rounds = State.NEVER, []
            return compute(rounds.make)
        self._digest = _digest(self._results, written())
        self.state = State.RECORDED
        return self._results

    def _replayed(self, rounds: Rounds) -> Any:
        for recordings, between in self._rounds:
            rounds.on_shards(functools.partial(_replay, recordings), len(recordings))
            between.replay()
        return self._results


def _replay(recordings: list[Recording], shard: int) -> None:
    recordings[shard].replay()


def _during(recording: Recording, function: Callable[[Any], Any], argument: Any) -> Any:
    """Call a function while a recording notes what it does."""
    with recording:
        return function(argument)


def is_on() -> bool:
    """Whether steps may be replayed: unless the environment variable ``XPCNN_REPLAY`` says 0."""
    return os.environ.get(ENVIRONMENT_VARIABLE, "1") != "0"


def _digest(results: Any, written: Iterable[Array]) -> bytes:
    """Return a digest of all arrays in nested results and of those that were written."""
    digest = hashlib.blake2b()
    for array in (*_arrays(results), *written):
        digest.update(array.tobytes())
    return digest.digest()


def _arrays(value: Any) -> Iterable[Array]:
    """Yield the arrays in lists, tuples and dicts."""
    if isinstance(value, list | tuple):
        for part in value:
            yield from _arrays(part)
    elif isinstance(value, dict):
        yield from _arrays(list(value.values()))
    elif isinstance(value, np.ndarray):
        yield value
