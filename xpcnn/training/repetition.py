"""The passes over the pieces of a batch, made again and again: run once, then recorded, then replayed."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from xpcnn.backend import Array
from xpcnn.layers import Meeting
from xpcnn.network import Pass
from xpcnn.recording import Recording, RecordingError, unwatched
from xpcnn.training.pieces import add_tree

#: on_pieces(function, n) returns [function(0), …, function(n - 1)]; pieces that share memory follow one another.
OnPieces: TypeAlias = Callable[[Callable[[int], Any], int], list[Any]]


class Done(NamedTuple):
    """The result of a pass that has ended."""

    value: Any


class _Round(NamedTuple):
    """What notes the calls of each piece up to a meeting, or to its end, and those of the meeting."""

    pieces: Sequence[AbstractContextManager[Any]]
    meeting: AbstractContextManager[Any]


class Repetition:
    """The passes over the pieces of a batch of one kind.

    starts: for each piece a function that returns a fresh pass; what differs from time to time, the pass takes by
    :func:`~xpcnn.recording.made_each_time`. The first run allocates, the second is recorded, the others are replays.
    The first replay is made anew as well, and unless both agree to the bit nothing is replayed: should a call escape
    the recording, that costs speed and not truth. written: gives the arrays to compare.
    """

    def __init__(
        self, starts: Sequence[Callable[[], Pass]], written: Callable[[], list[Array]], recordable: bool
    ) -> None:
        self._starts, self._written, self._recordable = starts, written, recordable
        self._runs = 0
        self._rounds: list[_Round] = []
        self._results: list[Any] = []

    @property
    def replays(self) -> bool:
        """Whether the next run is a replay."""
        return bool(self._rounds)

    def run(self, on_pieces: OnPieces) -> list[Any]:
        """Make the passes of all pieces and return their results, in memory that the next run may use again."""
        self._runs += 1
        if self._runs == 2 and self._recordable:
            return self._record(on_pieces)
        if not self.replays:
            return self._advance(on_pieces, nullcontext)
        self._replay(on_pieces)
        return self._verified(on_pieces) if self._runs == 3 else self._results

    def _record(self, on_pieces: OnPieces) -> list[Any]:
        try:
            self._results = self._advance(on_pieces, Recording)
        except RecordingError:
            self._rounds = []
            return self._advance(on_pieces, nullcontext)
        return self._results

    def _replay(self, on_pieces: OnPieces) -> None:
        for recordings, meeting in self._rounds:
            on_pieces(functools.partial(_replay, recordings), len(recordings))
            meeting.replay()  # type: ignore[attr-defined]

    def _verified(self, on_pieces: OnPieces) -> list[Any]:
        """Make the passes that were just replayed, and forget the recording if they give anything else."""
        replayed = [array.copy() for array in self._written()]
        results = self._advance(on_pieces, nullcontext)
        made = self._written()
        if not all(np.array_equal(a, b, equal_nan=True) for a, b in zip(replayed, made, strict=True)):
            self._rounds = []
        return results

    def _advance(self, on_pieces: OnPieces, noting: Callable[[], AbstractContextManager[Any]]) -> list[Any]:
        """Advance all passes from meeting to meeting, each time sending the whole to all, and return their results."""
        passes = [start() for start in self._starts]
        brought: Any = None
        while True:
            notes = _Round([noting() for _ in passes], noting())
            if noting is Recording:
                self._rounds.append(notes)
            outcomes = on_pieces(functools.partial(_send, passes, notes.pieces, brought), len(passes))
            if isinstance(outcomes[0], Done):
                return [outcome.value for outcome in outcomes]
            with notes.meeting:
                brought = add_tree([outcome.part for outcome in outcomes], outcomes[0].combine)


def _send(passes: list[Pass], notes: Sequence[AbstractContextManager[Any]], brought: Any, piece: int) -> Meeting | Done:
    """Send what was brought to a pass and return what it brings next, or its result."""
    with notes[piece]:
        try:
            return passes[piece].send(brought)
        except StopIteration as end:
            return Done(unwatched(end.value))


def _replay(recordings: Sequence[Any], piece: int) -> None:
    recordings[piece].replay()
