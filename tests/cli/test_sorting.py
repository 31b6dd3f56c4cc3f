"""Copies of images in folders by label: safe names, nothing moved, nothing overwritten."""

import os
import sys

import pytest

import xpcnn
from tests.cli.conftest import names, rows
from xpcnn.cli import sorting


class TestFolderNames:
    @pytest.mark.parametrize(
        ("label", "name"),
        [
            ("cat", "cat"),
            ("été 1", "été 1"),
            ("a/b", "a_b"),
            ("a\\b", "a_b"),
            ("../../etc", ".._.._etc"),
            ("..", "__"),
            (".", "_"),
            ("", "_"),
            ("C:outside", "C_outside"),
            ("new\nline\x1b[31m", "new_line_[31m"),
            ("CON", "_CON"),
            ("nul.txt", "_nul.txt"),
            ("ends. ", "ends"),
            ("x" * 300, "x" * 200),
            ("\udcff", "_"),
        ],
    )
    def test_they_are_safe_on_every_system(self, label, name):
        assert sorting.folder_names([label]) == {label: name}

    def test_long_ones_are_cut_between_characters(self):
        (name,) = sorting.folder_names(["細" * 100]).values()
        assert name == "細" * 66

    @pytest.mark.parametrize(("one", "other"), [("a/b", "a:b"), ("Cat", "cat"), ("e\u0301", "\u00e9"), ("..", "//")])
    def test_two_that_would_be_one_are_refused(self, one, other):
        with pytest.raises(ValueError, match="would share the folder"):
            sorting.folder_names([one, other])


@pytest.fixture
def twice(here, photos):
    """Two folders of images of the same names."""
    for place in ("one", "two"):
        (here / place).mkdir()
        for kind in ("left", "right"):
            (here / place / f"{kind}.png").write_bytes((photos / kind / f"{kind} 0.png").read_bytes() + place.encode())
    return ["one", "two"]


class TestCopies:
    def test_they_lie_in_folders_of_their_labels(self, run, here, model, photos):
        done = run("predict", model, photos / "left", "--copy-to", "sorted", "--format", "csv", "-o", "answers.csv")
        assert done.code == 0
        labels = {row["path"]: row["label"] for row in rows(here / "answers.csv") if not row["error"]}
        assert f"xpcnn predict: {len(labels)} images copied to sorted" in done.err
        for path, label in labels.items():
            copied = here / "sorted" / label / os.path.basename(path)
            with open(path, "rb") as original:
                assert copied.read_bytes() == original.read()
        assert sum(1 for path in (here / "sorted").rglob("*") if path.is_file()) == len(labels)

    def test_a_second_of_the_same_name_has_a_number(self, run, here, model, twice):
        for _ in range(2):
            assert run("predict", model, *twice, "--copy-to", "sorted").code == 0
        copied = sorted((here / "sorted").rglob("*.png"))
        assert len(copied) == 8
        (lefts,) = {path.parent for path in copied if path.name == "left.png"}
        assert names(lefts) >= {"left.png", "left-2.png", "left-3.png", "left-4.png"}
        assert (lefts / "left.png").read_bytes().endswith(b"one")
        assert (lefts / "left-2.png").read_bytes().endswith(b"two")

    def test_the_uncertain_have_a_folder_too(self, run, here, model, twice):
        assert run("predict", model, *twice, "--threshold", "0.999999", "--copy-to", "sorted").code == 0
        assert "uncertain" in names(here / "sorted")

    def test_those_that_cannot_be_read_are_not_copied(self, run, here, model, twice):
        (here / "one" / "none.png").write_bytes(b"no image")
        assert run("predict", model, *twice, "--copy-to", "sorted").code == 0
        assert not list((here / "sorted").rglob("none*"))

    def test_into_the_folder_that_is_predicted_too(self, run, here, model, twice):
        for count in (2, 4):
            done = run("predict", model, "one", "--recursive", "--copy-to", "one")
            assert f"{count} images copied" in done.err

    def test_labels_that_would_share_a_folder_are_refused_before_the_work(self, refuses, here, model, twice):
        made = xpcnn.load(model)
        made.class_names = ("a/b", "a:b", "c")
        made.save(here / "made.safetensors")
        refuses("predict", "made.safetensors", *twice, "--copy-to", "sorted", words=["'a/b' and 'a:b'", "--copy-to"])

    @pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may write everywhere")
    def test_where_nothing_can_be_written_it_is_one_line(self, run, here, model, twice):
        (here / "sorted").mkdir(mode=0o500)
        done = run("predict", model, *twice, "--copy-to", "sorted")
        assert done.code == 1
        assert done.err.count("\n") == 1

    def test_where_a_file_is_in_the_way_it_is_one_line(self, run, here, model, twice):
        (here / "sorted").write_text("a file")
        done = run("predict", model, *twice, "--copy-to", "sorted")
        assert done.code == 1
        assert done.err.startswith("xpcnn predict: ")
        assert "Traceback" not in done.err
