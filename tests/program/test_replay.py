"""A replay gives what a computed step would, or nothing is replayed."""

import contextlib

import numpy as np
import pytest

from xpcnn.program.memory import Memory
from xpcnn.program.replay import Replay
from xpcnn.recording import made_each_time, watched


def one_after_the_other(work, shards):
    return [work(shard) for shard in range(shards)]


class Averages:
    """Three shards that subtract the mean of all, and count how often each really ran."""

    def __init__(self, spoil=lambda x: x, varies=False):
        self.x, self.y, self.spoil, self.runs = np.zeros(3), np.zeros(3), spoil, [0, 0, 0]
        self.varies = varies
        self.replay = Replay()

    def compute(self, notes):
        x, doubled = {}, {}

        def begin(shard):
            self.runs[shard] += 1
            x[shard] = made_each_time(lambda: self.x[shard : shard + 1])
            return x[shard] * 1.0

        def end(shard):
            watched(self.y)[shard : shard + 1] = self.spoil(x[shard] - total / 3.0)
            doubled[shard] = x[shard] * 2.0

        parts = one_after_the_other(begin if notes is None else notes.taken(begin, 3), 3)
        with contextlib.nullcontext() if notes is None else notes.between():
            total = sum(parts)
        one_after_the_other(end if notes is None else notes.taken(end, 3), 3)
        return {"total": total, "doubled": doubled}

    @contextlib.contextmanager
    def others(self):
        x, y = self.x.copy(), self.y.copy()
        self.x += [1, 5, 2]
        yield
        self.x[...], self.y[...] = x, y

    def run(self, *x):
        self.x[...] = x
        others = self.others if self.varies else None
        results = self.replay.run(self.compute, lambda: [self.y], one_after_the_other, others)
        return self.y.tolist(), float(results["total"][0]), [float(results["doubled"][shard][0]) for shard in range(3)]


BATCHES = [(1, 2, 3), (4, 4, 4), (0, 0, 9), (-3, 6, 0), (1, 1, 7)]


def expected(x):
    return [value - sum(x) / 3 for value in x], sum(x), [2 * value for value in x]


def test_every_run_gives_what_its_own_batch_gives():
    averages = Averages()
    for x in BATCHES:
        assert averages.run(*x) == expected(x)


def test_the_second_run_is_recorded_the_third_compared_and_later_ones_replayed():
    averages, seen = Averages(), []
    for x in BATCHES:
        averages.run(*x)
        seen.append((averages.runs[0], averages.replay.state.name))
    assert seen == [(1, "COMPUTED"), (2, "RECORDED"), (3, "TRUSTED"), (3, "TRUSTED"), (3, "TRUSTED")]


# np.asarray takes the plain array out of a watched one, so a recording never sees what is added.
ESCAPES = {"copied": lambda x: np.array(np.asarray(x)), "added to": lambda x: np.asarray(x) + 1.0}


@pytest.mark.parametrize("escape", ESCAPES)
def test_a_recording_that_gives_anything_else_is_never_replayed(escape):
    averages = Averages(spoil=ESCAPES[escape])
    for x in BATCHES:
        values, *others = expected(x)
        assert averages.run(*x) == ([value + (escape == "added to") for value in values], *others)
    assert averages.runs == [6, 6, 6], "the run that was replayed for comparison was computed once more"
    assert averages.replay.state.name == "NEVER"


def test_the_recorded_batch_over_again_is_no_comparison():
    averages = Averages(spoil=ESCAPES["copied"])
    for x in [BATCHES[0]] * 4 + BATCHES:
        assert averages.run(*x) == expected(x)
    averages = Averages()
    for _ in range(4):
        averages.run(1, 2, 3)
    assert averages.replay.state.name == "RECORDED"
    averages.run(3, 2, 2)
    assert averages.replay.state.name == "TRUSTED"


@pytest.mark.parametrize("escape", [None, *ESCAPES])
def test_the_recorded_batch_over_again_is_compared_with_another_where_there_is_one(escape):
    averages = Averages(ESCAPES.get(escape, lambda x: x), varies=True)
    for x in [BATCHES[0]] * 4 + BATCHES:
        values, *others = expected(x)
        assert averages.run(*x) == ([value + (escape == "added to") for value in values], *others)
    assert averages.replay.state.name == ("NEVER" if escape else "TRUSTED")
    assert averages.runs == ([10, 10, 10] if escape else [4, 4, 4])


def test_results_that_depend_on_no_input_are_not_compared_again_and_again():
    averages = Averages(lambda x: x * 0.0 + 0.0, varies=True)  # without a sign
    averages.compute = lambda notes, compute=averages.compute: (compute(notes), None)[1]
    averages.run = lambda *x: averages.replay.run(
        averages.compute, lambda: [averages.y], one_after_the_other, averages.others
    )
    for _ in range(6):
        averages.run(1, 2, 3)
    assert averages.replay.state.name == "NEVER"
    assert averages.runs == [7, 7, 7], "once a run, and once for the comparison"


def test_values_that_are_not_numbers_agree_with_themselves():
    averages = Averages()
    for number in range(5):
        averages.run(np.nan, 1, number)
    assert averages.runs == [3, 3, 3]


def test_a_shard_that_decides_by_values_runs_every_time():
    averages = Averages(spoil=lambda x: x if x > 0 else x * 1.0)
    for x in BATCHES:
        assert averages.run(*x) == expected(x)
    assert averages.runs == [6, 6, 6], "the run that could not be recorded was made anew"


def test_results_are_plain_arrays():
    averages = Averages()
    for x in BATCHES:
        averages.x[...] = x
        results = averages.replay.run(averages.compute, lambda: [averages.y], one_after_the_other)
        assert type(results["total"]) is np.ndarray


def test_nothing_is_replayed_where_the_environment_says_so(monkeypatch):
    monkeypatch.setenv("XPCNN_REPLAY", "0")
    assert Memory(np, 1).replay("kind", 1) is None
    monkeypatch.setenv("XPCNN_REPLAY", "1")
    assert Memory(np, 1).replay("kind", 1) is not None
