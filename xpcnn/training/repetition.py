"""The passes over the pieces of a batch, made again and again: computed, then recorded, then replayed."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from enum import Enum, auto
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from xpcnn.backend import Array
from xpcnn.layers import Meeting
from xpcnn.network import Pass
from xpcnn.recording import Recording, RecordingError, unwatched
from xpcnn.training.pieces import add_tree

#: on_pieces(function, n) returns [function(0), …, function(n - 1)]; pieces that share memory follow one another.
OnPieces: TypeAlias = Callable[[Callable[[int], Any], int], list[Any]]

#: join(part, combine) returns the part of all pieces, those of other processes included.
Join: TypeAlias = Callable[[Any, Callable[[Any, Any], Any]], Any]


class Done(NamedTuple):
    """The result of a pass that has ended."""

    value: Any


class Round(NamedTuple):
    """The calls of each piece up to a meeting, or to its end, and those of the meeting."""

    pieces: list[Recording]
    meeting: Recording


class State(Enum):
    """What is known of a repetition."""

    FRESH = auto()  # never computed
    COMPUTED = auto()  # computed once, so that all memory is there
    RECORDED = auto()  # recorded, and not yet compared
    TRUSTED = auto()  # replayed once with the very results that were computed
    NEVER = auto()  # not to be replayed


class Repetition:
    """The passes over the pieces of a batch of one kind.

    What differs from time to time, a pass takes by :func:`~xpcnn.recording.made_each_time`. The first run allocates,
    the second is recorded. The next one with other results is computed and replayed: unless both agree to the bit,
    nothing is ever replayed, so that a call that escapes the recording costs speed alone. join: what makes one part of
    those of all processes; a pass in which they meet is not to be recorded.
    """

    def __init__(self, recordable: bool, join: Join = lambda part, _: part) -> None:
        self._join = join
        self.state = State.FRESH if recordable else State.NEVER
        self._rounds: list[Round] = []
        self._results: list[Any] = []
        self._digest = b""

    def run(
        self, starts: Sequence[Callable[[], Pass]], written: Callable[[], Iterable[Array]], on_pieces: OnPieces
    ) -> list[Any]:
        """Make the passes of all pieces and return their results, in memory that the next run may use again.

        starts: for each piece a function that returns a fresh pass; written: gives the arrays that passes write into.
        """
        if self.state is State.TRUSTED:
            return self._replayed(on_pieces)
        if self.state is State.COMPUTED:
            return self._recorded(starts, written, on_pieces)
        results = self._computed(starts, on_pieces)
        if self.state is State.FRESH:
            self.state = State.COMPUTED
        elif self.state is State.RECORDED and not self._compared(results, written, on_pieces):
            return self._computed(starts, on_pieces)  # the replay has overwritten what was right
        return results

    def _compared(self, results: list[Any], written: Callable[[], Iterable[Array]], on_pieces: OnPieces) -> bool:
        """Replay what was just computed, if that tells anything, and return False where it gives anything else."""
        digest = _digest(results, written())
        if digest == self._digest:
            return True  # the recorded batch over again
        self._replayed(on_pieces)
        if _digest(self._results, written()) == digest:
            self.state = State.TRUSTED
            return True
        self.state, self._rounds, self._results = State.NEVER, [], []
        return False

    def _computed(
        self, starts: Sequence[Callable[[], Pass]], on_pieces: OnPieces, rounds: list[Round] | None = None
    ) -> list[Any]:
        """Advance all passes from meeting to meeting, each time sending the whole to all, and return their results.

        rounds: where to note the calls.
        """
        passes = [start() for start in starts]
        brought: Any = None
        while True:
            notes: list[AbstractContextManager[Any]] = [nullcontext()] * len(passes)
            meeting: AbstractContextManager[Any] = nullcontext()
            if rounds is not None:
                rounds.append(Round([Recording() for _ in passes], Recording()))
                notes, meeting = [*rounds[-1].pieces], rounds[-1].meeting
            outcomes = on_pieces(functools.partial(_send, passes, notes, brought), len(passes))
            if isinstance(outcomes[0], Done):
                return [outcome.value for outcome in outcomes]
            with meeting:
                brought = add_tree([outcome.part for outcome in outcomes], outcomes[0].combine)
                brought = self._join(brought, outcomes[0].combine)

    def _recorded(
        self, starts: Sequence[Callable[[], Pass]], written: Callable[[], Iterable[Array]], on_pieces: OnPieces
    ) -> list[Any]:
        rounds: list[Round] = []
        try:
            self._results = self._computed(starts, on_pieces, rounds)
        except RecordingError:
            self.state = State.NEVER
            return self._computed(starts, on_pieces)
        self._rounds, self._digest = rounds, _digest(self._results, written())
        self.state = State.RECORDED
        return self._results

    def _replayed(self, on_pieces: OnPieces) -> list[Any]:
        for recordings, meeting in self._rounds:
            on_pieces(functools.partial(_replay, recordings), len(recordings))
            meeting.replay()
        return self._results


def _send(passes: list[Pass], notes: Sequence[AbstractContextManager[Any]], brought: Any, piece: int) -> Meeting | Done:
    """Send what was brought to a pass and return what it brings next, or its result."""
    with notes[piece]:
        try:
            return passes[piece].send(brought)
        except StopIteration as end:
            return Done(unwatched(end.value))


def _replay(recordings: list[Recording], piece: int) -> None:
    recordings[piece].replay()


def _digest(results: list[Any], written: Iterable[Array]) -> bytes:
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
