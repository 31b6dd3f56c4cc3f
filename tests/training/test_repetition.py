"""A repetition: what is recorded and replayed is what would be computed anew, or nothing is replayed."""

import numpy as np
import pytest

from xpcnn.layers import Meeting
from xpcnn.recording import made_each_time, watched
from xpcnn.training.repetition import Repetition


def one_after_the_other(function, pieces):
    return [function(piece) for piece in range(pieces)]


class Averages:
    """Passes in which three pieces subtract the mean of all, and count how often each really ran."""

    def __init__(self, spoil=lambda x: x, recordable=True):
        self.x, self.y, self.spoil, self.runs = np.zeros(3), np.zeros(3), spoil, [0, 0, 0]
        self.repetition = Repetition(recordable)

    def start(self, piece):
        self.runs[piece] += 1
        x = made_each_time(lambda: self.x[piece : piece + 1])
        total = yield Meeting(x * 1.0, lambda a, b: a + b)
        watched(self.y)[piece : piece + 1] = self.spoil(x - total / 3.0)
        return {"doubled": x * 2.0}

    def run(self, *x):
        self.x[...] = x
        starts = [lambda piece=piece: self.start(piece) for piece in range(3)]
        doubled = self.repetition.run(starts, lambda: [self.y], one_after_the_other)
        return self.y.tolist(), [float(value["doubled"][0]) for value in doubled]


BATCHES = [(1, 2, 3), (4, 4, 4), (0, 0, 9), (-3, 6, 0), (1, 1, 7)]


def expected(x):
    return [value - sum(x) / 3 for value in x], [2 * value for value in x]


@pytest.mark.parametrize("recordable", [True, False])
def test_every_run_gives_what_its_own_batch_gives(recordable):
    averages = Averages(recordable=recordable)
    for x in BATCHES:
        assert averages.run(*x) == expected(x)


def test_the_second_run_is_recorded_the_third_compared_and_later_ones_replayed():
    averages, seen = Averages(), []
    for x in BATCHES:
        averages.run(*x)
        seen.append((averages.runs[0], averages.repetition.state.name))
    assert seen == [(1, "COMPUTED"), (2, "RECORDED"), (3, "TRUSTED"), (3, "TRUSTED"), (3, "TRUSTED")]


def test_what_is_not_recordable_runs_every_time():
    averages = Averages(recordable=False)
    for x in BATCHES:
        averages.run(*x)
    assert averages.runs == [5, 5, 5]


# np.asarray takes the plain array out of a watched one, so a recording never sees what is added.
ESCAPES = {"copied": lambda x: np.array(np.asarray(x)), "added to": lambda x: np.asarray(x) + 1.0}


@pytest.mark.parametrize("escape", ESCAPES)
def test_a_recording_that_gives_anything_else_is_never_replayed(escape):
    averages = Averages(spoil=ESCAPES[escape])
    for x in BATCHES:
        values, doubled = expected(x)
        assert averages.run(*x) == ([value + (escape == "added to") for value in values], doubled)
    assert averages.runs == [6, 6, 6], "the run that was replayed for comparison was computed once more"
    assert averages.repetition.state.name == "NEVER"


def test_the_recorded_batch_over_again_is_no_comparison():
    averages = Averages(spoil=ESCAPES["copied"])
    for x in [BATCHES[0]] * 4 + BATCHES:
        assert averages.run(*x) == expected(x)
    averages = Averages()
    for _ in range(4):
        averages.run(1, 2, 3)
    assert averages.repetition.state.name == "RECORDED"
    averages.run(3, 2, 2)
    assert averages.repetition.state.name == "TRUSTED"


def test_values_that_are_not_numbers_agree_with_themselves():
    averages = Averages()
    for number in range(5):
        averages.run(np.nan, 1, number)
    assert averages.runs == [3, 3, 3]


def test_a_pass_that_decides_by_values_runs_every_time():
    averages = Averages(spoil=lambda x: x if x > 0 else x * 1.0)
    for x in BATCHES:
        assert averages.run(*x) == expected(x)
    assert averages.runs == [6, 6, 6], "the run that could not be recorded was made anew"


def test_results_are_plain_arrays():
    averages = Averages()
    for x in BATCHES:
        averages.x[...] = x
        starts = [lambda piece=piece: averages.start(piece) for piece in range(3)]
        results = averages.repetition.run(starts, lambda: [averages.y], one_after_the_other)
        assert {type(result["doubled"]) for result in results} == {np.ndarray}
