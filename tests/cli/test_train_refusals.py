"""What ``xpcnn train`` refuses, in one line and without leaving anything behind."""

import contextlib
import os

import numpy as np
import pytest

import xpcnn
from tests.cli.conftest import FILES, fill, names, save, truncated_jpeg
from xpcnn import backend
from xpcnn.cli import run_directory


class TestRunDirectory:
    def test_one_that_holds_files_is_refused_and_stays_as_it_is(self, refuses, here):
        (here / "run").mkdir()
        (here / "run" / "thesis.txt").write_text("months of work")
        refuses("train", "--out", "run", words=["'run' already contains files", "--out"])
        assert (here / "run" / "thesis.txt").read_text() == "months of work"

    def test_an_empty_one_is_taken(self, run, here):
        (here / "run").mkdir()
        assert run("train", "--epochs", "1", "--out", "run").code == 0
        assert names(here / "run") == FILES

    def test_one_that_another_process_has_just_taken_is_left_to_it(self, refuses, here):
        fcntl = pytest.importorskip("fcntl")
        (here / "run").mkdir()
        descriptor = os.open(here / "run", os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        refuses("train", "--out", "run", words=["Another process is writing to the run's directory 'run'"])
        os.close(descriptor)

    def test_one_that_another_process_has_used_meanwhile_is_left_to_it(self, refuses, here, monkeypatch):
        (here / "run").mkdir()
        lock = run_directory._locked

        def late(path):
            (path / "args.json").write_text("{}")
            return lock(path)

        monkeypatch.setattr(run_directory, "_locked", late)
        with contextlib.suppress(AssertionError):  # of what has changed in the folder: that is the other process's
            refuses("train", "--out", "run", words=["'run' already contains files"])
        assert names(here / "run") == {"args.json"}

    def test_what_a_killed_process_has_left_half_written_is_no_obstacle(self, run, here):
        (here / "run").mkdir()
        (here / "run" / f".{'0123456789abcdef'}.part").write_bytes(b"half")
        assert run("train", "--epochs", "1", "--out", "run").code == 0
        assert names(here / "run") == FILES

    def test_those_above_it_are_made(self, run, here):
        assert run("train", "--epochs", "1", "--out", os.path.join("a", "b", "run")).code == 0
        assert names(here / "a" / "b" / "run") == FILES

    def test_a_file_of_that_name_is_refused(self, refuses, here):
        (here / "run").write_text("a file")
        refuses("train", "--out", "run", words=["'run' is a file"])

    def test_one_beneath_a_file_cannot_be_made(self, refuses, here):
        (here / "runs").write_text("a file")
        refuses("train", "--out", os.path.join("runs", "x", "y"), words=[os.path.join("runs", "x", "y"), "--out"])
        refuses("train", words=[os.path.join("runs", "train"), "--out"])

    def test_what_was_made_above_one_that_cannot_be_made_goes_again(self, refuses):
        refuses("train", "--out", os.path.join("a", "b" * 300), words=["File name too long"])

    def test_an_empty_one_that_was_there_before_stays_when_the_run_is_refused(self, run, here):
        (here / "run").mkdir()
        assert run("train", "nowhere", "--out", "run").code == 1
        assert names(here) == {"run"}


class TestRefusals:
    def test_an_empty_folder(self, refuses, here):
        (here / "set").mkdir()
        refuses("train", "set", words=["set contains no class folder"])

    def test_one_class(self, refuses, here):
        fill(here / "set", classes=("left",))
        refuses("train", "set", words=["only one class folder, 'left'"])

    def test_an_empty_class(self, refuses, here):
        (fill(here / "set") / "void").mkdir()
        refuses("train", "set", words=[os.path.join("set", "void"), "contains no image"])

    def test_a_class_with_one_image(self, refuses, here):
        fill(fill(here / "set"), classes=("left",), each=1)
        save(here / "set" / "lonely" / "1.png", np.zeros((9, 9), np.uint8))
        refuses("train", "set", words=["'lonely'", "Received: 1"])

    def test_images_of_one_and_the_same_colour(self, refuses, here):
        for width, name in enumerate(("a/1.png", "a/2.png", "b/1.png", "b/2.png"), start=9):
            save(here / "set" / name, np.full((9, width, 3), (10, 120, 200), np.uint8))
        refuses("train", "set", words=["All 2 training images have one and the same colour"])

    def test_a_class_written_otherwise_than_the_model_to_go_on_from_has_it(self, refuses, here, model):
        fill(here / "set", each=3)
        (here / "set" / "left").rename(here / "set" / "Left")
        refuses("train", "set", "--from", model, words=["'Left'", "Did you mean 'left'?"])

    def test_no_image_that_can_be_read(self, refuses, here):
        for name in ("a/1.jpg", "b/1.jpg"):
            truncated_jpeg(here / "set" / name)
        refuses("train", "set", words=["None of the 2 image files could be read", os.path.join("a", "1.jpg")])

    def test_a_missing_folder(self, refuses):
        refuses("train", "nowhere", words=["no folder nowhere"])

    def test_a_file_for_a_folder(self, refuses, here):
        (here / "photos.zip").write_bytes(b"PK")
        refuses("train", "photos.zip", words=["photos.zip is not a folder"])

    def test_mnist_without_its_place(self, refuses, monkeypatch):
        monkeypatch.delenv("XPCNN_DATA", raising=False)
        refuses("train", "mnist", words=["XPCNN_DATA is not set"])

    def test_mnist_that_is_not_there(self, refuses, here, monkeypatch):
        monkeypatch.setenv("XPCNN_DATA", str(here))
        refuses("train", "mnist", words=["train-images-idx3-ubyte", here / "mnist"])

    def test_images_too_small_for_the_network(self, refuses, photos):
        refuses("train", photos, "--image-size", "4", "--model", "blood", words=["'conv2d_1'", "(3, 4, 4)"])

    def test_images_too_large_for_anything(self, refuses):
        refuses("train", "--image-size", "100000", words=["100000 x 100000"])

    def test_a_seed_too_large(self, refuses):
        refuses("train", "--seed", 2**64, words=[2**64])

    def test_patience_without_a_validation_part(self, refuses, photos):
        refuses("train", photos, "--patience", "2", "--validation-fraction", "0", words=["--patience 2"])

    def test_from_a_file_that_is_no_model(self, refuses, here, photos):
        (here / "notes.txt").write_text("notes")
        refuses("train", photos, "--from", "notes.txt", words=["'notes.txt' is not a model file"])
        refuses("train", photos, "--from", "nowhere", words=["no weights and no file 'nowhere'", "efficientnet-lite0"])

    def test_from_a_model_for_arrays(self, refuses, here, photos):
        made = xpcnn.Sequential([xpcnn.layers.Flatten(), xpcnn.layers.Dense(3)], input_shape=(1, 8, 8))
        made.save(here / "made.safetensors")
        refuses("train", photos, "--from", "made.safetensors", words=["takes arrays only"])

    @pytest.mark.parametrize("by", ["--backend", "XPCNN_BACKEND"])
    def test_cupy_without_a_device(self, process, here, by):
        if backend.probe_cupy()[0] is not None:
            pytest.skip("a device computes here")
        done = process("train", "--backend", "cupy") if by == "--backend" else process("train", XPCNN_BACKEND="cupy")
        assert (done.code, done.out) == (1, "")
        assert done.err.count("\n") == 1
        assert done.err.startswith("xpcnn train: The backend 'cupy' was requested")
        assert "cuda12" in done.err
        assert not list(here.iterdir())

    def test_a_backend_that_does_not_exist(self, process, here):
        done = process("train", XPCNN_BACKEND="abacus")
        assert (done.code, done.out) == (1, "")
        assert done.err == (
            "xpcnn train: There is no backend 'abacus' in XPCNN_BACKEND. Use one of: numpy, numba, cupy, auto.\n"
        )
        assert not list(here.iterdir())

    @pytest.mark.filterwarnings("error")
    def test_a_learning_rate_that_explodes_is_told_in_one_line(self, run, here):
        done = run("train", "--lr", "1e30", "--epochs", "1", "--out", "run")
        assert done.code == 1
        assert done.err.count("\n") == 1
        assert "Use a smaller learning rate" in done.err
        weights = xpcnn.load("run/last.safetensors").get_weights()
        assert all(np.isfinite(weight).all() for weight in weights.values())

    def test_a_wrong_path_leaves_nothing_from_a_real_process(self, process, here):
        done = process("train", "nowhere", "--out", "run")
        assert (done.code, done.out) == (1, "")
        assert done.err == (
            "xpcnn train: There is no folder nowhere. Give a folder that contains one folder per class.\n"
        )
        assert not list(here.iterdir())


@pytest.mark.parametrize("options", [["--model", "lenet"], ["--from", "a.safetensors"]])
def test_a_width_of_a_network_that_has_but_one(refuses, options):
    refuses("train", "--width", "2", *options, code=2, words=["--width is for small, medium, tiny", options[0]])
