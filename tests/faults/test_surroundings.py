"""Other runs, images that change and clocks that jump: none of them changes the result of a run."""

import shutil
import time

import numpy as np
import pytest

from tests.cli.conftest import fill, from_here, names, picture, save
from tests.faults.conftest import DIGITS, assert_whole, finish, outcome, start, wait_for, xpcnn
from xpcnn import data

FOLDER = ["cells", "--epochs", "4", "--batch-size", "4", "--image-size", "16", "--backend", "numpy"]


@pytest.mark.slow
def test_runs_that_start_at_once_in_one_place_each_get_a_directory_of_their_own(tmp_path, tally, expected):
    children = [start("train", *DIGITS, cwd=tmp_path) for _ in range(4)]
    results = [finish(child) for child in children]
    assert names(tmp_path / "runs") == {"train", "train-2", "train-3", "train-4"}
    for done, run in zip(results, sorted((tmp_path / "runs").iterdir()), strict=True):
        with tally.case("four runs at once", run.name):
            assert done.code == 0
            assert outcome(run) == expected


@pytest.mark.slow
def test_of_runs_that_start_at_once_in_one_directory_one_is_made(tmp_path, tally, expected):
    children = [start("train", *DIGITS, "--out", "run", cwd=tmp_path) for _ in range(3)]
    results = [finish(child) for child in children]
    assert sorted(done.code for done in results) == [0, 1, 1]
    for done in results:
        with tally.case("one directory for three") as case:
            if done.code:
                assert done.err.count("\n") == 1
                assert "Another process is writing to" in done.err or "already contains files" in done.err
                case.refused()
            else:
                assert outcome(tmp_path / "run") == expected


def test_a_run_that_is_going_on_is_not_resumed_beside_it(tmp_path, tally):
    child = start("train", *DIGITS, "--epochs", "100000", "--out", "run", cwd=tmp_path)
    wait_for(tmp_path / "run" / "checkpoint.safetensors", child)
    with tally.case("resumed while it goes on") as case:
        done = xpcnn("train", "--resume", "run", cwd=tmp_path)
        assert done.code == 1
        assert done.err.startswith("xpcnn train: Another process is writing to the run's directory 'run'.")
        case.refused()
    child.terminate()
    assert finish(child).code == 143


@pytest.mark.slow
@pytest.mark.parametrize("change", ["disappears", "changes", "is new"])
def test_an_image_that_is_not_the_same_any_more_leaves_the_run_alone_and_is_named_when_it_goes_on(
    tmp_path, tally, change
):
    fill(tmp_path / "cells", each=8)
    shutil.copytree(tmp_path / "cells", tmp_path / "kept")
    assert xpcnn("train", *FOLDER, "--out", "whole", cwd=tmp_path).code == 0
    with tally.case(f"an image that {change} during the run"):
        child = start("train", *FOLDER, "--epochs", "100000", "--out", "run", cwd=tmp_path)
        wait_for(tmp_path / "run" / "checkpoint.safetensors", child)
        path = tmp_path / "cells" / "left" / "left 0.png"
        if change == "disappears":
            path.unlink()
        else:
            save(path if change == "changes" else path.with_name("another.png"), picture("right", 20, 20, True, 5))
        epochs = (tmp_path / "run" / "history.csv").read_text().count("\n")
        while (tmp_path / "run" / "history.csv").read_text().count("\n") < epochs + 5:
            assert child.poll() is None, "the run ended"
            time.sleep(0.01)
        child.kill()
        child.communicate()
        assert_whole(tmp_path / "run")
    with tally.case(f"an image that {change}, when the run goes on") as case:
        done = xpcnn("train", "--resume", "run", cwd=tmp_path)
        name = {"disappears": "missing", "changes": "changed", "is new": "new"}[change]
        assert (done.code, done.err.count("\n")) == (1, 1)
        assert f"1 {name}, the first 'left/" in done.err
        case.refused()


def test_an_image_that_disappears_while_images_are_read_is_skipped_and_named(tmp_path, tally):
    fill(tmp_path / "cells", each=8)
    with tally.case("an image that disappears while images are read"):
        found = data.scan(tmp_path / "cells")
        gone = tmp_path / "cells" / "right" / "right 3.png"
        gone.unlink()
        loaded = data.load(found, data.Decoding(16, 16, 3))
        assert [path for path, _ in loaded.skipped] == [gone]
        assert len(loaded.y) == 23


JUMPS = """
import itertools, time
open("patched", "w").close()
real, moves = time.time, itertools.cycle([0, 4e8, -8e8, 3600, -1e9])
time.time = lambda: real() + next(moves)
"""


@pytest.mark.slow
def test_a_clock_that_jumps_by_years_changes_nothing(tmp_path, tally, expected):
    (tmp_path / "patch").mkdir()
    (tmp_path / "patch" / "sitecustomize.py").write_text(JUMPS)
    _, environment = from_here([])
    path = f"{tmp_path / 'patch'}:{environment['PYTHONPATH']}"
    with tally.case("a clock that jumps"):
        done = xpcnn(
            "train", *DIGITS, "--checkpoint-every", "1m", "--out", "run", cwd=tmp_path, environment={"PYTHONPATH": path}
        )
        assert (done.code, done.err) == (0, "")
        assert (tmp_path / "patched").exists()
        assert outcome(tmp_path / "run") == expected
        seconds = [float(line.rsplit(",", 1)[1]) for line in (tmp_path / "run" / "history.csv").read_text().split()[1:]]
        assert all(0 <= value < 60 for value in seconds)
        assert np.isfinite(seconds).all()
