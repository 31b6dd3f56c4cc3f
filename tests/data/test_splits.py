"""Every part has the classes in proportion, and no image is in two parts."""

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
        with pytest.raises(ValueError, match=r"class index 1 has too few images to split\. Received: 1"):
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
        with pytest.raises(ValueError, match=r"test fraction must be from 0 to below 1\. Received"):
            stratified_split(LABELS, test_fraction=fraction)
        with pytest.raises(ValueError, match=r"validation fraction must be from 0 to below 1\. Received"):
            stratified_split(LABELS, validation_fraction=fraction)


class TestGroups:
    @given(
        labels=st.lists(st.integers(0, 3), min_size=10, max_size=60),
        count=st.integers(1, 25),
        test=st.sampled_from([0, 0.1, 0.2, 0.5, 0.9]),
        validation=st.sampled_from([0, 0.1, 0.5]),
        seed=st.integers(0, 2**32),
    )
    def test_a_group_is_in_one_part_and_every_class_is_trained(self, labels, count, test, validation, seed):
        labels = np.array([*labels, *labels])
        groups = np.random.default_rng(seed).integers(0, count, len(labels))
        split = stratified_split(labels, test, validation, seed, groups=groups)
        parts = (split.train, split.validation, split.test)
        assert sorted(np.concatenate(parts).tolist()) == list(range(len(labels)))
        assert sum(len(set(groups[part].tolist())) for part in parts) == len(set(groups.tolist()))
        assert set(labels[split.train].tolist()) == set(labels.tolist())
        if not test:
            assert len(split.test) == 0
        if not validation:
            assert len(split.validation) == 0

    def test_parts_come_near_to_the_fractions_of_every_class(self):
        draws = np.random.default_rng(0)
        groups = draws.integers(0, 60, 2000)
        labels = (draws.random(2000) < 0.1 + 0.4 * (groups % 2)).astype(int)
        split = stratified_split(labels, 0.2, 0.1, groups=groups)
        totals = np.bincount(labels)
        np.testing.assert_allclose(counts(labels, split.test, 2) / totals, 0.2, atol=0.03)
        np.testing.assert_allclose(counts(labels, split.validation, 2) / totals, 0.08, atol=0.03)

    def test_large_groups_are_tested_as_well_as_small_ones(self):
        groups = np.repeat(np.arange(110), [20] * 10 + [2] * 100)
        split = stratified_split(np.arange(len(groups)) % 2, groups=groups)
        large = [{group for group in groups[part].tolist() if group < 10} for part in (split.train, split.test)]
        assert [*map(len, large)] == [7, 2]

    def test_images_that_are_alone_leave_one_to_train_on(self):
        split = stratified_split(np.zeros(10, int), 0.48, 0.99, groups=[0] * 5 + [1, 2, 3, 4, 5])
        assert len(split.train) == 1

    def test_groups_that_hold_one_class_each_are_split_class_by_class(self):
        labels, groups = np.repeat([0, 1], [50, 20]), np.repeat(np.arange(7), 10)
        split = stratified_split(labels, 0.2, 0, groups=groups)
        assert counts(labels, split.test, 2) == [10, 10]

    def test_a_class_of_one_group_is_trained_and_not_tested(self):
        labels, groups = np.repeat([0, 1], [40, 10]), np.repeat(np.arange(5), 10)
        split = stratified_split(labels, 0.3, 0.2, groups=groups)
        assert counts(labels, split.train, 2)[1] == 10
        assert counts(labels, split.test, 2)[0] >= 10

    def test_few_groups_still_validate(self):
        labels, groups = np.tile([0, 1], 25), np.repeat(np.arange(5), 10)
        split = stratified_split(labels, groups=groups)
        assert [len(split.train), len(split.validation), len(split.test)] == [30, 10, 10]

    def test_names_are_groups_and_the_seed_decides_between_those_of_one_size(self):
        labels, groups = np.tile([0, 1], 50), [f"patient {i // 5}" for i in range(100)]
        assert same(stratified_split(labels, seed=3, groups=groups), stratified_split(labels, seed=3, groups=groups))
        assert not same(
            stratified_split(labels, seed=3, groups=groups), stratified_split(labels, seed=4, groups=groups)
        )

    def test_images_that_are_alone_in_their_group_are_split_as_those_without(self):
        assert same(stratified_split(LABELS, groups=np.arange(160)), stratified_split(LABELS))

    def test_without_groups_the_split_is_that_of_version_0_1(self):
        split = stratified_split(np.repeat([0, 1, 2], [8, 5, 3]), seed=7)
        assert split.train.tolist() == [0, 2, 3, 6, 7, 9, 10, 12, 15]
        assert split.validation.tolist() == [5, 11, 13]
        assert split.test.tolist() == [1, 4, 8, 14]

    def test_a_group_for_every_image_is_expected(self):
        with pytest.raises(ValueError, match=r"one group per label: 160 labels, 2 groups received"):
            stratified_split(LABELS, groups=["a", "b"])

    def test_no_images_are_no_groups(self):
        assert len(stratified_split(np.array([], int), groups=[]).train) == 0


class TestSplitFromParts:
    def test_a_validation_part_is_drawn_by_groups(self):
        groups = [f"{i // 4}" for i in range(48)]
        split = split_from_parts(np.array(["test"] * 8 + ["train"] * 40), np.array([0, 1] * 24), 0.2, 0, groups=groups)
        assert len(split.validation) == 8
        assert {groups[row] for row in split.train}.isdisjoint(groups[row] for row in split.validation)

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
