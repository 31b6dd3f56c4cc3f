"""A process killed, interrupted or terminated at any moment, even repeatedly: the run ends as if it had not been."""

import random
import signal
import time

import pytest

from tests.faults.conftest import DIGITS, assert_whole, finish, resumed, start
from xpcnn.training import checkpoints

PARTS = 10
SLOW = pytest.mark.slow


def moment_of(run):
    """How far a run had come when it was broken off."""
    if not run.exists():
        return "before its directory was there"
    if (run / "metrics.json").exists():
        return "at its end"
    if not (run / checkpoints.NAME).exists():
        return "before its first checkpoint"
    return "in its last steps" if checkpoints.read(run).finished else "in the middle"


@SLOW
@pytest.mark.parametrize("part", range(PARTS))
def test_a_run_that_is_killed_at_a_random_moment_ends_with_the_same_bits(
    tmp_path, tally, cases, seed, undisturbed, part
):
    draw = random.Random(1000 * seed + part)

    def kill(*arguments):
        child, (begins, trains) = start("train", *arguments, cwd=tmp_path), undisturbed.seconds
        if draw.random() < 0.1:
            time.sleep(draw.uniform(0, begins))
        else:
            child.stdout.readline()
            time.sleep(draw.uniform(0, 1.1 * trains))
        child.kill()
        child.communicate()

    for number in range(part, cases(4), PARTS):
        run = tmp_path / f"run-{number}"
        kill(*DIGITS, "--out", run)
        with tally.case(f"killed {moment_of(run)}", number):
            run.mkdir(exist_ok=True)
            assert_whole(run)
            if (run / "args.json").exists() and draw.random() < 0.3:  # and once more, while it goes on
                kill("--resume", run)
                assert_whole(run)
            assert resumed(run) == undisturbed.outcome


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=SLOW)])
@pytest.mark.parametrize(
    "word", [pytest.param("images in", marks=SLOW), "epoch 1/", pytest.param("epoch 4/", marks=SLOW)]
)
def test_a_run_that_is_asked_to_stop_can_go_on(tmp_path, tally, expected, number, code, word):
    with tally.case(f"{number.name}, after {word!r}"):
        child = start("train", *DIGITS, "--out", tmp_path / "run", cwd=tmp_path)
        for line in child.stdout:
            if word in line:
                break
        child.send_signal(number)
        done = finish(child)
        if done.code:  # else it came when the run had just ended
            assert done.code == code
            told = done.err or done.out  # on stderr where it did not come in a step
            assert told.endswith(f"; to resume: xpcnn train --resume {tmp_path / 'run'}\n")
        assert_whole(tmp_path / "run")
        assert resumed(tmp_path / "run") == expected


@SLOW
def test_nothing_half_written_is_ever_found_under_its_name(tmp_path, tally):
    run = tmp_path / "run"
    child = start("train", *DIGITS, "--epochs", "20", "--checkpoint-every", "1", "--out", run, cwd=tmp_path)
    looks = 0
    with tally.case("watched while it writes"):
        while child.poll() is None:
            if run.exists():
                assert_whole(run)
                looks += 1
        assert finish(child).code == 0
        assert looks > 20
