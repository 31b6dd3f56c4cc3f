"""``xpcnn evaluate``: accuracy and loss on labelled images, as text and as JSON."""

import json
import os
import re

import numpy as np
import pytest

import xpcnn
from tests.cli.conftest import CLASSES, fill, rows, save, truncated_jpeg
from xpcnn import data, layers
from xpcnn.losses import CrossEntropy
from xpcnn.metrics import wilson_interval
from xpcnn.program import memory_bound


def measured(done):
    assert done.code == 0, done
    results = json.loads(done.out)
    told = "xpcnn evaluate: the model was trained or selected with" if results["seen"] else ""
    assert done.err.startswith(told)
    assert done.err.count("\n") == (1 if told else 0)
    return results


class TestFigures:
    def test_they_are_those_of_the_predictions(self, run, model, photos):
        results = measured(run("evaluate", model, photos, "--format", "json"))
        loaded = xpcnn.load(model)
        images = data.load_folder(photos, loaded.preprocessing.decoding)
        probabilities = loaded.predict(loaded.preprocessing.normalize(images.x))
        hits = probabilities.argmax(axis=1) == images.y
        assert set(results) == {
            "accuracy", "accuracy_95", "loss", "calibration_error", "classes", "count", "skipped", "passed_over",
            "seen", "unseen",
        }  # fmt: skip
        assert results["accuracy"] == pytest.approx(hits.mean())
        assert results["loss"] == pytest.approx(-np.log(probabilities[np.arange(30), images.y]).mean(), rel=1e-4)
        assert (results["count"], results["skipped"]) == (30, 1)
        assert [row["class"] for row in results["classes"]] == list(CLASSES)
        assert [row["count"] for row in results["classes"]] == [10, 10, 10]
        assert [row["recall"] for row in results["classes"]] == [
            pytest.approx(hits[images.y == label].mean()) for label in range(3)
        ]
        assert tuple(results["accuracy_95"]) == wilson_interval(hits.sum(), 30)
        assert [tuple(row["recall_95"]) for row in results["classes"]] == [
            wilson_interval(hits[images.y == label].sum(), 10) for label in range(3)
        ]

    def test_classes_are_matched_by_name(self, run, here, model, photos):
        (here / "set").mkdir()
        for name in ("left", "right"):  # the second and third class of the model
            (here / "set" / name).symlink_to(photos / name, target_is_directory=True)
        whole, part = (measured(run("evaluate", model, name, "--format", "json")) for name in (photos, "set"))
        assert [row["count"] for row in part["classes"]] == [0, 10, 10]
        assert [row["recall"] for row in part["classes"]] == [None, *(row["recall"] for row in whole["classes"][1:])]

    def test_classes_may_be_written_in_another_unicode_form(self, run, here, model, photos):
        made = xpcnn.load(model)
        made.class_names = ("centre", "de\u0301ja\u0300", "right")
        made.save(here / "made.safetensors")
        (here / "set").mkdir()
        for name, called in (("centre", "centre"), ("left", "d\u00e9j\u00e0")):
            (here / "set" / called).symlink_to(photos / name, target_is_directory=True)
        results = measured(run("evaluate", "made.safetensors", "set", "--format", "json"))
        assert [row["count"] for row in results["classes"]] == [10, 10, 0]

    def test_with_augment_they_are_those_of_the_mean_over_flips(self, run, model, photos):
        done = run("evaluate", model, photos, "--augment", "light", "--format", "json")
        loaded = xpcnn.load(model)
        images = data.load_folder(photos, loaded.preprocessing.decoding)
        probabilities = loaded.predict(loaded.preprocessing.normalize(images.x), augment="light")
        own = probabilities[np.arange(30), images.y]
        assert measured(done)["loss"] == pytest.approx(-np.log(own).mean(), rel=1e-4)

    def test_a_class_that_the_model_does_not_know_is_refused(self, refuses, here, model):
        fill(here / "set", each=1)
        (here / "set" / "left").rename(here / "set" / "above")
        refuses("evaluate", model, "set", words=["the class 'above'", "centre, left, right"])

    def test_a_folder_of_one_class_is_measured(self, run, here, model):
        fill(here / "set", classes=("left",), each=3, first_seed=88)
        results = measured(run("evaluate", model, "set", "--format", "json"))
        assert [row["count"] for row in results["classes"]] == [0, 3, 0]
        assert results["classes"][1]["recall"] == results["accuracy"]

    def test_a_table_of_test_images_alone_is_measured(self, run, here, model):
        fill(here / "set", classes=("left",), each=2, first_seed=88)
        lines = [f"{path.relative_to(here / 'set')},left,test" for path in sorted((here / "set").rglob("*.*"))]
        (here / "labels.csv").write_text("\n".join(["path,label,part", *lines]))
        assert measured(run("evaluate", model, "set", "--labels", "labels.csv", "--format", "json"))["count"] == 2

    def test_of_a_set_with_parts_the_test_part_is_measured(self, run, here, model):
        fill(here / "set" / "train", each=2)
        fill(here / "set" / "test", each=3)
        assert measured(run("evaluate", model, "set", "--format", "json"))["count"] == 9

    def test_parts_without_a_test_part_are_refused(self, refuses, here, model):
        fill(here / "set" / "train", each=2)
        fill(here / "set" / "val", each=1)
        refuses("evaluate", model, "set", words=["'set' has parts, but no test part"])

    def test_images_are_read_as_the_model_says_whatever_their_sides(self, run, here):
        stack = [layers.Flatten(), layers.Dense(2, activation="softmax")]
        made = xpcnn.Sequential(stack, input_shape=(1, 6, 10))
        made.preprocessing = data.Preprocessing(data.Decoding(6, 10, 1), (100.0,), (50.0,))
        made.class_names = ("left", "right")
        made.compile(loss=CrossEntropy())
        made.save(here / "wide.safetensors")
        fill(here / "set", classes=("left", "right"), each=2)
        assert measured(run("evaluate", "wide.safetensors", "set", "--format", "json"))["count"] == 4

    def test_the_bundled_digits(self, run, here):
        assert run("train", "--epochs", "1", "--out", "run").code == 0
        results = measured(run("evaluate", os.path.join("run", "best.safetensors"), "digits", "--format", "json"))
        assert (results["count"], results["seen"], results["unseen"]["count"]) == (1797, 1438, 359)
        assert results["accuracy"] > 0.5

    def test_outputs_that_are_not_finite_are_refused(self, refuses, here, overflowing):
        fill(here / "set", classes=("left", "right"), each=2)
        refuses("evaluate", overflowing, "set", words=["NaN or infinite outputs"])

    def test_a_large_network_takes_its_images_a_few_at_a_time(self, run, model, photos, monkeypatch):
        whole = measured(run("evaluate", model, photos, "--format", "json"))
        lengths = []
        normalize = data.Preprocessing.normalize
        monkeypatch.setattr(data.Preprocessing, "normalize", lambda p, x: lengths.append(len(x)) or normalize(p, x))
        numbers, _ = memory_bound.demand(xpcnn.load(model).network)
        monkeypatch.setattr(memory_bound, "MOST_NUMBERS", 13 * numbers + 1)
        few = measured(run("evaluate", model, photos, "--format", "json"))
        assert lengths == [13, 13, 4, 6]  # and those alone that it has not seen
        assert (few["classes"], few["loss"]) == (whole["classes"], pytest.approx(whole["loss"], rel=1e-4))

    def test_strict_stops_at_the_first_file_that_cannot_be_read(self, refuses, model, photos):
        refuses("evaluate", model, photos, "--strict", words=["half.jpg", "truncated"])


