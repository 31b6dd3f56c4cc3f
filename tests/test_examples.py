"""The examples: on the real data they reach the figures in docs/origins.md, and without data they say so."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name, *arguments, data=""):
    """Run an example in a process of its own and return what it printed."""
    environment = {**os.environ, "XPCNN_DATA": str(data), "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        [sys.executable, EXAMPLES / f"{name}.py", *map(str, arguments)], capture_output=True, text=True, env=environment
    )


NAMES = ["blood_cells", "zero_or_one", "four_small_networks", "full_batch", "homework"]


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) for name in NAMES[:-1]] + NAMES[-1:])
def test_every_example_has_help_and_reports_missing_data_in_one_line(name, tmp_path):
    assert "--epochs" in run(name, "--help").stdout
    done = run(name, "--data", tmp_path / "nothing", "--out", tmp_path)
    assert done.returncode == 1
    assert re.fullmatch(rf"{name}: There is no .*\n", done.stderr)


@pytest.mark.slow
def test_without_data_the_digits_are_used(tmp_path):
    pytest.importorskip("matplotlib")
    done = run("full_batch", "--epochs", 1, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "using the 1,797 bundled digits, enlarged from 8x8 to 28x28" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full_batch_filters.png", "full_batch_first.png"]


@pytest.mark.slow
def test_full_batch_gives_the_losses_of_the_correct_gradient(data_folder, tmp_path):
    printed = run("full_batch", "--out", tmp_path, data=data_folder).stdout
    assert "20 images before training: loss 2.31577, accuracy 15%" in printed
    rows = re.findall(r"^ +\d  (\d\.\d{5})  (\d\.\d{5})", printed, re.MULTILINE)
    assert len(rows) == 6
    assert all(abs(float(ours) - float(right)) <= 1.1e-5 for ours, right in rows)
    assert "accuracy on the 100 training images: 0.83" in printed


@pytest.mark.slow
def test_homework_ends_below_a_hundredth(data_folder, tmp_path):
    printed = run("homework", "--out", tmp_path, data=data_folder).stdout
    assert float(re.search(r"after the last: ([\d.]+)", printed)[1]) < 0.01
