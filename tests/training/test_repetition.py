"""A repetition: what is recorded and replayed is what would be computed anew, or nothing is replayed."""

import numpy as np
import pytest

from xpcnn.layers import Meeting
from xpcnn.recording import made_each_time, unwatched, watched
from xpcnn.training.memory import MOST_KINDS, Memory
from xpcnn.training.repetition import Repetition


def one_after_the_other(function, pieces):
    return [function(piece) for piece in range(pieces)]


class Averages:
    """Passes in which three pieces subtract the mean of all, and count how often each really ran."""

    def __init__(self, spoil=lambda x: x):
        self.x, self.y, self.spoil, self.runs = np.zeros(3), np.zeros(3), spoil, [0, 0, 0]

    def start(self, piece):
        self.runs[piece] += 1
        x = made_each_time(lambda: self.x[piece : piece + 1])
        total = yield Meeting(x * 1.0, lambda a, b: a + b)
        watched(self.y)[piece : piece + 1] = self.spoil(x - total / 3.0)
        return x * 2.0

    def repetition(self, recordable=True):
        starts = [lambda piece=piece: self.start(piece) for piece in range(3)]
        return Repetition(starts, lambda: [self.y], recordable)

    def run(self, repetition, *x):
        self.x[...] = x
        doubled = repetition.run(one_after_the_other)
        return self.y.tolist(), [float(value[0]) for value in doubled]


BATCHES = [(1, 2, 3), (4, 4, 4), (0, 0, 9), (-3, 6, 0), (1, 1, 7)]


def expected(x):
    return [value - sum(x) / 3 for value in x], [2 * value for value in x]


@pytest.mark.parametrize("recordable", [True, False])
def test_every_run_gives_what_its_own_batch_gives(recordable):
    averages = Averages()
    repetition = averages.repetition(recordable)
    for x in BATCHES:
        assert averages.run(repetition, *x) == expected(x)


def test_the_second_run_is_recorded_the_third_verified_and_later_ones_replayed():
    averages = Averages()
    repetition, seen = averages.repetition(), []
    for x in BATCHES:
        averages.run(repetition, *x)
        seen.append((averages.runs[0], repetition.replays))
    assert seen == [(1, False), (2, True), (3, True), (3, True), (3, True)]


def test_what_is_not_recordable_runs_every_time():
    averages = Averages()
    repetition = averages.repetition(recordable=False)
    for x in BATCHES:
        averages.run(repetition, *x)
    assert averages.runs == [5, 5, 5]


def test_a_recording_that_gives_anything_else_is_forgotten():
    # np.asarray takes the plain array out of a watched one, so the recording never sees what is added.
    averages = Averages(spoil=lambda x: np.array(np.asarray(x)))
    repetition = averages.repetition()
    for x in BATCHES:
        assert averages.run(repetition, *x) == expected(x)
    assert averages.runs == [5, 5, 5]
    assert not repetition.replays


def test_values_that_are_not_numbers_agree_with_themselves():
    averages = Averages()
    repetition = averages.repetition()
    for _ in range(5):
        averages.run(repetition, np.nan, 1, 2)
    assert averages.runs == [3, 3, 3]


def test_a_pass_that_decides_by_values_runs_every_time():
    averages = Averages(spoil=lambda x: x if x > 0 else x * 1.0)
    repetition = averages.repetition()
    for x in BATCHES:
        assert averages.run(repetition, *x) == expected(x)
    assert averages.runs == [6, 6, 6], "the run that could not be recorded was made anew"


def test_results_are_plain_arrays():
    averages = Averages()
    repetition = averages.repetition()
    for _ in range(3):
        results = repetition.run(one_after_the_other)
        assert all(type(unwatched(result)) is type(result) for result in results)


def test_pieces_on_one_thread_share_their_memory_until_each_gets_its_own():
    memory = Memory(np, 2)
    assert [memory.workspace(0), memory.workspace(1)] == [memory.workspace(2), memory.workspace(3)]
    memory.grow(3)
    assert len({id(memory.workspace(piece)) for piece in range(3)}) == 3
    first, third = (memory.workspace(piece).scratch((3,), np.float32) for piece in (0, 2))
    assert np.shares_memory(first, third)


def test_only_the_latest_kinds_of_batches_are_remembered():
    memory, made = Memory(np, 1), []

    def repetition(kind):
        return memory.repetition(kind, lambda: made.append(kind) or Averages().repetition())

    assert repetition(0) is repetition(0)
    for kind in range(MOST_KINDS + 1):
        repetition(kind)
    repetition(1)
    repetition(0)
    assert made == [*range(MOST_KINDS + 1), 0]
