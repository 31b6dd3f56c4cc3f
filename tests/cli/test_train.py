"""``xpcnn train``: from a set of images to the directory of a run."""

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import xpcnn
from tests.cli.conftest import CLASSES, FILES, fill, names, rows, save
from xpcnn import backend, recipe
from xpcnn.cli import main, train_arguments
from xpcnn.data.digests import digest
from xpcnn.metrics import wilson_interval
from xpcnn.model import Sequential
from xpcnn.report import advice

QUICK = ["--epochs", "2", "--image-size", "8"]
#: A network without running statistics, at a rate that changes nothing: no epoch is better than the first.
STANDSTILL = ["--model", "blood", "--image-size", "16", "--lr", "1e-12"]


def read_json(path):
    return json.loads(path.read_text(encoding="utf-8"))


def sizes(run):
    """How many images are in each part, and no image twice."""
    table = rows(run / "parts.csv")
    assert len({row["image"] for row in table}) == len(table)
    return {part: sum(row["part"] == part for row in table) for part in ("train", "validation", "test")}


class TestDigits:
    def test_without_any_argument_it_learns_the_bundled_digits(self, process, here):
        done = process("train", "--epochs", "3")
        assert done.code == 0
        assert done.err == ""  # a progress bar only for a terminal
        first, *epochs, test, model = done.out.splitlines()
        assert first == "1797 images in 10 classes: 1295 to train, 143 to validate, 359 to test; seed 0"
        assert [line.split()[1] for line in epochs] == ["1/3", "2/3", "3/3"]
        assert model == f"model: {os.path.join('runs', 'train', 'best.safetensors')}"
        run = here / "runs" / "train"
        assert names(run) == FILES
        figures = read_json(run / "metrics.json")["test"]
        accuracy, (low, high) = figures["accuracy"], figures["accuracy_95"]
        assert test.startswith(f"test accuracy {accuracy:.4f} (95 %: {low:.4f} to {high:.4f}), loss ")
        assert (low, high) == wilson_interval(round(accuracy * 359), 359)
        assert accuracy > 0.8

    def test_the_next_run_gets_the_next_name(self, run, here):
        for _ in range(3):
            assert run("train", "--model", "tiny", "--epochs", "1").code == 0
        assert names(here / "runs") == {"train", "train-2", "train-3"}

    @pytest.mark.parametrize(
        ("options", "shape"),
        [([], (1, 8, 8)), (["--color"], (3, 8, 8)), (["--image-size", "12"], (1, 12, 12))],
        ids=["as they are", "colour", "larger"],
    )
    def test_size_and_channels_can_be_chosen(self, run, here, options, shape):
        assert run("train", "digits", "--model", "tiny", "--epochs", "1", "--out", "run", *options).code == 0
        assert xpcnn.load(here / "run" / "best.safetensors").input_shape == shape


class TestMNIST:
    def test_its_own_test_set_measures(self, run, here, monkeypatch):
        monkeypatch.setenv("XPCNN_DATA", str(here))
        (here / "mnist").mkdir()
        for name, n in (("train", 60), ("t10k", 20)):
            pixels, labels = os.urandom(n * 28 * 28), bytes(number % 10 for number in range(n))
            images = struct.pack(">HBB3I", 0, 8, 3, n, 28, 28) + pixels
            (here / "mnist" / f"{name}-images-idx3-ubyte").write_bytes(images)
            (here / "mnist" / f"{name}-labels-idx1-ubyte").write_bytes(struct.pack(">HBBI", 0, 8, 1, n) + labels)
        done = run("train", "mnist", "--epochs", "1", "--out", "run")
        assert done.code == 0
        assert "80 images in 10 classes: 50 to train, 10 to validate, 20 to test" in done.out
        assert [row["image"] for row in rows(here / "run" / "parts.csv") if row["part"] == "test"] == [
            str(number) for number in range(60, 80)
        ]
        done = run("evaluate", "run/best.safetensors", "mnist", "--format", "json")
        assert json.loads(done.out)["count"] == 20