class TestSeen:
    def test_of_the_folder_it_was_trained_on_the_unseen_are_the_test_part(self, run, trained, model, photos):
        results = measured(run("evaluate", model, photos, "--format", "json"))
        test = json.loads((trained / "metrics.json").read_text())["test"]
        assert (results["seen"], results["count"], results["unseen"]["count"]) == (24, 30, 6)
        assert results["unseen"]["accuracy"] == test["accuracy"]
        assert results["unseen"]["loss"] == pytest.approx(test["loss"], rel=1e-4)

    def test_copies_under_other_names_are_known(self, run, here, model, photos):
        for path in photos.glob("*/*0.*"):
            (here / "set" / path.parent.name).mkdir(parents=True, exist_ok=True)
            (here / "set" / path.parent.name / f"copy{path.suffix}").write_bytes(path.read_bytes())
        whole = measured(run("evaluate", model, photos, "--format", "json"))
        results = measured(run("evaluate", model, "set", "--format", "json"))
        assert 0 < results["seen"] <= results["count"] < whole["seen"]

    def test_images_that_it_has_not_seen_are_not_spoken_of(self, run, here, model):
        fill(here / "set", each=2, first_seed=77)
        done = run("evaluate", model, "set", "--format", "json")
        assert (done.err, measured(done)["seen"], measured(done)["unseen"]) == ("", 0, None)

    def test_where_all_were_seen_there_is_no_other_figure(self, run, here, trained, model):
        for row in rows(trained / "parts.csv"):
            if row["part"] == "train":
                (here / "set" / row["class"]).mkdir(parents=True, exist_ok=True)
                (here / "set" / row["class"] / os.path.basename(row["image"])).symlink_to(row["image"])
        done = run("evaluate", model, "set", "--format", "json")
        results = measured(done)
        assert (results["seen"], results["unseen"]) == (results["count"], None)
        assert "say nothing about other images" in done.err

    def test_a_model_without_digests_cannot_tell(self, run, here, photos):
        options = ["--epochs", "1", "--image-size", "8", "--no-digests", "--out", "run"]
        assert run("train", photos, *options).code == 0
        done = run("evaluate", "run/best.safetensors", photos, "--format", "json")
        assert (done.err, measured(done)["seen"], measured(done)["unseen"]) == ("", None, None)
        assert xpcnn.load("run/best.safetensors").digests is None


