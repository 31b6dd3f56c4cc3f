"""``xpcnn train`` on a table of labels, with groups and copies, and its reports on files that are not images."""

import csv
import os
import shlex
import shutil

import numpy as np
import pytest

from tests.cli.conftest import CLASSES, fill, names, picture, rows, save
from xpcnn.cli import datasets, parts, train_arguments
from xpcnn.cli.datasets import describe_passed_over, load_data
from xpcnn.cli.parts import split_data
from xpcnn.data.digests import digest

QUICK = ["--epochs", "1", "--image-size", "16", "--batch-size", "8"]


@pytest.fixture
def flat(here):
    """Thirty pictures of ten patients in one folder, and a table of their labels beside it."""
    with open(here / "labels.csv", "w", newline="", encoding="utf-8-sig") as file:
        table = csv.writer(file, delimiter=";")
        table.writerow(["path", "label"])
        for number, kind in enumerate(CLASSES):
            for i in range(10):
                save(here / "flat" / f"p{i} {kind}.png", picture(kind, 20, 24, False, 100 * number + i))
                table.writerow([f"p{i} {kind}.png", kind])
    return here / "flat"


@pytest.fixture
def with_digests(monkeypatch):
    """Let images have the digests of their files."""

    def load(*arguments, **options):
        images = load_data(*arguments, **options)
        images.digests = np.array([list(digest(path.read_bytes())) for path in images.paths], np.uint8)
        return images

    monkeypatch.setattr(datasets, "load_data", load)


def parts_of(run):
    """The part of each image of a run, by the name of its file."""
    return {os.path.basename(row["image"]): row["part"] for row in rows(run / "parts.csv")}


def patients(run):
    """The parts in which each patient is."""
    found = {}
    for name, part in parts_of(run).items():
        found.setdefault(name.split()[0], set()).add(part)
    return found


class TestLabels:
    def test_a_table_stands_for_class_folders(self, run, here, flat):
        done = run("train", "flat", "--labels", "labels.csv", *QUICK, "--out", "run")
        assert (done.code, done.err) == (0, "")
        assert done.out.startswith("30 images in 3 classes: ")
        for kind in CLASSES:
            (here / "set" / kind).mkdir(parents=True)
            for path in flat.glob(f"*{kind}.png"):
                shutil.copy(path, here / "set" / kind)
        assert run("train", "set", *QUICK, "--out", "folders").code == 0
        assert (here / "run/last.safetensors").read_bytes() == (here / "folders/last.safetensors").read_bytes()

    def test_evaluate_takes_it_too(self, run, flat, model):
        done = run("evaluate", model, "flat", "--labels", "labels.csv")
        assert (done.code, done.err) == (0, "")
        assert done.out.endswith("(30 images)\n")

    def test_what_is_listed_twice_and_what_is_not_there_is_said(self, run, here, flat):
        with open(here / "labels.csv", "a") as file:
            file.write("p0 left.png;left\ngone.png;left\n")
        done = run("train", "flat", "--labels", "labels.csv", *QUICK, "--out", "run")
        assert done.code == 0
        assert done.err.startswith("xpcnn train: 1 of the rows list a file again, the first 'p0 left.png'")
        assert done.err.count("\n") == 1
        assert [row["path"] for row in rows(here / "run" / "skipped.csv")] == [os.path.join("flat", "gone.png")]

    def test_it_may_name_parts_and_groups(self, run, here, flat):
        lines = [f"p{i} {kind}.png,{kind},{'test' if i < 2 else 'train'},{i}" for kind in CLASSES for i in range(10)]
        (here / "parts.csv").write_text("\n".join(["path,label,part,group", *lines]))
        done = run("train", "flat", "--labels", "parts.csv", *QUICK, "--validation-fraction", "0.25", "--out", "run")
        assert (done.code, done.err) == (0, "")
        found = patients(here / "run")
        assert all(len(parts) == 1 for parts in found.values())
        assert found["p0"] == found["p1"] == {"test"}
        assert "18 to train, 6 to validate, 6 to test" in done.out

    def test_wrong_columns_are_refused_with_those_that_are_there(self, refuses, here, flat):
        (here / "wrong.csv").write_text("file,class\n1.png,cat\n")
        refuses("train", "flat", "--labels", "wrong.csv", words=["has the columns file, class. Expected: path and"])
        refuses("train", "flat", "--labels", "nowhere.csv", words=["There is no table 'nowhere.csv'"])
        refuses("train", "nowhere", "--labels", "labels.csv", words=["There is no folder nowhere"])

    def test_bundled_sets_take_none(self, run, flat, model):
        for command in (["train"], ["train", "mnist"], ["evaluate", model, "digits"]):
            done = run(*command, "--labels", "labels.csv")
            assert done.code == 2
            assert "--labels needs a folder of images, and " in done.err


