"""The comparison on a GPU: its targets and its command line; ``tests/interop`` runs it from end to end."""

import os
import subprocess
import sys

import pytest

from benchmarks.gpu.__main__ import PARTS, options_of
from benchmarks.gpu.targets import show, targets

NETWORKS = ("blood", "cifar")


def row(network, batch, precision, theirs, ours=1.0, task="train"):
    ms = {"xpcnn": ours, "channels first": theirs, "channels last": 2 * theirs}
    return {
        "network": network, "task": task, "batch": batch, "precision": precision, "ms": ms, "ratio": theirs / ours,
    }  # fmt: skip


def found(**results):
    return {target.what: target for target in targets(results, NETWORKS)}


RATIOS = "five networks, a step at 512, tf32, PyTorch / xpcnn"


@pytest.mark.parametrize(
    ("blood", "cifar", "met", "says"),
    [
        (1.2, 1.3, True, "blood 1.20, cifar 1.30"),
        (1.2, 1.19, False, "blood 1.20, cifar 1.19"),
        (1.3, None, None, "blood 1.30, cifar -"),
        (1.1, None, False, "blood 1.10, cifar -"),
    ],
)
def test_every_network_has_to_reach_the_ratio(blood, cifar, met, says):
    ratios = {"blood": blood, "cifar": cifar}
    rows = [row(name, 512, "tf32", ratio) for name, ratio in ratios.items() if ratio]
    others = [row("cifar", 512, "float32", 0.5), row("cifar", 128, "tf32", 0.5)]
    target = found(train=rows + others, predict=[row("cifar", 512, "tf32", 0.5, task="predict")])[RATIOS]
    assert (target.met, target.found, target.wanted) == (met, says, ">= 1.2")


def test_what_pytorch_compiles_counts_where_it_is_faster():
    rows = [row(name, 32, "bfloat16", 2.0) for name in NETWORKS]
    what = "five networks, a step at 32, bfloat16, PyTorch / xpcnn"
    assert found(train=rows)[what].met
    assert not found(train=rows, compile=[row("blood", 32, "bfloat16", 1.4)])[what].met


def test_the_other_targets():
    some = found(
        train=[row("cifar", 512, "tf32", 3.0, ours=1.25)],
        presets=[row("resnet-18, 64 px", 128, "bfloat16", 1.05)],
        mnist=[
            {"reached": False, "seconds": 0.1}, {"reached": True, "seconds": 0.9}, {"reached": True, "seconds": 1.2},
        ],
        start=[{"cache": "empty", "seconds": 2.5}, {"cache": "full", "seconds": 1.5}],
    )  # fmt: skip
    verdicts = {what: (target.found, target.met) for what, target in some.items() if not what.startswith("five")}
    assert verdicts == {
        "ResNet-18, 64 px, a step at 128, bfloat16, PyTorch / xpcnn": ("1.05", True),
        "cifar, a step at 512, tf32, ms": ("1.25", False),
        "MNIST to 98.5 %, s": ("0.90", True),
        "a process until the first epoch of digits ends, s": ("2.50", False),
    }


def test_an_accuracy_that_is_not_reached_is_a_target_missed(capsys):
    some = found(mnist=[{"reached": False, "seconds": 0.1}])
    assert (some["MNIST to 98.5 %, s"].found, some["MNIST to 98.5 %, s"].met) == ("not reached", False)
    show([*some.values()])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines if "MISSED" in line] == ["MNIST to 98.5 %, s"]
    assert sum("not measured" in line for line in lines) == len(some) - 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--only", "train,trian"], f"there is no part 'trian'. Parts: {', '.join(PARTS)}."),
        (["--data", "nowhere"], "nowhere contains no folder mnist: give the folder that does, or leave --data out."),
        (["--json", "nowhere/all.json"], "the folder of nowhere/all.json does not exist: create it first."),
        (["--fast"], "unrecognized arguments: --fast"),
    ],
)
def test_what_cannot_be_is_one_line(arguments, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        options_of(arguments)
    assert end.value.code == f"benchmarks.gpu: {says}"


def test_parts_are_chosen_by_name(monkeypatch):
    monkeypatch.delenv("XPCNN_DATA", raising=False)
    assert options_of([]).only == [*PARTS]
    assert options_of(["--only", "mnist,train"]).only == ["mnist", "train"]


def test_without_a_gpu_it_says_so_in_one_line():
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "XPCNN_DATA": "", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu"], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, len(done.stderr.strip().splitlines())) == (1, "", 1), done.stderr
    assert done.stderr.startswith("benchmarks.gpu: ")
