"""Labels as arrays: one of each image, or several."""

import numpy as np
import pytest

from xpcnn import data
from xpcnn.data import labels


def drawn(n=400, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.random((n, 4)) < (0.5, 0.3, 0.1, 0.03)).astype(np.int64)


def test_labels_of_one_kind_are_their_own_strata():
    np.testing.assert_array_equal(labels.strata(np.array([0, 2, 1])), [0, 2, 1])


def test_an_image_is_drawn_by_the_rarest_of_its_labels():
    y = drawn()
    strata = labels.strata(y)
    assert y.sum(axis=0).tolist() == sorted(y.sum(axis=0), reverse=True)
    for row, stratum in zip(y, strata, strict=True):
        assert stratum == (np.flatnonzero(row).max() if row.any() else 4)


def test_parts_have_each_label_as_often_as_the_whole():
    y = drawn()
    split = data.stratified_split(labels.strata(y), 0.25, 0.2, seed=1)
    for part, share in ((split.test, 0.25), (split.validation, 0.15), (split.train, 0.6)):
        expected = share * y.sum(axis=0)
        assert (np.abs(y[part].sum(axis=0) - expected) < 0.2 * expected + 1.5).all()


def test_a_stratum_that_is_too_small_joins_the_largest():
    y = np.array([[1, 0, 0], [1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 1], [0, 0, 0]])
    assert labels.strata(y).tolist() == [0, 0, 0, 0, 0, 0]
    assert labels.strata(y, least=1).tolist() == [0, 0, 0, 1, 2, 3]


@pytest.mark.parametrize(("label", "text"), [(1, "b"), ([1, 0, 1], "a;c"), ([0, 0, 0], ""), ([0, 1, 0], "b")])
def test_labels_are_text(label, text):
    assert labels.text(np.array(label), ("a", "b", "c")) == text
