import re

import numpy as np
import pytest

from xpcnn import data
from xpcnn.model import inputs

SHAPE = (3, 4, 5)


def drawn(*shape):
    return np.random.default_rng(0).normal(size=shape)


def test_a_batch_is_taken_as_it_is():
    x = drawn(2, *SHAPE)
    assert inputs.images(x, SHAPE) is x


def test_one_image_gets_its_batch_axis():
    x = drawn(*SHAPE)
    np.testing.assert_array_equal(inputs.images(x, SHAPE), x[None])
    np.testing.assert_array_equal(inputs.images(x.transpose(1, 2, 0), SHAPE, "channels_last"), x[None])


def test_channels_may_come_last():
    x = drawn(2, *SHAPE)
    np.testing.assert_array_equal(inputs.images(x.transpose(0, 2, 3, 1), SHAPE, "channels_last"), x)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float16, np.float64, bool])
def test_all_kinds_of_numbers_are_images(dtype):
    x = np.ones((2, *SHAPE), dtype)
    assert inputs.images(x, SHAPE).dtype == dtype


def test_lists_become_arrays():
    x = drawn(2, *SHAPE)
    np.testing.assert_array_equal(inputs.images(x.tolist(), SHAPE), x)


def test_anything_that_has_a_shape_and_rows_is_taken_without_being_read():
    grey = data.Preprocessing(data.Decoding(4, 5, 3), (0.0,) * 3, (1.0,) * 3)
    lazy = data.Normalized(np.zeros((7, *SHAPE), np.uint8), np.arange(2), grey)
    assert inputs.images(lazy, SHAPE) is lazy


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (drawn(2, 1, 4, 5), "images of shape (3, 4, 5), (channels, height, width). "
                            "Received an array of shape (2, 1, 4, 5). It has 1 channels, not 3."),
        (drawn(2, 4, 5, 3), r'Received an array of shape (2, 4, 5, 3). Use data_format="channels_last".'),
        (drawn(4, 5, 3), r'Received an array of shape (4, 5, 3). Use data_format="channels_last".'),
        (drawn(2, 3, 5, 4), r"Received an array of shape (2, 3, 5, 4)."),
        (drawn(60), r"Received an array of shape (60,)."),
        (drawn(2, 60), r"Received an array of shape (2, 60)."),
        (np.float64(1), r"Received an array of shape ()."),
        (drawn(0, *SHAPE), r"There are no images: received an array of shape (0, 3, 4, 5)."),
        ([], r"Received an array of shape (0,)."),
    ],
)  # fmt: skip
def test_images_of_another_shape_are_refused_with_advice(x, message):
    with pytest.raises(ValueError, match=re.escape(message) + "$"):
        inputs.images(x, SHAPE)


def test_grey_images_without_channels_are_told_of_their_axis():
    with pytest.raises(ValueError, match=r"shape \(9, 4, 5\)\. Add a channel axis to grey images: x\[:, None\]\.$"):
        inputs.images(drawn(9, 4, 5), (1, 4, 5))


def test_flat_models_take_flat_samples():
    assert inputs.images(drawn(2, 7), (7,)).shape == (2, 7)
    assert inputs.images(drawn(7), (7,)).shape == (1, 7)
    with pytest.raises(ValueError, match=r"shape \(2, 6\)\.$"):
        inputs.images(drawn(2, 6), (7,))


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf, 1e39])
@pytest.mark.parametrize("row", [0, 1500])
def test_values_that_float32_cannot_hold_are_refused_and_their_image_is_named(row, wrong):
    x = np.zeros((1501, 1, 1, 2))
    x[row, 0, 0, 1] = wrong
    with pytest.raises(ValueError, match=f"must be finite.*first in image {row}"):
        inputs.images(x, (1, 1, 2))


@pytest.mark.parametrize(
    "x", [np.array([["a"]]), np.array([[None]]), np.ones((1, 1), complex), np.ones((1, 1), "M8[s]")]
)
def test_what_is_no_number_is_no_image(x):
    with pytest.raises(TypeError, match=r"Images must be arrays of numbers. Received an array of dtype"):
        inputs.images(x, (1,))


def test_an_array_of_objects_says_what_is_in_it():
    table = np.array([["a.png", 1.0]], object)
    with pytest.raises(TypeError, match=r"with 'a\.png' as its first value\. Read files with data\.load_folder"):
        inputs.images(table, (2,))


