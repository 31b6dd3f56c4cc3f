"""Real processes that train, and what their run directories must contain at any moment."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest

from tests.cli.conftest import FILES, from_here
from xpcnn import files

#: Ten epochs of 21 steps of the smallest network, and a checkpoint every 7: a second, in which much is written.
DIGITS = ["digits", "--model", "tiny", "--epochs", "10", "--checkpoint-every", "7", "--backend", "numpy"]

if sys.platform == "win32":
    collect_ignore_glob = ["test_*.py"]  # signals and limits are another matter there


def start(*arguments, cwd, **options):
    """Start ``xpcnn`` in a process of its own."""
    line, environment = from_here(arguments)
    environment |= options.pop("environment", {})
    return subprocess.Popen(
        line, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def finish(child, seconds=90):
    """Wait for a process: code, out, err."""
    out, err = child.communicate(timeout=seconds)
    return SimpleNamespace(code=child.returncode, out=out, err=err)


def xpcnn(*arguments, cwd, **options):
    """Run ``xpcnn`` to its end: code, out, err."""
    return finish(start(*arguments, cwd=cwd, **options))


def wait_for(path, child):
    """Wait until a process has written a file."""
    while not path.exists():
        assert child.poll() is None, finish(child)
        time.sleep(0.01)


def assert_whole(run):
    """Whatever stands under its final name can be read to its end."""
    for path in run.iterdir():
        if files.is_part(path):
            continue
        content = path.read_bytes()
        assert path.name in FILES, path
        if path.suffix == ".safetensors":
            files.load_tensors(path)
        elif path.suffix == ".json":
            json.loads(content)
        elif path.suffix == ".html":
            assert content.endswith(b"</html>\n")
        else:
            assert content.endswith(b"\n")
            table = list(csv.reader(content.decode().splitlines()))
            assert len({len(row) for row in table}) == 1


def outcome(run):
    """What a run has come to, bit for bit, without what the clock decides."""
    found = {}
    for path in sorted(run.iterdir()):
        if path.name == "history.csv":
            found[path.name] = [line.rsplit(",", 1)[0] for line in path.read_text().splitlines()]
        elif path.name == "checkpoint.safetensors":
            tensors, _ = files.load_tensors(path)
            found[path.name] = {
                name: array.tobytes() for name, array in tensors.items() if name not in ("record", "history")
            }
        elif path.name not in ("args.json", "report.html"):
            found[path.name] = path.read_bytes()
    return found


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory):
    """A run on the digits to which nothing happens, and how many seconds it takes until it trains, and from then on."""
    here, times = tmp_path_factory.mktemp("undisturbed"), [time.perf_counter()]
    child = start("train", *DIGITS, "--out", "run", cwd=here)
    child.stdout.readline()
    times.append(time.perf_counter())
    done = finish(child)
    times.append(time.perf_counter())
    assert done.code == 0, done.err
    return SimpleNamespace(outcome=outcome(here / "run"), seconds=np.diff(times).tolist())


@pytest.fixture
def expected(undisturbed):
    """What the digits come to when nothing happens."""
    return undisturbed.outcome


@pytest.fixture(autouse=True)
def as_in_a_terminal():
    """Ctrl-C reaches a child also where the tests run in the background, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def resumed(run, *arguments):
    """Resume a run, or begin it again where nothing came into it, and return what it came to."""
    again = ["--resume", run] if any(name in FILES for name in os.listdir(run)) else [*DIGITS, "--out", run]
    done = xpcnn("train", *again, *arguments, cwd=run.parent)
    assert (done.code, done.err) == (0, ""), done
    assert {path.name for path in run.iterdir()} == FILES
    return outcome(run)
