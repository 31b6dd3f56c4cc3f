import numpy as np
import pytest

from xpcnn.targets import check_weights, encode


@pytest.mark.parametrize(
    "y",
    [
        [0, 2, 1],
        [[0], [2], [1]],
        [0.0, 2.0, 1.0],
        np.array([0, 2, 1], np.uint8),
        np.eye(3)[[0, 2, 1]].astype(bool),
    ],
)
def test_labels_of_any_kind_become_one_hot_rows(y):
    rows, labels = encode(y, width=3)
    assert rows.dtype == np.float32
    assert rows.tolist() == [[1, 0, 0], [0, 0, 1], [0, 1, 0]]
    assert labels.dtype == np.int64
    assert labels.tolist() == [0, 2, 1]


def test_soft_rows_stay_and_are_labelled_by_their_largest_entry():
    soft = np.array([[0.2, 0.8], [0.6, 0.4]])
    rows, labels = encode(soft, width=2, dtype=np.float64)
    np.testing.assert_array_equal(rows, soft)
    assert labels.tolist() == [1, 0]


def test_rows_that_are_no_distribution_have_no_labels():
    assert encode([[1.0, 1.0], [0.0, 1.0]], width=2)[1] is None
    assert encode([[-1.0, 2.0]], width=2)[1] is None


@pytest.mark.parametrize("y", [[0, 1, 1], [[0], [1], [1]], [0.2, 0.9, 0.8]])
def test_one_output_takes_the_values_themselves(y):
    rows, labels = encode(y, width=1)
    np.testing.assert_array_equal(rows, np.asarray(y, np.float32).reshape(3, 1))
    assert labels.tolist() == [0, 1, 1]
    assert encode([0.5, 7.0], width=1)[1] is None


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([0, 3], "classes from 0 to 2.*Received: labels from 0 to 3"),
        ([-1, 2], "Received: labels from -1 to 2"),
        ([0.0, 1e30], r"Received: labels from 0.0 to 1e\+30"),
        ([0, 1.5], r"integers. Received: 1.5"),
        ([0, float("nan")], "finite. Received: 1 NaN, infinite"),
        ([[0, 1, float("inf")]], "finite. Received: 1"),
        ([[0.0, 1.0, 1e300]], "finite. Received: 1"),
        (np.eye(5), "Received one-hot rows of width 5, but the model has 3 outputs"),
        (np.zeros((2, 3, 1)), r"Received: an array of shape \(2, 3, 1\)"),
        (3, r"Received: an array of shape \(\)"),
        ([], r"Received: an array of shape \(0,\)"),
    ],
)
def test_impossible_targets_are_refused(y, message):
    with pytest.raises(ValueError, match=message):
        encode(y, width=3)


@pytest.mark.parametrize(
    ("y", "received"),
    [
        (["cat", "dog"], r"'cat' \(<U3\)"),
        ([["cat"], ["dog"]], "'cat'"),
        (np.array(["cat", None], object), r"'cat' \(object\)"),
        (np.array([b"cat"]), "b'cat'"),
        (np.array([3, 5], object), r"3 \(object\)"),
    ],
)
def test_labels_that_are_no_numbers_are_refused_with_what_makes_numbers_of_them(y, received):
    message = (
        rf"^Labels must be integers\. Received: {received}.*classes, y = np\.unique\(labels, return_inverse=True\)"
    )
    with pytest.raises(ValueError, match=rf"{message}.* or use XPCNNClassifier"):
        encode(y, width=3)


def test_weights_become_a_float64_list():
    for weights in ([1, 0, 2], [[1], [0], [2]], np.array([1, 0, 2], np.float32)):
        checked = check_weights(weights, 3)
        assert checked.dtype == np.float64
        assert checked.tolist() == [1, 0, 2]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0, 2.0], r"each of the 3 samples. Received: an array of shape \(2,\)"),
        ([[1.0, 2.0, 3.0]], r"Received: an array of shape \(1, 3\)"),
        (["1", "2", "3"], "dtype <U1"),
        ([1.0, -1.0, 0.0], "not negative.*Received: weights from -1 to 1"),
        ([1.0, np.nan, 0.0], "finite"),
        ([1.0, np.inf, 0.0], "finite"),
    ],
)
def test_impossible_weights_are_refused(weights, message):
    with pytest.raises(ValueError, match=message):
        check_weights(weights, 3)
