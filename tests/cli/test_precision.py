"""``xpcnn train --precision``: refused where it cannot compute, recorded, and kept or changed on resuming."""

import json
import sys

import pytest

from tests import strict
from tests.cli.test_resume import QUICK, interrupted
from xpcnn import backend, files


@pytest.fixture
def gpu(monkeypatch):
    """A stand-in for CuPy, as the backend ``cupy``."""
    monkeypatch.setattr(backend, "probe_cupy", lambda: backend.Probe(strict.xp, "a stand-in computes"))
    monkeypatch.setenv("XPCNN_BACKEND", "cupy")


@pytest.fixture(autouse=True)
def unset(monkeypatch):
    monkeypatch.delenv("XPCNN_PRECISION", raising=False)


@pytest.mark.parametrize("precision", ["tf32", "float16"])
@pytest.mark.parametrize("by", ["--precision", "XPCNN_PRECISION"])
def test_the_host_refuses_it_in_one_line(process, here, by, precision):
    line = ("train", "--backend", "numpy")
    done = process(*line, by, precision) if by == "--precision" else process(*line, XPCNN_PRECISION=precision)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith(f"xpcnn train: The precision '{precision}' was requested")
    assert "numpy computes in float32 alone. Use the precision 'float32', or the backend 'cupy'." in done.err
    assert done.err.count("\n") == 1
    assert not list(here.iterdir())


def test_a_run_records_it(run, here, photos):
    assert run("train", photos, *QUICK, "--out", "run").code == 0
    assert json.loads((here / "run" / "args.json").read_bytes())["precision"] == "float32"


@pytest.mark.skipif(sys.platform == "win32", reason="signals are another matter there")
@pytest.mark.usefixtures("as_in_a_terminal")
class TestOnADevice:
    def begin(self, run, photos, *arguments):
        with interrupted(after=3):
            assert run("train", photos, *QUICK, *arguments, "--out", "run").code == 130

    def precision(self, here):
        recorded = json.loads((here / "run" / "args.json").read_bytes())["precision"]
        assert files.load_tensors(here / "run" / "checkpoint.safetensors")[1]["precision"] == recorded
        return recorded

    def test_the_recorded_one_beats_the_environment(self, gpu, run, here, photos, monkeypatch):
        self.begin(run, photos, "--precision", "tf32")
        assert self.precision(here) == "tf32"
        monkeypatch.setenv("XPCNN_PRECISION", "bfloat16")
        done = run("train", "--resume", "run")
        assert (done.code, self.precision(here)) == (0, "tf32")
        assert "bit-identical" not in done.err

    def test_the_environment_chooses_it_for_a_new_run(self, gpu, run, here, photos, monkeypatch):
        monkeypatch.setenv("XPCNN_PRECISION", "bfloat16")
        self.begin(run, photos)
        assert self.precision(here) == "bfloat16"

    def test_the_description_of_the_machine_says_what_computes(self, gpu, run, here, monkeypatch):
        monkeypatch.setenv("XPCNN_PRECISION", "float16")
        assert [line for line in run("info").out.splitlines() if line.split() == ["precision", "float16"]]

    def test_another_one_given_on_resuming_goes_on_and_says_that_bits_differ(self, gpu, run, here, photos):
        self.begin(run, photos)
        done = run("train", "--resume", "run", "--precision", "tf32")
        assert (done.code, self.precision(here)) == (0, "tf32")
        assert "the run was computed in float32 and goes on in tf32: its results are not bit-identical" in done.err

    def test_float16_goes_on_with_its_loss_scale_or_in_another_precision(self, gpu, run, here, photos):
        self.begin(run, photos, "--precision", "float16")
        assert self.precision(here) == "float16"
        checkpoint = here / "run" / "checkpoint.safetensors"
        assert files.load_tensors(checkpoint)[1]["loss_scale"]["scale"] == 65536
        done = run("train", "--resume", "run", "--precision", "bfloat16")
        assert (done.code, self.precision(here)) == (0, "bfloat16")
        assert "computed in float16 and goes on in bfloat16: its results are not bit-identical" in done.err
        assert files.load_tensors(checkpoint)[1]["loss_scale"] is None
        assert "float16" in (here / "run" / "report.html").read_text(encoding="utf-8")

    def test_folds_keep_it_too(self, gpu, run, here, photos, monkeypatch):
        monkeypatch.setenv("XPCNN_PRECISION", "bfloat16")
        with interrupted(after=3):
            assert run("train", photos, *QUICK, "--folds", "2", "--out", "run").code == 130
        monkeypatch.delenv("XPCNN_PRECISION")
        assert run("train", "--resume", "run").code == 0
        for path in ("args.json", "fold-1/args.json", "fold-2/args.json"):
            assert json.loads((here / "run" / path).read_bytes())["precision"] == "bfloat16", path

    def test_a_host_says_how_to_go_on(self, gpu, run, here, photos):
        self.begin(run, photos, "--precision", "tf32")
        done = run("train", "--resume", "run", "--backend", "numpy")
        assert (done.code, done.err.count("\n")) == (1, 1)
        assert "Use the precision 'float32'" in done.err
        assert run("train", "--resume", "run", "--backend", "numpy", "--precision", "float32").code == 0
