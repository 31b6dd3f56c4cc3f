"""A set of labelled images can be split, and reports what it skipped."""

import csv
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from xpcnn.data import LabelledImages, write_skipped_csv


def test_taking_rows_keeps_everything_of_an_image_together():
    paths = [Path("0.png"), Path("1.png"), Path("2.png")]
    images = LabelledImages(
        x=np.arange(3, dtype=np.uint8).reshape(3, 1, 1, 1),
        y=np.array([0, 1, 0]),
        classes=("a", "b"),
        paths=paths,
        skipped=[(Path("bad.png"), "it is empty")],
        parts=np.array(["train", "test", "train"]),
        digests=np.arange(24, dtype=np.uint8).reshape(3, 8),
        groups=["x", "y", "z"],
    )
    taken = images.take(np.array([2, 1]))
    assert taken.x.ravel().tolist() == [2, 1]
    assert taken.y.tolist() == [0, 1]
    assert taken.paths == [paths[2], paths[1]]
    assert taken.parts.tolist() == ["train", "test"]
    assert taken.digests[:, 0].tolist() == [16, 8]
    assert taken.groups == ["z", "y"]
    assert taken.classes == images.classes
    assert taken.skipped == images.skipped


def test_what_an_array_does_not_have_stays_away():
    taken = LabelledImages(np.zeros((2, 1, 1, 1), np.uint8), np.array([0, 1]), ("a", "b")).take(np.array([1]))
    assert taken.paths is None
    assert taken.parts is None
    assert taken.groups is None
    assert taken.skipped == []


def test_the_skipped_files_are_written_with_their_reasons(tmp_path):
    skipped = [(Path("a/é, 1.jpg"), "it is empty"), (Path("b.png"), 'it "is" bad')]
    write_skipped_csv(tmp_path / "skipped.csv", skipped)
    with open(tmp_path / "skipped.csv", encoding="utf-8", newline="") as file:
        lines = list(csv.reader(file))
    assert lines == [["path", "reason"], *([str(path), reason] for path, reason in skipped)]


def test_without_skipped_files_the_heading_is_written(tmp_path):
    write_skipped_csv(tmp_path / "skipped.csv", [])
    assert (tmp_path / "skipped.csv").read_text().splitlines() == ["path,reason"]


@pytest.mark.skipif(sys.platform != "linux", reason="file names are text here")
def test_a_file_name_that_is_no_utf8_is_written_as_it_is(tmp_path):
    write_skipped_csv(tmp_path / "skipped.csv", [(Path(os.fsdecode(b"\xff.jpg")), "it is empty")])
    assert b"\xff.jpg,it is empty" in (tmp_path / "skipped.csv").read_bytes()