def test_lists_of_different_lengths_are_refused():
    with pytest.raises(TypeError, match=r"inhomogeneous.*Received: list\. Give arrays of the same shape"):
        inputs.images([[1, 2], [3]], (2,))


def test_generators_of_images_and_of_batches_are_read_to_their_end():
    x = drawn(5, *SHAPE)
    np.testing.assert_array_equal(inputs.images((one for one in x), SHAPE), x)
    np.testing.assert_array_equal(inputs.images(iter([x[:2], x[2:]]), SHAPE), x)
    with pytest.raises(ValueError, match=r"Received an array of shape \(0,\)"):
        inputs.images(iter([]), SHAPE)
    with pytest.raises(ValueError, match=r"All images must have the same shape. Received: \(3, 4, 5\) and \(3, 4, 6\)"):
        inputs.images(iter([x[0], drawn(3, 4, 6)]), SHAPE)


def test_pairs_of_images_and_labels_become_two_arrays():
    x, y = drawn(5, *SHAPE), np.array([0, 1, 2, 1, 0])
    for given in (zip(x, y, strict=True), [[x[:2], y[:2]], [x[2:], y[2:]]]):
        images, labels = inputs.pairs(given, len(SHAPE))
        np.testing.assert_array_equal(images, x)
        np.testing.assert_array_equal(labels, y)


@pytest.mark.parametrize("wrong", [drawn(2, *SHAPE), 7, [], [1, 2], iter([(1, 2, 3)]), "images"])
def test_without_labels_anything_but_pairs_is_refused(wrong):
    with pytest.raises(TypeError, match=r"Without y, x must contain pairs of images and labels"):
        inputs.pairs(wrong, len(SHAPE))


def test_a_file_mapped_into_memory_is_taken_without_being_read(tmp_path):
    np.save(tmp_path / "x.npy", drawn(4, *SHAPE))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert inputs.images(mapped, SHAPE) is mapped


def test_unknown_data_formats_are_refused():
    with pytest.raises(ValueError, match=r"one of channels_first, channels_last. Received: 'NHWC'"):
        inputs.images(drawn(2, *SHAPE), SHAPE, "NHWC")


def test_labels_are_as_many_as_images():
    assert inputs.labels([1, 2, 3], 3).tolist() == [1, 2, 3]
    for y in ([1, 2], 3, []):
        with pytest.raises(ValueError, match=r"There are 3 images, so 3 labels are needed. Received an array of shape"):
            inputs.labels(y, 3)


LABELS = np.array([0, 2, 1, 2])


def weights(sample_weight=None, class_weight=None, labels=LABELS, width=3):
    combined = inputs.sample_weights(sample_weight, class_weight, labels, 4, width)
    return None if combined is None else combined.tolist()


def test_without_weights_there_are_none():
    assert weights() is None


def test_weights_of_classes_and_samples_are_multiplied():
    assert weights([1, 2, 3, 4]) == [1, 2, 3, 4]
    assert weights(class_weight={2: 5}) == [1, 5, 1, 5]
    assert weights(class_weight=(1, 2, 3)) == [1, 3, 2, 3]
    assert weights([1, 2, 3, 4], {2: 5, 0: 0}) == [0, 10, 3, 20]


def test_one_output_tells_two_classes_apart():
    assert weights(class_weight={1: 3}, labels=np.array([0, 1, 1, 0]), width=1) == [1, 3, 3, 1]


@pytest.mark.parametrize("given", [[1, 2], {3: 1.0}, {-1: 1.0}, {"0": 1.0}, []])
def test_weights_of_other_classes_are_refused(given):
    with pytest.raises(ValueError, match=r"one weight for each of the 3 classes, 0 to 2. Received: "):
        weights(class_weight=given)


@pytest.mark.parametrize("wrong", [-1, np.nan, np.inf, "1", None, True])
def test_a_weight_is_a_number_from_0_on(wrong):
    with pytest.raises(ValueError, match="A class weight must be a number"):
        weights(class_weight={0: wrong})
    if wrong is not True:
        with pytest.raises(ValueError, match=r"[Ss]ample.weight"):
            weights([wrong, 1, 1, 1])


def test_as_many_weights_as_samples():
    with pytest.raises(ValueError, match="each of the 4 samples"):
        weights([1, 2, 3])


def test_weights_of_classes_need_classes():
    with pytest.raises(ValueError, match=r"not classes, so class_weight does not apply. Use sample_weight"):
        weights(class_weight={0: 1}, labels=None)