class TestFolder:
    def test_the_run_directory_says_what_was_done(self, trained, photos):
        assert names(trained) == FILES
        arguments = read_json(trained / "args.json")
        assert arguments["data"] == str(photos)
        assert (arguments["epochs"], arguments["lr"], arguments["seed"]) == (12, 0.02, 0)
        assert arguments["classes"] == list(CLASSES)
        assert arguments["computed_by"] == backend.choose().xp.__name__
        assert arguments["version"] == xpcnn.__version__

    def test_a_short_run_leaves_numba_alone_where_it_is_installed(self, photos, tmp_path):
        check = "import sys; from xpcnn.cli import main; main(sys.argv[1:]); assert 'numba' not in sys.modules"
        command = [sys.executable, "-c", check, "train", str(photos), *QUICK, "--out", str(tmp_path / "run")]
        subprocess.run(command, env={**os.environ, "XPCNN_BACKEND": "auto"}, check=True, capture_output=True)

    def test_every_epoch_stands_in_the_history(self, trained):
        history = rows(trained / "history.csv")
        assert list(history[0]) == ["epoch", "loss", "accuracy", "val_loss", "val_accuracy", "lr", "seconds"]
        assert [row["epoch"] for row in history] == [str(epoch) for epoch in range(1, 13)]
        rates = [float(row["lr"]) for row in history]
        peak = rates.index(max(rates))
        assert rates == [*sorted(rates[:peak]), *sorted(rates[peak:], reverse=True)]
        assert 0 < peak < 6

    def test_every_image_is_in_one_part(self, trained, photos):
        images = {str(path) for path in photos.glob("*/*") if path.suffix in (".png", ".jpg", ".bmp")}
        table = rows(trained / "parts.csv")
        assert {row["image"] for row in table} == images - {str(photos / "left" / "half.jpg")}
        assert all(row["class"] == row["image"].split(os.sep)[-2] for row in table)
        assert sizes(trained) == {"train": 18, "validation": 6, "test": 6}

    def test_what_could_not_be_read_is_listed_and_counted(self, trained, photos, run):
        (skipped,) = rows(trained / "skipped.csv")
        assert skipped["path"] == str(photos / "left" / "half.jpg")
        assert "truncated" in skipped["reason"]
        done = run("train", photos, *QUICK, "--out", "again")
        assert done.out.startswith(f"30 images in 3 classes, 1 skipped ({os.path.join('again', 'skipped.csv')}): ")

    def test_best_is_the_epoch_with_the_least_validation_loss(self, trained):
        found = [float(row["val_loss"]) for row in rows(trained / "history.csv")]
        assert xpcnn.load(trained / "best.safetensors").epochs == found.index(min(found)) + 1
        assert xpcnn.load(trained / "last.safetensors").epochs == 12

    def test_the_best_model_is_calibrated_on_the_validation_part(self, trained):
        model = xpcnn.load(trained / "best.safetensors")
        metrics = read_json(trained / "metrics.json")
        assert metrics["temperature"] == model.temperature != 1
        assert set(metrics["validation"]) == {"loss", "accuracy", "accuracy_95", "calibration_error"}
        assert 0 <= metrics["test"]["calibration_error"] <= 1
        assert xpcnn.load(trained / "last.safetensors").temperature == 1

    def test_the_test_part_is_measured_once_and_on_the_best_model(self, run, photos, monkeypatch):
        measured = []
        evaluate = Sequential.evaluate

        def note(model, x, *others, **options):
            measured.append((len(x), model.epochs))
            return evaluate(model, x, *others, **options)

        monkeypatch.setattr(Sequential, "evaluate", note)
        assert run("train", photos, *STANDSTILL, "--epochs", "3", "--out", "run").code == 0
        assert measured == [(3, 1), (6, 1)]

    def test_a_saved_model_measures_what_training_measured(self, run, trained, model, tested):
        measured = read_json(trained / "metrics.json")["test"]
        done = run("evaluate", model, tested, "--format", "json")
        again = json.loads(done.out)
        assert again["count"] == 6
        assert again["accuracy"] == pytest.approx(measured["accuracy"])
        assert again["loss"] == pytest.approx(measured["loss"], rel=1e-5)
        assert measured["accuracy"] >= 4 / 6  # it has learned something, so that the same is not by chance

    @pytest.mark.parametrize("options", [[], ["--augment", "flip", "--test-augment"]])
    def test_the_predictions_of_the_test_part_are_those_that_were_measured(self, run, here, photos, options):
        assert run("train", photos, *QUICK, *options, "--out", "run").code == 0
        model, table = xpcnn.load(here / "run" / "best.safetensors"), rows(here / "run" / "predictions.csv")
        test = [row for row in rows(here / "run" / "parts.csv") if row["part"] == "test"]
        assert [(row["image"], row["class"]) for row in table] == [(row["image"], row["class"]) for row in test]
        right = sum(row["class"] == row["predicted"] for row in table)
        assert read_json(here / "run" / "metrics.json")["test"]["accuracy"] == pytest.approx(right / len(table))
        paths = [row["image"] for row in table]
        found = model.predict_images(paths, augment="flip" if options else "none")
        assert [row["predicted"] for row in table] == found.labels
        assert np.allclose([float(row["probability"]) for row in table], found.probabilities.max(axis=1), atol=1e-5)
        assert [row["digest"] for row in table] == [digest(Path(path).read_bytes()).hex() for path in paths]

    def test_without_digests_there_are_none_with_the_predictions(self, run, here, photos):
        assert run("train", photos, *QUICK, "--no-digests", "--out", "run").code == 0
        assert {row["digest"] for row in rows(here / "run" / "predictions.csv")} == {""}

    def test_a_folder_may_bring_its_own_parts(self, run, here):
        fill(here / "set" / "train", each=6)
        fill(here / "set" / "Valid", each=2, first_seed=100)
        fill(here / "set" / "test", each=3, first_seed=200)
        done = run("train", "set", *QUICK, "--out", "run")
        assert done.code == 0
        assert sizes(here / "run") == {"train": 18, "validation": 6, "test": 9}
        for row in rows(here / "run" / "parts.csv"):
            assert row["image"].split(os.sep)[1].lower()[:5] == row["part"][:5]

    def test_parts_without_validation_get_one_from_the_training_images(self, run, here):
        fill(here / "set" / "train", each=6)
        fill(here / "set" / "test", each=3, first_seed=200)
        assert run("train", "set", *QUICK, "--out", "run", "--validation-fraction", "0.34").code == 0
        assert sizes(here / "run") == {"train": 12, "validation": 6, "test": 9}

    @pytest.mark.skipif(sys.platform != "linux", reason="file names are text here")
    def test_names_that_are_no_utf8_go_through(self, run, here):
        fill(here / "set", each=3)
        os.rename(here / "set" / "left", os.fsencode(here / "set") + b"/l\xff")
        save(here / "odd.png", np.zeros((9, 9), np.uint8)).rename(os.fsdecode(b"set/right/\xfe\n\r,.png"))
        (here / os.fsdecode(b"set/right/\xfd.jpg")).write_bytes(b"no image")
        assert run("train", "set", *QUICK, "--out", "run").code == 0
        assert {os.fsencode(row["image"]) for row in rows(here / "run" / "parts.csv")} >= {
            b"set/right/\xfe\n\r,.png",
            b"set/l\xff/left 0.png",
        }
        assert [os.fsencode(row["path"]) for row in rows(here / "run" / "skipped.csv")] == [b"set/right/\xfd.jpg"]
        classes = ["centre", os.fsdecode(b"l\xff"), "right"]
        assert read_json(here / "run" / "args.json")["classes"] == classes
        assert xpcnn.load("run/best.safetensors").class_names == tuple(classes)


