"""Every image is in one fold, every fold has the classes in proportion, and no group is in two folds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xpcnn.data.folds import fold_split, stratified_folds

LABELS = np.repeat([0, 1, 2], [100, 50, 10])


def table(labels, fold_of, folds):
    """The number of images of each class in each fold."""
    return [np.bincount(labels[fold_of == fold], minlength=labels.max() + 1).tolist() for fold in range(folds)]


class TestStratifiedFolds:
    def test_every_fold_has_its_share_of_every_class(self):
        assert table(LABELS, stratified_folds(LABELS, 5), 5) == [[20, 10, 2]] * 5

    @given(
        sizes=st.lists(st.integers(7, 30), min_size=1, max_size=5),
        folds=st.integers(2, 7),
        seed=st.integers(0, 2**32),
    )
    def test_no_fold_has_more_than_one_image_more_of_a_class_than_another(self, sizes, folds, seed):
        labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
        counts = np.array(table(labels, stratified_folds(labels, folds, seed), folds))
        assert (np.ptp(counts, axis=0) <= 1).all()
        assert counts.sum() == len(labels)

    def test_the_seed_decides_which_images_they_are(self):
        first = stratified_folds(LABELS, 4, seed=1)
        assert np.array_equal(first, stratified_folds(LABELS, 4, seed=1))
        assert not np.array_equal(first, stratified_folds(LABELS, 4, seed=2))

    def test_labels_need_not_be_without_gaps(self):
        assert np.array_equal(stratified_folds(LABELS * 3 + 5, 4), stratified_folds(LABELS, 4))

    @given(seed=st.integers(0, 2**32), folds=st.integers(2, 5))
    def test_a_group_is_in_one_fold_and_every_fold_has_one(self, seed, folds):
        draw = np.random.default_rng(seed)
        groups = np.concatenate((np.arange(20), draw.integers(0, 20, 100)))
        labels = np.arange(120) % 2
        fold_of = stratified_folds(labels, folds, seed, groups=groups)
        assert all(len(set(fold_of[groups == group])) == 1 for group in range(20))
        assert set(fold_of) == set(range(folds))

    def test_groups_of_one_size_are_dealt_evenly(self):
        groups = np.repeat(np.arange(12), 5)
        labels = np.repeat([0, 1], 30)
        assert table(labels, stratified_folds(labels, 3, groups=groups), 3) == [[10, 10]] * 3

    def test_a_small_class_counts_as_much_as_a_large_one(self):
        labels = np.repeat([0, 0, 1, 0, 1], [50, 40, 3, 5, 3])
        groups = np.repeat(["first", "second", "third"], [50, 43, 8])
        assert table(labels, stratified_folds(labels, 2, groups=groups), 2) == [[55, 3], [40, 3]]

    def test_fewer_images_of_a_class_than_folds_are_refused(self):
        with pytest.raises(ValueError, match=r"'c' has too few images for 11 folds\. Received: 10, expected 11"):
            stratified_folds(LABELS, 11, classes="abc")
        with pytest.raises(ValueError, match="The class index 2 has too few"):
            stratified_folds(LABELS, 11)

    def test_fewer_groups_than_folds_are_refused(self):
        with pytest.raises(ValueError, match=r"4 folds need 4 groups .* Received: 3\."):
            stratified_folds(LABELS, 4, groups=np.arange(160) % 3)

    def test_a_class_in_one_group_is_refused_as_it_could_not_be_learned(self):
        groups = np.concatenate((np.arange(100), np.arange(50), np.full(10, 100)))
        with pytest.raises(ValueError, match=r"All images of the class 'c' come to one of 5 folds, for lack of groups"):
            stratified_folds(LABELS, 5, classes="abc", groups=groups)


class TestFoldSplit:
    def test_the_fold_is_tested_and_the_others_are_divided(self):
        fold_of = stratified_folds(LABELS, 5)
        for fold in range(5):
            split = fold_split(fold_of, fold, LABELS, 0.25)
            assert np.array_equal(split.test, np.flatnonzero(fold_of == fold))
            assert table(LABELS, np.where(np.isin(np.arange(160), split.validation), 0, 1), 1) == [[20, 10, 2]]
            assert sorted(np.concatenate((split.train, split.validation, split.test))) == list(range(160))

    def test_a_single_image_that_is_left_is_trained_on_if_nothing_is_validated(self):
        labels = np.array([0, 0, 0, 0, 1, 1])
        fold_of = stratified_folds(labels, 2)
        assert fold_split(fold_of, 1, labels, 0).validation.size == 0
        with pytest.raises(ValueError, match="A fold leaves 1 image of the class 'b' to train on, and none"):
            fold_split(fold_of, 1, labels, 0.1, classes="ab")

    def test_a_group_is_in_one_part(self):
        groups = np.arange(160) % 16
        split = fold_split(stratified_folds(LABELS, 4, groups=groups), 2, LABELS, 0.2, groups=groups)
        parts = [set(groups[rows]) for rows in (split.train, split.validation, split.test)]
        assert sum(map(len, parts)) == 16
        assert all(parts)
