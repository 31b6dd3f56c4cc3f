"""Groups and copies stay in one part; if that is impossible it is reported, or refused with ``--strict``."""

from pathlib import Path

import numpy as np
import pytest

from xpcnn.cli.parts import split_data
from xpcnn.data import LabelledImages, split_from_parts, stratified_split
from xpcnn.data.digests import digest


@pytest.fixture
def images():
    """A function that makes images of contents, a letter each, in classes "a" and "b"; paths are "0", "1", …"""

    def make(contents, labels, parts=None, groups=None, paths=True):
        return LabelledImages(
            np.zeros((len(labels), 1, 1, 1), np.uint8),
            np.array(labels),
            ("a", "b"),
            paths=[Path(str(row)) for row in range(len(labels))] if paths else None,
            parts=None if parts is None else np.array(parts),
            digests=None
            if contents is None
            else np.array([list(digest(content.encode())) for content in contents], np.uint8),
            groups=groups,
        )

    return make


def same(one, other):
    return all(np.array_equal(getattr(one, p), getattr(other, p)) for p in ("train", "validation", "test"))


def part_of(split, rows):
    return [next(p for p in ("train", "validation", "test") if row in getattr(split, p)) for row in rows]


class TestDrawn:
    LABELS = (0, 1) * 20

    def test_without_copies_and_groups_it_is_the_split_class_by_class(self, images):
        expected = stratified_split(np.array(self.LABELS), 0.2, 0.1, 3)
        for contents in (None, map(str, range(40))):
            split, notes = split_data(images(contents, self.LABELS), 0.2, 0.1, 3)
            assert same(split, expected)
            assert notes == []

    @pytest.mark.parametrize("seed", range(5))
    def test_copies_are_in_one_part(self, images, seed):
        contents = [str(row % 30) for row in range(40)]
        split, notes = split_data(images(contents, self.LABELS), 0.2, 0.1, seed, strict=True)
        assert part_of(split, range(10)) == part_of(split, range(30, 40))
        assert notes == []
        assert len({*part_of(split, range(10))}) > 1

    @pytest.mark.parametrize("seed", range(5))
    def test_groups_that_share_a_picture_are_in_one_part(self, images, seed):
        contents = ["x", *map(str, range(38)), "x"]
        split, _ = split_data(
            images(contents, self.LABELS, groups=[str(row // 4) for row in range(40)]), 0.3, 0.2, seed
        )
        assert len({*part_of(split, [0, 1, 2, 3, 36, 37, 38, 39])}) == 1

    def test_they_may_be_anywhere(self, images):
        split, notes = split_data(images("x" * 40, self.LABELS), 0.2, 0.1, 3, copies="anywhere", strict=True)
        assert same(split, stratified_split(np.array(self.LABELS), 0.2, 0.1, 3))
        assert notes == []

    def test_sets_without_files_are_as_they_were_published(self, images):
        split, notes = split_data(images("x" * 40, self.LABELS, paths=False), 0.2, 0.1, 3)
        assert same(split, stratified_split(np.array(self.LABELS), 0.2, 0.1, 3))
        assert notes == []

    def test_one_picture_in_two_classes_is_named_and_strictly_refused(self, images):
        found = images(["x", "x", *map(str, range(38))], self.LABELS)
        assert split_data(found, 0.2, 0.1, 3)[1] == ["1 images in more than one class, the first: '0' (a) and '1' (b)"]
        with pytest.raises(ValueError, match=r"--strict refuses 1 images in more than one class, .* Keep each in one"):
            split_data(found, 0.2, 0.1, 3, strict=True)

    def test_a_class_of_one_group_is_named(self, images):
        groups = ["one" if label else str(row) for row, label in enumerate(self.LABELS)]
        split, notes = split_data(images(None, self.LABELS, groups=groups), 0.2, 0.1, 3)
        assert notes == ["the test part has no images of these classes, for lack of groups: 'b'"]
        assert np.array(self.LABELS)[split.train].sum() == 20
        assert split_data(images(None, self.LABELS, groups=groups), 0, 0.1, 3)[1] == []


class TestGiven:
    PARTS = ("train",) * 4 + ("validation",) * 2 + ("test",) * 2
    LABELS = (0, 1) * 4

    def test_without_copies_it_is_as_given(self, images):
        for contents in (None, "abcdefgh", "aacdefgh"):
            split, _ = split_data(images(contents, self.LABELS, self.PARTS), 0.2, 0.1, 0)
            assert same(split, split_from_parts(np.array(self.PARTS), np.array(self.LABELS)))

    def test_a_copy_is_left_out_of_the_parts_that_count_for_less(self, images):
        split, _ = split_data(images("abcdabah", (0, 0, 0, 1, 0, 0, 0, 1), self.PARTS), 0.2, 0.1, 0)
        assert [part.tolist() for part in (split.train, split.validation, split.test)] == [[2, 3], [5], [6, 7]]

    def test_how_many_and_which(self, images):
        _, notes = split_data(images("abcdefah", self.LABELS, self.PARTS), 0.2, 0.1, 0)
        assert notes == ["1 images in more than one part, 1 copies left out, the first: '0' (train) and '6' (test)"]

    def test_strictly_it_is_refused(self, images):
        found = images("abcdefah", self.LABELS, self.PARTS)
        with pytest.raises(ValueError, match="--strict refuses 1 images in more than one part"):
            split_data(found, 0.2, 0.1, 0, strict=True)
        assert len(split_data(found, 0.2, 0.1, 0, strict=True, copies="anywhere")[0].train) == 4

    def test_a_class_of_copies_alone_is_refused(self, images):
        with pytest.raises(ValueError, match="All training images of the class 'b' are copies"):
            split_data(images("abcbefgb", self.LABELS, self.PARTS), 0.2, 0.1, 0)

    def test_a_group_in_two_parts_is_named_and_strictly_refused(self, images):
        found = images(None, self.LABELS, self.PARTS, groups=["p", "q", "r", "s", "p", "t", "q", "u"])
        _, notes = split_data(found, 0.2, 0.1, 0)
        assert notes == ["2 groups in more than one part, the first: '0' (train) and '4' (validation)"]
        with pytest.raises(ValueError, match="--strict refuses 2 groups in more than one part"):
            split_data(found, 0.2, 0.1, 0, strict=True)

    @pytest.mark.parametrize("seed", range(5))
    def test_a_validation_part_is_drawn_of_what_is_used_by_groups(self, images, seed):
        labels, parts = (0, 1) * 20, ["train"] * 32 + ["test"] * 8
        contents = ["x", *map(str, range(38)), "x"]
        groups = [str(row // 4) for row in range(40)]
        split, _ = split_data(images(contents, labels, parts, groups), 0.2, 0.3, seed)
        assert sorted([*split.train, *split.validation]) == list(range(1, 32))
        assert split.test.tolist() == list(range(32, 40))
        assert {groups[row] for row in split.train}.isdisjoint(groups[row] for row in split.validation)
