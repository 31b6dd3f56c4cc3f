"""Every part has the classes in proportion, and no image is in two."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xpcnn.data import split_from_parts, stratified_split


def counts(labels, rows, classes):
    return np.bincount(labels[rows], minlength=classes).tolist()


def same(one, other):
    return all(np.array_equal(getattr(one, p), getattr(other, p)) for p in ("train", "validation", "test"))


LABELS = np.repeat([0, 1, 2], [100, 50, 10])


class TestStratifiedSplit:
    def test_every_class_is_split_in_proportion(self):
        split = stratified_split(LABELS, test_fraction=0.2, validation_fraction=0.1)
        assert counts(LABELS, split.test, 3) == [20, 10, 2]
        assert counts(LABELS, split.validation, 3) == [8, 4, 1]
        assert counts(LABELS, split.train, 3) == [72, 36, 7]

    @given(
        sizes=st.lists(st.integers(2, 30), min_size=1, max_size=5),
        test=st.floats(0, 0.99),
        validation=st.floats(0, 0.99),
        seed=st.integers(0, 2**32),
    )
    def test_the_parts_are_whole_sorted_and_do_not_overlap(self, sizes, test, validation, seed):
        labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
        split = stratified_split(labels, test, validation, seed)
        parts = (split.train, split.validation, split.test)
        for part in parts:
            assert part.dtype == np.int64
            assert np.all(np.diff(part) > 0)
        assert sorted(np.concatenate(parts).tolist()) == list(range(len(labels)))
        assert min(counts(labels, split.train, len(sizes))) >= 1
        for fraction, part, smallest in ((test, split.test, 2), (validation, split.validation, 3)):
            if fraction == 0:
                assert len(part) == 0
            elif min(sizes) >= smallest and max(test, validation) <= 0.5:
                assert min(counts(labels, part, len(sizes))) >= 1

    def test_the_same_seed_gives_the_same_split_and_another_seed_another(self):
        assert same(stratified_split(LABELS, seed=3), stratified_split(LABELS, seed=3))
        assert not same(stratified_split(LABELS, seed=3), stratified_split(LABELS, seed=4))

    def test_a_class_is_split_the_same_whatever_classes_come_after_it(self):
        fewer = stratified_split(LABELS[:150])
        assert np.array_equal(fewer.test, [row for row in stratified_split(LABELS).test if row < 150])

    def test_the_images_are_not_taken_in_the_order_of_the_folder(self):
        test = stratified_split(np.zeros(100, int)).test
        assert not np.array_equal(test, np.arange(test[0], test[0] + len(test)))

    def test_a_class_of_one_image_is_refused_by_index_or_name(self):
        labels = np.array([0, 0, 0, 1])
        with pytest.raises(ValueError, match=r"class index 1 has too few images to be split\. Received: 1"):
            stratified_split(labels)
        with pytest.raises(ValueError, match="class 'owl' has too few"):
            stratified_split(labels, classes=("cat", "owl"))

    def test_a_class_of_one_image_is_fine_where_nothing_is_split(self):
        split = stratified_split(np.array([0, 0, 0, 1]), 0, 0)
        assert split.train.tolist() == [0, 1, 2, 3]

    def test_of_two_images_one_is_tested_and_one_trained(self):
        split = stratified_split(np.array([0, 0]))
        assert (len(split.train), len(split.validation), len(split.test)) == (1, 0, 1)

    def test_no_images_make_empty_parts(self):
        split = stratified_split(np.array([], dtype=np.int64))
        assert [len(split.train), len(split.validation), len(split.test)] == [0, 0, 0]

    @pytest.mark.parametrize("fraction", [-0.1, 1, 1.5, math.nan])
    def test_a_fraction_outside_0_to_1_is_refused(self, fraction):
        with pytest.raises(ValueError, match=r"test fraction is from 0 to below 1\. Received"):
            stratified_split(LABELS, test_fraction=fraction)
        with pytest.raises(ValueError, match=r"validation fraction is from 0 to below 1\. Received"):
            stratified_split(LABELS, validation_fraction=fraction)


class TestSplitFromParts:
    def test_the_parts_are_those_of_the_folders(self):
        parts = np.array(["train", "validation", "train", "test", "validation"])
        split = split_from_parts(parts, np.array([0, 0, 1, 1, 1]))
        assert split.train.tolist() == [0, 2]
        assert split.validation.tolist() == [1, 4]
        assert split.test.tolist() == [3]

    def test_without_a_validation_part_it_is_taken_from_training(self):
        parts = np.array(["test"] * 4 + ["train"] * 40)
        labels = np.array([0, 1] * 22)
        split = split_from_parts(parts, labels, validation_fraction=0.25, seed=1)
        assert split.test.tolist() == [0, 1, 2, 3]
        assert counts(labels, split.validation, 2) == [5, 5]
        assert sorted([*split.train, *split.validation]) == list(range(4, 44))

    def test_without_a_validation_part_and_fraction_all_is_trained(self):
        split = split_from_parts(np.array(["train", "train", "test"]), np.array([0, 1, 1]), validation_fraction=0)
        assert split.train.tolist() == [0, 1]
        assert len(split.validation) == 0

    def test_without_a_test_part_it_is_empty(self):
        split = split_from_parts(np.array(["train", "validation"]), np.array([0, 0]))
        assert len(split.test) == 0
        assert split.test.dtype == np.int64

    def test_a_class_that_is_too_small_is_named(self):
        with pytest.raises(ValueError, match="class 'owl' has too few"):
            split_from_parts(np.array(["train"] * 4), np.array([0, 0, 0, 1]), classes=("cat", "owl"))
