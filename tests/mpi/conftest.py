"""Real processes under mpiexec, on this machine."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[2]
#: Where mpiexec lies: beside this Python where it is of a wheel, else where the system has it.
MPIEXEC = shutil.which("mpiexec", path=str(Path(sys.executable).parent)) or shutil.which("mpiexec")
#: Seconds within which a job must be over once one of its ranks is in trouble.
AT_MOST = 10


@pytest.fixture(scope="session")
def mpiexec():
    """The words that start mpiexec."""
    if importlib.util.find_spec("mpi4py") is None or MPIEXEC is None:
        pytest.skip("mpi4py or mpiexec is missing: nox -s mpi installs both")
    version = subprocess.run([MPIEXEC, "--version"], capture_output=True, text=True, check=False)
    open_mpi = "open" in (version.stdout + version.stderr).lower().split("hydra")[0]
    return [MPIEXEC, *(["--allow-run-as-root", "--oversubscribe"] if open_mpi else [])]


def start(line, cwd):
    """Start a command, with one thread for each process."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XPCNN_BACKEND": "numpy", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*map(str, line)], cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def run_line(line, cwd, seconds=90):
    """Run a command to its end: code, out, err, and when it ended."""
    with start(line, cwd) as child:
        try:
            out, err = child.communicate(timeout=seconds)
        except BaseException:
            child.kill()
            raise
    return SimpleNamespace(code=child.returncode, out=out, err=err, ended=time.time())


def read_until(child, beginning):
    """Read what a process prints up to a line that begins so."""
    while not (line := child.stdout.readline()).startswith(beginning):
        assert line, child.communicate()


def words(pid):
    """The command line of a process, nothing where it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]
    except OSError:
        return []


def children(pid):
    """The processes below one that train, in the order of their ranks."""
    done = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False)
    lines = {one: words(one) for one in sorted(map(int, done.stdout.split()))}
    ranks = [one for one, line in lines.items() if b"xpcnn" in line and b"mpiexec" not in line[0]]
    return ranks or [rank for one in lines for rank in children(one)]


@pytest.fixture
def ranks(mpiexec, tmp_path):
    """A function that runs a function of tests.mpi.fits on n ranks."""
    return lambda ranks, name, /, **options: run_line(
        [*mpiexec, "-n", ranks, sys.executable, "-m", "tests.mpi.fits", name, json.dumps(options)], tmp_path
    )


@pytest.fixture
def xpcnn(mpiexec, tmp_path):
    """A function that runs the command, on n ranks or, for 0, as a process alone."""

    def command(n, *arguments, **options):
        start = [*mpiexec, "-n", n] if n else []
        distributed = ["--distributed"] if n else []
        return run_line([*start, sys.executable, "-m", "xpcnn", *arguments, *distributed], tmp_path, **options)

    return command


def told(done):
    """What each rank has told."""
    assert done.code == 0, done.err
    return [json.loads(line) for line in done.out.splitlines() if line.startswith("{")]
