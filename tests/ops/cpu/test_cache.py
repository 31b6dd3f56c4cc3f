"""Compiled kernels are kept between processes, in a folder that only their user can write to."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("numba")

COMPUTE = """
import numpy as np
from xpcnn.backend import choose
from xpcnn.ops.activations import relu
from xpcnn.ops.workspace import Workspace
xp = choose("numba").xp
y, _ = relu(xp, np.asarray([[-1.0, 2.0]], np.float32), Workspace(xp))
print(y.tolist())
"""


@pytest.fixture
def compute(tmp_path):
    """Return a function that computes with a kernel in a new process, and returns what it prints and warns of."""

    def run():
        environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
        command = [sys.executable, "-c", COMPUTE]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert done.stdout == "[[0.0, 2.0]]\n"
        return done.stderr

    return run


def kept(tmp_path):
    return sorted((tmp_path / "xpcnn" / "kernels").glob("*.nbc"))


def test_a_kernel_is_compiled_once(compute, tmp_path):
    assert compute() == ""
    first = {path: path.stat().st_mtime_ns for path in kept(tmp_path)}
    assert first
    assert compute() == ""
    assert {path: path.stat().st_mtime_ns for path in kept(tmp_path)} == first
    assert (tmp_path / "xpcnn" / "kernels").stat().st_mode & 0o777 == 0o700


def test_a_damaged_kernel_is_compiled_again(compute, tmp_path):
    compute()
    for path in (tmp_path / "xpcnn" / "kernels").iterdir():
        path.write_bytes(path.read_bytes()[:-20])
    assert compute() == ""


def test_a_folder_that_others_can_write_to_is_not_used(compute, tmp_path):
    folder = tmp_path / "xpcnn" / "kernels"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    said = compute()
    assert "Kernels are compiled in every process" in said
    assert f"others own it or can write to it; run `chmod go-w {folder}`, or remove it" in said
    assert kept(tmp_path) == []


def test_without_a_folder_kernels_are_compiled_in_every_process(compute, tmp_path):
    (tmp_path / "xpcnn").write_text("a file in the way")
    assert "Kernels are compiled in every process" in compute()