class TestOptions:
    def test_few_validation_images_and_overfitting_are_told_in_a_line_each(self, run, here, photos, monkeypatch):
        monkeypatch.setattr(advice, "OVERFITTING", -1.0)
        done = run("train", photos, *QUICK, "--out", "run")
        assert (done.code, done.err) == (0, "")
        few, overfitting, _ = done.out.splitlines()[-3:]
        assert few.startswith("few validation images: 3, ")
        assert overfitting.startswith("overfitting: in the best epoch, accuracy is ")
        report = (here / "run" / "report.html").read_text(encoding="utf-8")
        assert few in report
        assert overfitting in report

    def test_without_validation_the_last_model_is_the_best(self, run, here, photos):
        done = run("train", photos, *QUICK, "--validation-fraction", "0", "--out", "run")
        assert done.code == 0
        assert "val_" not in done.out
        assert sizes(here / "run")["validation"] == 0
        assert set(read_json(here / "run" / "metrics.json")) == {"epochs", "train", "test"}
        assert (here / "run/best.safetensors").read_bytes() == (here / "run/last.safetensors").read_bytes()

    def test_more_classes_than_images_in_a_batch(self, run, here):
        for number in range(12):
            fill(here / "set", each=3, first_seed=number)
            for kind in CLASSES:
                (here / "set" / kind).rename(here / "set" / f"{kind} {number}")
        done = run("train", "set", *QUICK, "--batch-size", "4", "--out", "run")
        assert done.code == 0
        assert "108 images in 36 classes" in done.out
        assert len(read_json(here / "run" / "args.json")["classes"]) == 36

    def test_images_of_one_colour_each_are_told_apart_by_it(self, run, here):
        for name, colour in (("blue", (200, 60, 60)), ("red", (60, 60, 200))):
            for i in range(10):
                save(here / "set" / name / f"{i}.png", np.full((9, 9 + i, 3), colour, np.uint8))  # copies share a part
        options = ["--image-size", "8", "--epochs", "10", "--batch-size", "4", "--out", "run"]
        assert run("train", "set", *options).code == 0
        assert read_json(here / "run" / "metrics.json")["test"]["accuracy"] == 1

    @pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="folders that differ only in case are one there")
    def test_classes_that_differ_only_in_case_are_two_and_that_is_said(self, run, here):
        fill(here / "set", each=3)
        (here / "set" / "left").rename(here / "set" / "CENTRE")
        done = run("train", "set", *QUICK, "--out", "run")
        assert done.code == 0
        assert "the classes 'CENTRE' and 'centre' differ only in spelling" in done.err
        assert len(read_json(here / "run" / "args.json")["classes"]) == 3

    def test_without_a_test_part_it_says_that_nothing_was_measured(self, run, here, photos):
        done = run("train", photos, *QUICK, "--test-fraction", "0", "--out", "run")
        assert done.code == 0
        assert "test accuracy" not in done.out
        assert "the test part has no images" in done.out
        assert sizes(here / "run")["test"] == 0
        assert set(read_json(here / "run" / "metrics.json")) == {"epochs", "train", "temperature", "validation"}

    def test_the_epochs_of_a_run_from_nothing_depend_on_its_images(self, run, here, photos, model, monkeypatch):
        for number, name in ((2, "EPOCHS"), (5, "MOST_EPOCHS"), (10, "FEWEST_STEPS")):
            monkeypatch.setattr(recipe, name, number)
        monkeypatch.setitem(train_arguments.DEFAULTS, "epochs", 1)
        for name, options, epochs in (
            ("few", ["--image-size", "8", "--model", "tiny"], 5),  # of one step
            ("more", ["--image-size", "8", "--model", "tiny", "--batch-size", "4"], 2),  # of 6
            ("from", ["--from", model], 1),
        ):
            assert run("train", photos, *options, "--no-plots", "--out", name).code == 0
            assert read_json(here / name / "args.json")["epochs"] == epochs
            assert len(rows(here / name / "history.csv")) == epochs

    def test_patience_ends_a_run_that_gains_nothing(self, run, here, photos):
        options = [*STANDSTILL, "--epochs", "60", "--patience", "3"]
        done = run("train", photos, *options, "--out", "run")
        assert done.code == 0
        assert "\nstopped early: val_loss has not improved for 3 epochs\n" in done.out
        assert len(rows(here / "run" / "history.csv")) == 1 + 3
        assert read_json(here / "run" / "metrics.json")["epochs"] == 1 + 3
        assert xpcnn.load("run/best.safetensors").epochs == 1

    def test_a_run_whose_model_gives_no_numbers_has_failed(self, run, here, photos):
        done = run("train", photos, "--epochs", "1", "--image-size", "16", "--lr", "1e30", "--out", "run")
        assert (done.code, done.err.count("\n")) == (1, 1)
        assert "NaN or infinite" in done.err
        assert not (here / "run" / "metrics.json").exists()

    def test_from_goes_on_with_the_network_and_the_weights(self, run, here, photos, model):
        before = xpcnn.load(model)
        done = run("train", photos, "--epochs", "1", "--lr", "1e-12", "--from", model, "--out", "run")
        assert done.code == 0
        after = xpcnn.load("run/last.safetensors")
        assert after.epochs == before.epochs + 1
        assert [row["epoch"] for row in rows(here / "run" / "history.csv")] == [str(after.epochs)]
        assert after.preprocessing == before.preprocessing
        assert after.class_names == before.class_names
        for name in before.parameters:
            np.testing.assert_allclose(after.get_weights()[name], before.get_weights()[name], atol=1e-6)

    def test_from_matches_the_classes_by_name(self, run, here, photos, model):
        fill(here / "two", classes=("right", "left"), each=3)
        done = run("train", "two", "--epochs", "1", "--lr", "1e-12", "--from", model, "--out", "run")
        assert done.code == 0
        assert {row["class"] for row in rows(here / "run" / "parts.csv")} == {"left", "right"}
        assert xpcnn.load("run/last.safetensors").class_names == CLASSES

    def test_from_keeps_the_loss(self, run, here, photos, model):
        smoothed = xpcnn.load(model)
        smoothed.compile(loss=xpcnn.losses.CrossEntropy(label_smoothing=0.25))
        smoothed.save(here / "smoothed.safetensors")
        assert run("train", photos, "--epochs", "1", "--from", "smoothed.safetensors", "--out", "run").code == 0
        assert repr(xpcnn.load("run/last.safetensors").loss) == repr(smoothed.loss)

    @pytest.mark.parametrize("kind", ["light", "microscopy", "flip", "dihedral"])
    def test_augmentation_varies_the_training_images(self, run, here, photos, kind):
        for augment in ("none", kind):
            assert run("train", photos, *QUICK, "--augment", augment, "--out", augment).code == 0
        plain, varied = (rows(here / name / "history.csv")[0] for name in ("none", kind))
        assert plain["loss"] != varied["loss"]
        assert (here / "none/parts.csv").read_bytes() == (here / kind / "parts.csv").read_bytes()

    @pytest.mark.parametrize("preset", ["small", "blood", "blood-unpooled"])
    def test_every_preset_learns(self, run, photos, preset):
        options = ["--epochs", "1", "--gray", "--image-size", "20", "--model", preset]
        assert run("train", photos, *options, "--out", "run").code == 0
        assert xpcnn.load("run/best.safetensors").network.output_shape == (3,)

    def test_a_seed_gives_the_same_run_and_another_seed_another(self, run, here, photos):
        for name, seed, threads in (("a", 5, 1), ("b", 5, 2), ("c", 6, 2)):
            options = ["--seed", seed, "--threads", threads, "--out", name]
            assert run("train", photos, *QUICK, *options).code == 0
        for file in ("last.safetensors", "best.safetensors", "parts.csv", "metrics.json"):
            same, other = (here / "a" / file).read_bytes(), (here / "c" / file).read_bytes()
            assert same == (here / "b" / file).read_bytes()
            assert same != other

    def test_the_seed_orders_the_images_too(self, run, here, model):
        for number, part in enumerate(("train", "val", "test")):
            fill(here / "set" / part, each=4, first_seed=100 * number)
        for name, seed in (("a", 1), ("b", 2)):  # the same weights to start with, the same parts
            options = ["--from", model, "--epochs", "1", "--batch-size", "4", "--seed", seed]
            assert run("train", "set", *options, "--out", name).code == 0
        first, second = (rows(here / name / "history.csv")[0]["loss"] for name in ("a", "b"))
        assert first != second

    def test_pictures_can_be_declined(self, run, photos):
        assert run("train", photos, *QUICK, "--no-plots", "--out", "run").code == 0

    def test_verbose_says_what_computes_and_why(self, run, photos):
        done = run("train", photos, *QUICK, "--backend", "numpy", "--verbose", "--out", "run")
        assert done.err == "backend numpy: numpy was requested\n"

    def test_strict_stops_at_the_first_file_that_cannot_be_read(self, refuses, photos):
        refuses("train", photos, "--strict", words=[photos / "left" / "half.jpg", "truncated"])


def test_main_can_be_called_again_and_again(here, photos):
    for name in ("a", "b"):
        assert main(["train", str(photos), *QUICK, "--out", name]) == 0
