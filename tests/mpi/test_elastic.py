"""``--elastic``: the remaining ranks continue without a lost process."""

import os
import signal
import sys

import pytest

from tests.faults.conftest import outcome
from tests.mpi.conftest import children, read_until, run_line, start

LINE = ["train", "digits", "--epochs", "8", "--checkpoint-every", "5"]


@pytest.mark.parametrize("victim", [0, 1, 2])
def test_the_run_ends_as_if_nothing_had_happened(mpiexec, xpcnn, tmp_path, tally, victim):
    if "--oversubscribe" not in mpiexec:
        pytest.skip("only Open MPI lives on without one of its processes")
    line = [*mpiexec, "--with-ft", "ulfm", "-n", 3, sys.executable, "-m", "xpcnn", *LINE, "--out", "run"]
    with tally.case("elastic"):
        child = start([*line, "--distributed", "--elastic"], tmp_path)
        read_until(child, "epoch 2/")
        os.kill(children(child.pid)[victim], signal.SIGKILL)
        out, err = child.communicate(timeout=60)
        assert "1 of 3 processes lost; 2 continue" in err
        assert "resuming run after step" in out
        assert "model: run" in out
        assert xpcnn(0, *LINE, "--out", "whole").code == 0
        assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")


def test_elastic_alone_is_refused(tmp_path, tally):
    with tally.case("faults") as case:
        done = run_line([sys.executable, "-m", "xpcnn", "train", "--elastic"], tmp_path)
        assert done.code == 2
        assert "--elastic needs --distributed" in done.err
        case.refused()
