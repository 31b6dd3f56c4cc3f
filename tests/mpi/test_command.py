"""``mpiexec -n 2 xpcnn train … --distributed``."""

import json
import os
import signal
import sys
import time
from contextlib import suppress

import pytest

from tests.cli.conftest import fill
from tests.faults.conftest import outcome
from tests.mpi.conftest import AT_MOST, children, read_until, run_line, start, words
from xpcnn.extras import install_line

DIGITS = ["train", "digits", "--epochs", "3"]


@pytest.mark.parametrize("n", [2, 4])
def test_a_run_leaves_what_one_process_leaves(xpcnn, tmp_path, tally, n):
    with tally.case(f"{n} ranks"):
        one, some = xpcnn(0, *DIGITS, "--out", "one"), xpcnn(n, *DIGITS, "--out", "some")
        assert (one.code, some.code) == (0, 0), some.err
        assert some.out.replace("some/", "one/").splitlines()[-2:] == one.out.splitlines()[-2:]
        assert outcome(tmp_path / "some") == outcome(tmp_path / "one")


@pytest.mark.parametrize("options", [[], ["--cache"]])
def test_a_folder_too(xpcnn, tmp_path, tally, options, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    fill(tmp_path / "photos")
    (tmp_path / "photos" / "left" / "bad.png").write_bytes(b"no image")
    line = ["train", "photos", "--epochs", "2", "--image-size", "16", "--batch-size", "8", *options]
    with tally.case("2 ranks"):
        assert xpcnn(0, *line, "--out", "one").code == 0
        done = xpcnn(2, *line, "--out", "two")
        assert done.code == 0, done.err
        assert "1 skipped" in done.out
        assert outcome(tmp_path / "two") == outcome(tmp_path / "one")


@pytest.mark.parametrize(("before", "after"), [(2, 3), (3, 2), (2, 0)])
def test_a_killed_run_goes_on_with_any_number_of_ranks(mpiexec, xpcnn, tmp_path, tally, before, after):
    line, run = ["train", "digits", "--epochs", "12", "--checkpoint-every", "7"], str(tmp_path / "run")
    with tally.case("resumes"):
        command = [*mpiexec, "-n", before, sys.executable, "-m", "xpcnn", *line, "--out", run, "--distributed"]
        with start(command, tmp_path) as child:
            read_until(child, "epoch 3/")
            ranks = children(child.pid)
            assert len(ranks) == before
            for pid in (*ranks, child.pid):
                with suppress(ProcessLookupError):  # mpiexec ends the others once one has ended
                    os.kill(pid, signal.SIGKILL)
            killed = time.monotonic()
            while any(map(words, ranks)):
                assert time.monotonic() - killed < AT_MOST
                time.sleep(0.01)
        done = xpcnn(after, "train", "--resume", run)
        assert done.code == 0, done.err
        assert f"resuming {run} after step" in done.out
        assert xpcnn(0, *line, "--out", "whole").code == 0
        assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")


def test_an_error_is_told_in_one_line_by_the_first_rank(xpcnn, tally):
    with tally.case("faults") as case:
        done = xpcnn(2, "train", "nowhere")
        assert done.code != 0
        assert "xpcnn: rank 0: There is no folder nowhere." in done.err
        assert "Traceback" not in done.err
        case.refused()


@pytest.mark.parametrize("missing", ["mpi4py", "mpi4py.MPI"])
def test_without_mpi4py_or_an_mpi_it_says_what_to_install(tmp_path, tally, missing):
    code = f"import sys; sys.modules['{missing}'] = None; from xpcnn.cli import main; sys.exit(main(sys.argv[1:]))"
    with tally.case("faults") as case:
        done = run_line([sys.executable, "-c", code, "train", "--distributed"], tmp_path)
        assert done.code == 1
        assert install_line("mpi") in done.err
        assert done.err.count("\n") == 1
        assert os.listdir(tmp_path) == []
        case.refused()


def test_a_world_of_one_is_refused_in_one_line(xpcnn, tally, tmp_path):
    pytest.importorskip("mpi4py")
    with tally.case("faults") as case:
        done = run_line([sys.executable, "-m", "xpcnn", "train", "--distributed"], tmp_path)
        assert (done.code, done.err.count("\n")) == (1, 1)
        assert "There is only one process" in done.err
        case.refused()


def test_fast_sums_alone_are_refused(tmp_path, tally):
    with tally.case("faults") as case:
        done = run_line([sys.executable, "-m", "xpcnn", "train", "--fast-sums"], tmp_path)
        assert done.code == 2
        assert "--fast-sums needs --distributed" in done.err
        case.refused()


def test_all_ranks_train_for_the_epochs_that_fit_into_the_minutes(xpcnn, tmp_path, tally):
    with tally.case("2 ranks"):
        done = xpcnn(2, "train", "digits", "--model", "tiny", "--minutes", "0.05", "--out", "timed")
        assert done.code == 0, done.err
        epochs = str(json.loads((tmp_path / "timed" / "args.json").read_text())["epochs"])
        assert f"--epochs {epochs} in place of --minutes" in done.out
        assert xpcnn(0, "train", "digits", "--model", "tiny", "--epochs", epochs, "--out", "one").code == 0
        assert outcome(tmp_path / "timed") == outcome(tmp_path / "one")
