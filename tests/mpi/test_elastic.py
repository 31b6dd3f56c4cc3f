"""``--elastic``: those that are left go on without a process that is lost."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.conftest import outcome
from tests.mpi.conftest import ROOT

LINE = ["train", "digits", "--epochs", "8", "--checkpoint-every", "5"]


def children(child):
    """The processes that train, in the order of their ranks."""
    found = subprocess.run(["pgrep", "-P", str(child.pid)], capture_output=True, text=True, check=False).stdout.split()
    lines = {pid: Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0") for pid in found}
    ranks = [int(pid) for pid, words in lines.items() if b"xpcnn" in words and b"mpiexec" not in words[0]]
    return sorted(ranks) or [pid for parent in found for pid in children(type("Child", (), {"pid": parent}))]


@pytest.mark.parametrize("victim", [0, 1, 2])
def test_the_run_ends_as_if_nothing_had_happened(mpiexec, xpcnn, tmp_path, tally, victim):
    if "--oversubscribe" not in mpiexec:
        pytest.skip("only Open MPI lives on without one of its processes")
    words = [*mpiexec, "--with-ft", "ulfm", "-n", "3", sys.executable, "-m", "xpcnn", *LINE]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XPCNN_BACKEND": "numpy"}
    with tally.case("elastic"):
        child = subprocess.Popen(
            [*words, "--out", "run", "--distributed", "--elastic"],
            cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        while not (seen := child.stdout.readline()).startswith("epoch 2/"):
            assert seen, child.communicate()
        os.kill(children(child)[victim], signal.SIGKILL)
        out, err = child.communicate(timeout=60)
        assert "1 of 3 processes lost; 2 go on" in err
        assert "going on with run after step" in out
        assert "model: run" in out
        assert xpcnn(0, *LINE, "--out", "whole").code == 0
        assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")


def test_elastic_alone_is_refused(tmp_path, tally):
    from tests.mpi.conftest import run_line

    with tally.case("faults") as case:
        done = run_line([sys.executable, "-m", "xpcnn", "train", "--elastic"], tmp_path)
        assert done.code == 2
        assert "--elastic is for --distributed" in done.err
        case.refused()