class TestGroups:
    def test_a_pattern_keeps_a_patient_in_one_part(self, run, here, flat):
        done = run("train", "flat", "--labels", "labels.csv", "--group-by", r"(p\d+) ", *QUICK, "--out", "run")
        assert (done.code, done.err) == (0, "")
        assert all(len(parts) == 1 for parts in patients(here / "run").values())
        assert "21 to train, 3 to validate, 6 to test" in done.out

    def test_so_does_a_table(self, run, here, flat):
        lines = [f"{path.name},{path.name.split()[0]}" for path in flat.iterdir()]
        (here / "groups.csv").write_text("\n".join(["path,group", *lines]))
        assert (
            run("train", "flat", "--labels", "labels.csv", "--group-by", "groups.csv", *QUICK, "--out", "run").code == 0
        )
        assert all(len(parts) == 1 for parts in patients(here / "run").values())

    @pytest.mark.parametrize(
        ("pattern", "told"),
        [("p1", "has no parentheses"), ("(p1", "neither a CSV file nor"), ("no.csv", "not an existing CSV file")],
    )
    def test_a_pattern_that_names_no_group_is_wrong_usage(self, run, here, photos, pattern, told):
        done = run("train", photos, "--group-by", pattern)
        assert (done.code, done.err.count("\n"), names(here)) == (2, 1, set())
        assert told in done.err

    def test_an_image_without_a_group_is_refused(self, refuses, photos):
        refuses(
            "train", photos, "--group-by", r"left (\d)", words=["21 of 31 images get no group from", "centre 0.png"]
        )

    def test_groups_in_two_given_parts_are_said_or_strictly_refused(self, run, refuses, here):
        fill(here / "set" / "train", each=3)
        fill(here / "set" / "test", each=2, first_seed=500)
        options = ["set", "--group-by", r" (\d)\.", *QUICK]
        refuses("train", *options, "--strict", words=["--strict refuses 2 groups in more than one part"])
        done = run("train", *options, "--out", "run")
        assert (done.code, done.err.count("\n")) == (0, 1)
        assert "xpcnn train: 2 groups in more than one part, the first: " in done.err


class TestCopies:
    def test_of_given_parts_a_copy_is_left_out_and_the_run_can_be_resumed(self, run, here, with_digests):
        fill(here / "set" / "train", each=4)
        fill(here / "set" / "test", each=2, first_seed=500)
        shutil.copy(here / "set/test/left/left 0.png", here / "set/train/left/copy.png")
        done = run("train", "set", *QUICK, "--out", "run")
        assert "xpcnn train: 1 images in more than one part, 1 copies left out, the first: " in done.err
        assert "copy.png" not in parts_of(here / "run")
        (here / "run" / "metrics.json").unlink()
        assert run("train", "--resume", "run").code == 0

    def test_a_run_that_was_begun_before_they_were_looked_for_keeps_them(self, run, here, with_digests, monkeypatch):
        fill(here / "set" / "train", each=4)
        fill(here / "set" / "test", each=2, first_seed=500)
        shutil.copy(here / "set/test/left/left 0.png", here / "set/train/left/copy.png")
        with monkeypatch.context() as before:
            before.delitem(train_arguments.DEFAULTS, "copies")
            before.setattr(parts, "split_data", lambda *o, **k: split_data(*o, **{**k, "copies": "anywhere"}))
            assert run("train", "set", *QUICK, "--out", "run").code == 0
        (here / "run" / "metrics.json").unlink()
        assert run("train", "--resume", "run").code == 0
        assert parts_of(here / "run")["copy.png"] == "train"


class TestResumed:
    @pytest.fixture
    def begun(self, run, here, flat, monkeypatch):
        """A run with a table of labels and one of groups, without figures, seen from another directory."""
        lines = [f"{path.name},{path.name.split()[0]}" for path in flat.iterdir()]
        (here / "groups.csv").write_text("\n".join(["path,group", *lines]))
        options = ["--labels", "labels.csv", "--group-by", "groups.csv", *QUICK, "--out", "run"]
        assert run("train", "flat", *options).code == 0
        (here / "run" / "metrics.json").unlink()
        (here / "away").mkdir()
        monkeypatch.chdir(here / "away")
        return here / "run"

    @pytest.mark.parametrize("checkpoint", [True, False])
    def test_it_finds_its_tables_again(self, run, begun, checkpoint):
        before = patients(begun)
        if not checkpoint:
            (begun / "checkpoint.safetensors").unlink()
        done = run("train", "--resume", "../run")
        assert (done.code, done.err) == (0, "")
        assert patients(begun) == before

    def test_tables_may_be_given_anew_where_they_have_moved(self, run, here, begun):
        for name in ("labels.csv", "groups.csv"):
            shutil.move(here / name, here / "away" / name)
        options = ["--labels", "labels.csv", "--group-by", "groups.csv"]
        assert run("train", "--resume", "../run", *options).code == 0

    def test_other_labels_are_refused(self, run, here, begun):
        text = (here / "labels.csv").read_text("utf-8-sig")
        (here / "labels.csv").write_text(text.replace("p0 left.png;left", "p0 left.png;right"))
        done = run("train", "--resume", "../run")
        assert done.code == 1
        assert "1 of another class, the first 'p0 left.png'" in done.err

    def test_a_pattern_is_no_path(self, run, here, flat, monkeypatch):
        (here / "(p.)").mkdir()
        options = ["--labels", "labels.csv", "--group-by", "(p.)", *QUICK, "--out", "run"]
        assert run("train", "flat", *options).code == 0
        (here / "run" / "metrics.json").unlink()
        (here / "away").mkdir()
        monkeypatch.chdir(here / "away")
        assert run("train", "--resume", "../run").code == 0

    def test_the_report_names_the_command_that_repeats_it(self, run, here, begun):
        assert run("train", "--resume", "../run").code == 0
        page = (begun / "report.html").read_text(encoding="utf-8")
        assert f"--labels={shlex.quote(str(here / 'labels.csv'))}" in page
        assert f"--group-by={shlex.quote(str(here / 'groups.csv'))}" in page


class TestPassedOver:
    def test_it_is_said_below_the_images(self, run, photos):
        lines = run("train", photos, *QUICK, "--out", "run").out.splitlines()
        assert "not images: 2 .txt" in lines[:4]

    def test_only_the_most_frequent_endings_are_named(self):
        many = dict.fromkeys((f".{letter}" for letter in "abcdefghij"), 1) | {".\n": 3}
        told = describe_passed_over(many)
        assert told == "not images: 3 .\\n, 1 .a, 1 .b, 1 .c, 1 .d, 1 .e, 1 .f, 1 .g, 3 others"
