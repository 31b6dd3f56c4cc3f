"""The bundled digits are the published ones."""

from importlib.resources import files

import numpy as np
import pytest

from xpcnn.data import load_digits


def test_there_are_1797_grey_digits_of_8_by_8():
    digits = load_digits()
    assert digits.x.shape == (1797, 1, 8, 8)
    assert (digits.x.dtype, digits.y.dtype) == (np.uint8, np.int64)
    assert digits.classes == tuple("0123456789")
    assert np.bincount(digits.y).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_the_counts_0_to_16_fill_the_bytes_0_to_255():
    expected = np.round(np.arange(17) * 255 / 16).astype(np.uint8)
    assert np.unique(load_digits().x).tolist() == expected.tolist()


def test_the_first_digit_is_the_published_zero():
    row = [0, 0, 5, 13, 9, 1, 0, 0]
    digits = load_digits()
    assert digits.y[0] == 0
    assert digits.x[0, 0, 0].tolist() == np.round(np.array(row) * 255 / 16).tolist()


def test_the_whole_set_is_that_of_scikit_learn():
    datasets = pytest.importorskip("sklearn.datasets")
    original, digits = datasets.load_digits(), load_digits()
    np.testing.assert_array_equal(digits.x[:, 0], np.round(original.images * 255 / 16))
    np.testing.assert_array_equal(digits.y, original.target)


def test_the_attribution_lies_beside_the_data():
    text = files("xpcnn.data").joinpath("digits.LICENSE.txt").read_text(encoding="utf-8")
    for part in ("Alpaydin", "Kaynak", "CC BY 4.0", "10.24432/C50P49"):
        assert part in text