class TestText:
    def test_a_table_of_the_classes_and_a_line_of_the_whole(self, run, model, photos):
        results = measured(run("evaluate", model, photos, "--format", "json"))
        *table, last, unseen, passed_over = run("evaluate", model, photos).out.splitlines()
        assert unseen.startswith("not seen: accuracy ")
        assert unseen.endswith("(6 images)")
        assert re.split("  +", table[0]) == ["class", "images", "precision", "recall", "recall, 95 %", "f1"]
        for line, row in zip(table[1:], results["classes"], strict=True):
            precision, recall, f1 = (f"{row[name]:.4f}" for name in ("precision", "recall", "f1"))
            low, high = row["recall_95"]
            figures = [row["class"], str(row["count"]), precision, recall, f"{low:.4f} to {high:.4f}", f1]
            assert re.split("  +", line) == figures
        accuracy, loss, error = (results[name] for name in ("accuracy", "loss", "calibration_error"))
        low, high = results["accuracy_95"]
        assert last == (
            f"accuracy {accuracy:.4f} (95 %: {low:.4f} to {high:.4f}), loss {loss:.4f}, "
            f"calibration error {error:.4f} (30 images, 1 skipped)"
        )
        assert passed_over == "not images: 2 .txt"
        assert results["passed_over"] == {".txt": 2}

    def test_a_class_that_is_absent_has_dashes(self, run, here, model):
        fill(here / "set", classes=("left", "right"), each=2, first_seed=50)
        _, absent, *_ = run("evaluate", model, "set").out.splitlines()
        assert absent.split() == ["centre", "0", "—", "—", "—", "—"]

    @pytest.mark.parametrize("long", ["b", "b" * 30], ids=["short", "long"])
    def test_the_columns_stand_under_their_heads(self, run, here, long):
        for number, name in enumerate(("a", long)):
            for i in range(4):
                save(here / "set" / name / f"{i}.png", np.full((8, 8), 200 * number + i, np.uint8))
        options = ["--epochs", "1", "--image-size", "8", "--validation-fraction", "0"]
        assert run("train", "set", *options, "--out", "run").code == 0
        head, *lines, _, _ = run("evaluate", "run/best.safetensors", "set").out.splitlines()
        assert {len(line) for line in lines} == {len(head)}
        assert all(line[head.index("images") + 5] == "4" for line in lines)


class TestModels:
    def test_what_is_no_model_is_refused(self, refuses, here, photos, trained):
        refuses("evaluate", "nowhere", photos, words=["no model file 'nowhere'"])
        refuses("evaluate", trained, photos, words=["is a directory", trained / "best.safetensors"])
        refuses("evaluate", truncated_jpeg(here / "a.jpg"), photos, words=["a.jpg", "not a model file"])

    @pytest.mark.parametrize("lacks", ["preprocessing", "class_names", "loss"])
    def test_a_model_for_arrays_is_refused(self, refuses, here, model, photos, lacks):
        made = xpcnn.load(model)
        setattr(made, lacks, None)
        made.save(here / "made.safetensors")
        refuses("evaluate", "made.safetensors", photos, words=["'made.safetensors'", "takes arrays only"])

    def test_a_model_that_contradicts_itself_is_refused(self, refuses, here, model, photos):
        made = xpcnn.load(model)
        made.preprocessing = data.Preprocessing(data.Decoding(8, 8, 1), (0.0,), (1.0,))
        made.save(here / "made.safetensors")
        refuses("evaluate", "made.safetensors", photos, words=["contradicts itself", "(3, 16, 16)", "(1, 8, 8)"])
