"""The comparison with PyTorch on a GPU, from end to end on the host: small networks, and CuPy's stand-ins."""

import json
import struct
import time

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from benchmarks.gpu import __main__ as command  # noqa: E402 (it needs PyTorch)
from benchmarks.gpu import sides, startup, steps  # noqa: E402
from benchmarks.gpu.device import Gpu  # noqa: E402
from benchmarks.gpu.run import Run  # noqa: E402
from benchmarks.gpu.twin import twin  # noqa: E402
from benchmarks.networks import NETWORKS  # noqa: E402
from tests import kernels, strict  # noqa: E402
from xpcnn import Sequential, layers  # noqa: E402

SHAPES = {
    "blood": (1, 16, 16), "blood-unpooled": (1, 12, 12), "mnist": (1, 8, 8), "cifar": (3, 8, 8),
    "batchnorm": (3, 16, 16),
}  # fmt: skip
RESNET, LITE = "resnet-18, 64 px", "efficientnet-lite0, 224 px"


class Host(Gpu):
    """The host in place of a GPU: its clock, and calls in place of PyTorch's graphs."""

    backend, torch_device = "numpy", "cpu"

    def __init__(self, xp):
        self.xp = xp

    def ours(self, call, n):
        before = time.perf_counter()
        for _ in range(n):
            call()
        return (time.perf_counter() - before) / n * 1e3

    theirs = ours

    def graph(self, work):
        return work

    def compiled(self, module):
        return torch.compile(module, backend="eager")

    def tidy(self):
        pass

    def describe(self):
        return {"card": "none"}


@pytest.fixture
def small(monkeypatch):
    """All networks, batches and turns as small as they can be."""
    for name, shape in SHAPES.items():
        monkeypatch.setitem(NETWORKS, name, (shape, 4, NETWORKS[name][2]))
    monkeypatch.setattr(sides, "PRESETS", {name: (preset, (3, 64, 64)) for name, (preset, _) in sides.PRESETS.items()})
    monkeypatch.setattr(steps, "BATCHES", (4,))
    monkeypatch.setattr(steps, "TURN", 0.0)
    monkeypatch.setattr(steps, "TURNS", 1)


@pytest.fixture
def few(small, monkeypatch):
    """Two of the networks, and presets that are quick too."""
    for name in SHAPES.keys() - {"mnist", "batchnorm"}:
        monkeypatch.delitem(NETWORKS, name)
    monkeypatch.setattr(sides, "PRESETS", {RESNET: ("blood", (1, 16, 16)), LITE: ("blood", (1, 16, 16))})
    monkeypatch.setattr(steps, "OF_PRESETS", ((RESNET, 2, "train", ("bfloat16",)), (LITE, 2, "predict", ("tf32",))))
    monkeypatch.setattr(startup, "ACCURACY", 0.0)
    monkeypatch.setattr(startup, "LEARNERS", ("tiny",))


@pytest.fixture
def mnist(tmp_path):
    """A folder with a few images in MNIST's files."""
    (tmp_path / "mnist").mkdir()
    for part, n in (("train", 12), ("t10k", 4)):
        images, labels = np.zeros((n, 28, 28), np.uint8), (np.arange(n) % 10).astype(np.uint8)
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
            (tmp_path / "mnist" / f"{part}-{kind}-ubyte").write_bytes(header + array.tobytes())
    return tmp_path


def test_every_part_runs_and_is_kept(few, mnist, tmp_path, capsys):
    command.main(["--data", str(mnist), "--json", str(tmp_path / "all.json")], Host(strict.xp))
    results = json.loads((tmp_path / "all.json").read_text())
    assert results["left_out"] == []
    counts = {part: len(results[part]) for part in command.PARTS}
    assert counts == {"train": 6, "presets": 2, "start": 2, "mnist": 2, "predict": 6, "compile": 4}
    for row in results["train"] + results["predict"] + results["presets"] + results["compile"]:
        formats = {name.removeprefix("compiled, ") for name in row["ms"]} - {"xpcnn"}
        assert formats <= {*sides.FORMATS}
        assert len(formats) == (1 if row in results["compile"] else 2)
        assert row["captured"] or row["network"] == "mnist"  # here dropout draws its masks on the host
        assert row["difference"] is None or row["difference"] < 0.1, row
    assert [target["met"] for target in results["targets"][:6]] == [None] * 6, "of other batches"
    printed = capsys.readouterr().out
    assert printed.count("xpcnn's graph was not captured") == 5
    assert all(target["what"] in printed for target in results["targets"])


@pytest.mark.parametrize("name", [*SHAPES, RESNET, LITE])
def test_both_sides_compute_the_same(small, name):
    assert steps.agreement(Host(np), name) < steps.AGREEMENT


def test_both_compute_in_the_precision_asked_for(small):
    if kernels.COMPILER is None:
        pytest.skip("there is no C++ compiler for the shim")
    works = [steps.Work("blood", "train", 4, precision) for precision in steps.PRECISIONS]
    differs = {work.precision: steps.compare(Host(kernels.xp), work, [*sides.FORMATS])["difference"] for work in works}
    assert differs["float32"] < 1e-6
    assert 1e-6 < differs["tf32"] < 1e-2, "where PyTorch's processor has no TF32"
    assert 1e-6 < differs["bfloat16"] < 3e-2


def test_pytorch_is_compiled_in_the_format_that_was_faster():
    work = steps.Work("cifar", "train", 32, "tf32")
    row = work._asdict() | {"ms": {"xpcnn": 0.1, "channels first": 1.0, "channels last": 2.0}}
    other = work._asdict() | {
        "precision": "bfloat16",
        "ms": {"xpcnn": 0.1, "channels first": 2.0, "channels last": 1.0},
    }
    assert steps.faster_format([other, row], work) == "channels first"
    assert steps.faster_format([other], work) == "channels last"


def test_other_sides_are_not_compared(small, monkeypatch):
    monkeypatch.setattr(steps, "AGREEMENT", 0.0)
    with pytest.raises(SystemExit, match=r"the two sides do not agree on \w+ "):
        command.main(["--only", "train"], Host(np))


def test_after_the_deadline_nothing_begins(few):
    run = Run(Host(strict.xp), seconds=-1.0)
    steps.train(run)
    assert run.results == {
        "left_out": [f"train: {name}, train, batch 4, {p}: no time" for p in steps.PRECISIONS for name in NETWORKS]
    }


def test_what_fails_is_named_and_the_rest_goes_on(few, monkeypatch):
    monkeypatch.setitem(NETWORKS, "mnist", ((1, 3, 3), 4, NETWORKS["mnist"][2]))
    run = Run(Host(strict.xp), seconds=1000.0)
    steps.predict(run)
    assert len(run.results["left_out"]) == 3
    assert all(line.startswith("predict: mnist, predict, batch 4, ") for line in run.results["left_out"])
    assert len(run.results["predict"]) == 3


def test_without_data_mnist_is_left_out():
    run = Run(Host(np), seconds=1000.0)
    startup.mnist(run)
    assert run.results["left_out"] == ["mnist: no data: give --data FOLDER, which contains mnist/"]


def test_a_fresh_process_that_fails_says_why(monkeypatch, tmp_path):
    with pytest.raises(RuntimeError, match="no backend 'nothing'"):
        startup.first_epoch("nothing", str(tmp_path), "empty")


def test_a_layer_without_a_twin_is_refused():
    model = Sequential([layers.MinPool2D(2), layers.Flatten(), layers.Dense(2)], (1, 4, 4), xp="numpy")
    with pytest.raises(ValueError, match=r"MinPool2D.* has no PyTorch module here"):
        twin(model)
