"""``xpcnn info``: the backend of this machine, and a description of a model."""

import os
import re
import sys

import numpy as np
import pytest

import xpcnn
from xpcnn import data, layers
from xpcnn.backend import probe_cupy


def lines(out):
    """The lines of a two-column listing, by name."""
    return {line.split("  ")[0]: line for line in out.splitlines() if not line.startswith(" ")}


class TestMachine:
    def test_it_says_what_computes_and_why(self, run, monkeypatch):
        monkeypatch.setenv("XPCNN_BACKEND", "numpy")
        done = run("info")
        assert (done.code, done.err) == (0, "")
        shown = lines(done.out)
        assert list(shown) == [
            "xpcnn", "python", "numpy", "opencv", "tifffile", "imagecodecs", "pillow-heif", "cupy", "numba",
            "XPCNN_BACKEND", "backend", "precision", "blas", "threads",
        ]  # fmt: skip
        assert shown["numpy"].split()[1] == np.__version__
        assert shown["backend"].endswith("numpy: numpy was requested")
        assert int(shown["threads"].split()[1]) >= 1

    def test_it_says_what_numba_compiles_for_and_where_it_keeps_that(self, run, monkeypatch, tmp_path):
        cache = pytest.importorskip("xpcnn.ops.cpu.cache", exc_type=ImportError)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        cache.folder.cache_clear()
        try:
            shown = lines(run("info").out)["numba"]
        finally:
            cache.folder.cache_clear()
        assert re.search(r"compiles kernels for NumPy's arrays: (128|256|512) bits a vector, kept in .+$", shown)
        assert shown.endswith(str(tmp_path / "xpcnn" / "kernels"))

    def test_without_the_variable_it_is_auto(self, run, monkeypatch):
        monkeypatch.delenv("XPCNN_BACKEND", raising=False)
        shown = lines(run("info").out)
        assert shown["XPCNN_BACKEND"].endswith("not set, so auto")
        assert probe_cupy().seen in shown["backend"]

    def test_a_backend_that_does_not_exist_is_told_and_the_rest_too(self, run, monkeypatch):
        monkeypatch.setenv("XPCNN_BACKEND", "abacus")
        done = run("info")
        assert done.code == 0
        assert "There is no backend 'abacus' in XPCNN_BACKEND" in lines(done.out)["backend"]
        assert "threads" in lines(done.out)

    def test_it_says_what_products_compute_in_or_why_not(self, run, monkeypatch):
        monkeypatch.setenv("XPCNN_BACKEND", "numpy")
        monkeypatch.delenv("XPCNN_PRECISION", raising=False)
        assert lines(run("info").out)["precision"].endswith("  float32")
        monkeypatch.setenv("XPCNN_PRECISION", "tf32")
        done = run("info")
        assert done.code == 0
        assert "in XPCNN_PRECISION, but numpy computes in float32 alone" in lines(done.out)["precision"]

    def test_a_missing_opencv_is_told(self, run, monkeypatch):
        monkeypatch.setitem(sys.modules, "cv2", None)
        data.opencv.load_opencv.cache_clear()
        try:
            done = run("info")
        finally:
            data.opencv.load_opencv.cache_clear()
        assert done.code == 0
        assert "pip install opencv-python-headless" in done.out


class TestCard:
    def test_it_shows_what_the_file_holds(self, run, model):
        done = run("info", model)
        assert (done.code, done.err) == (0, "")
        shown = lines(done.out)
        assert shown["model"].endswith(str(model))
        assert shown["bytes"].endswith(f" {os.path.getsize(model):,}")
        assert int(shown["epochs"].split()[1]) == xpcnn.load(model).epochs
        assert shown["classes"].endswith("  centre, left, right")
        assert shown["images"].endswith("  16x16, in colour, stretch")
        assert shown["made with"].endswith("  24 images, of which it holds digests of 8 bytes")
        assert len(shown["mean"].split(",")) == 3
        assert "Adam" in shown["trained with"]
        assert "conv2d_1" in done.out
        assert done.out.splitlines()[-1].strip().endswith("running statistics")

    def test_a_model_that_was_never_compiled_has_a_short_card(self, run, here):
        xpcnn.Sequential([layers.Flatten(), layers.Dense(2)], input_shape=(1, 4, 4)).save(here / "bare.safetensors")
        done = run("info", "bare.safetensors")
        assert (done.code, done.err) == (0, "")
        assert list(lines(done.out)) == ["model", "bytes", "epochs", "layers"]

    @pytest.mark.parametrize(
        ("per_image", "names"), [(False, ["mean", "std"]), (True, ["normalised"])], ids=["set", "image"]
    )
    def test_it_says_how_images_are_normalised(self, run, here, per_image, names):
        stack = [layers.Flatten(), layers.Dense(2)]
        made = xpcnn.Sequential(stack, input_shape=(1, 4, 6))
        made.preprocessing = data.Preprocessing(data.Decoding(4, 6, 1), (100.0,), (50.0,), per_image)
        made.class_names = ("tab\there", "b")
        made.save(here / "made.safetensors")
        shown = lines(run("info", "made.safetensors").out)
        assert list(shown) == ["model", "bytes", "epochs", "classes", "images", *names, "layers"]
        assert shown["images"].endswith("  6x4, in grey, stretch")
        assert shown["classes"].endswith(r"  tab\there, b")

    def test_names_of_layers_move_no_cursor(self, run, here):
        made = xpcnn.Sequential([layers.Flatten(name="a\x1b[2Jb"), layers.Dense(2)], (1, 2, 2))
        made.save(here / "odd.safetensors")
        done = run("info", "odd.safetensors")
        assert done.code == 0
        assert r"a\x1b[2Jb" in done.out
        assert "\x1b" not in done.out

    def test_what_is_no_model_is_refused(self, refuses, here, trained, photos):
        refuses("info", "nowhere", words=["no model file 'nowhere'", "runs/train/best.safetensors"])
        refuses("info", trained, words=["is a directory", trained / "best.safetensors"])
        refuses("info", photos, words=["is a directory", "runs/train/best.safetensors"])
        refuses("info", photos / "README.txt", words=["README.txt", "not a model file, or is damaged"])

    @pytest.mark.parametrize("kept", [0, 7, 100, -1])
    def test_a_truncated_model_is_refused(self, refuses, here, model, kept):
        (here / "cut.safetensors").write_bytes(model.read_bytes()[:kept])
        refuses("info", "cut.safetensors", words=["cut.safetensors", "damaged"])
