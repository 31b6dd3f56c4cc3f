"""Whatever happens to a rank, the job ends soon and says why."""

import re

import pytest

from tests.mpi.conftest import AT_MOST, told


def seconds(done):
    """How long after the trouble the job was over."""
    return done.ended - float(re.search(r"now ([\d.]+)", done.err)[1])


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_an_error_on_one_rank_ends_all_with_its_message(ranks, tally, rank):
    with tally.case("faults") as case:
        done = ranks(3, "trouble", what="error", rank=rank)
        assert done.code != 0
        assert "RuntimeError: the disk of this rank is gone" in done.err
        assert f"rank {rank}: ended by RuntimeError" in done.err
        assert seconds(done) < AT_MOST
        case.refused()


@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_rank_ends_all(ranks, tally, rank):
    with tally.case("faults") as case:
        done = ranks(3, "trouble", what="kill", rank=rank)
        assert done.code != 0
        assert seconds(done) < AT_MOST
        case.refused()


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_hangs_is_named_and_the_job_ends(ranks, tally, rank):
    with tally.case("faults") as case:
        done = ranks(2, "trouble", what="hang", rank=rank, patience=2.0)
        assert done.code != 0
        assert re.search(rf"rank {1 - rank}: has waited 2 s for rank {rank} at step \d+, epoch \d+", done.err)
        assert seconds(done) < AT_MOST
        case.refused()


@pytest.mark.parametrize(("what", "steps"), [("stop", 7), ("late", 8)])
def test_where_one_is_told_to_stop_all_stop_after_the_same_step(ranks, tally, what, steps):
    with tally.case("faults"):
        found = told(ranks(3, "trouble", what=what, rank=1, patience=5.0))
        assert found[0] == found[1] == found[2]
        assert len(found[0]["steps"]) == steps


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("data", "different data: y.digest is"),
        ("rows", "different data: x.rows is 70 on rank 0 and 60 on rank 2"),
        ("arguments", "different arguments: batch_size is 16 on rank 0 and 32 on rank 2"),
        ("code", "different code: sources is"),
        ("past", "different training progress: epochs is 1 on rank 0 and 0 on rank 1"),
    ],
)
def test_ranks_that_differ_are_refused_and_what_differs_is_named(ranks, tally, what, words):
    with tally.case("faults") as case:
        done = ranks(3, "different", what=what)
        assert done.code != 0
        assert words in done.err
        case.refused()


def test_a_world_of_one_is_refused(ranks, tally):
    with tally.case("faults") as case:
        done = ranks(1, "fit")
        assert done.code != 0
        assert "There is only one process. Start several" in done.err
        case.refused()
