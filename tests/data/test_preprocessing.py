"""Normalisation: measured on the training part, stored, and the same for every way of accessing the images."""

import json
import math

import numpy as np
import pytest

from xpcnn.data import Decoding, Normalized, Preprocessing, preprocessing

COLOUR = Decoding(height=4, width=5, channels=3)
GREY = Decoding(height=1, width=1, channels=1)


def random_images(n=7, channels=3, height=4, width=5):
    return np.random.default_rng(0).integers(0, 256, (n, channels, height, width), dtype=np.uint8)


class TestMeasure:
    @pytest.mark.parametrize("block", [1, 100, 2**20])
    def test_mean_and_deviation_are_those_of_each_channel_whatever_the_block(self, monkeypatch, block):
        monkeypatch.setattr(preprocessing, "_BLOCK_ELEMENTS", block)
        images = random_images()
        measured = Preprocessing.measure(images, COLOUR)
        assert measured.mean == pytest.approx(images.mean(axis=(0, 2, 3)))
        assert measured.std == pytest.approx(images.std(axis=(0, 2, 3)))

    def test_only_the_chosen_rows_are_measured(self):
        images, rows = random_images(), np.array([5, 0, 2])
        assert Preprocessing.measure(images, COLOUR, rows=rows) == Preprocessing.measure(images[rows], COLOUR)

    def test_the_normalised_set_has_mean_0_and_deviation_1(self):
        images = random_images()
        x = Preprocessing.measure(images, COLOUR).normalize(images)
        assert x.dtype == np.float32
        np.testing.assert_allclose(x.mean(axis=(0, 2, 3)), 0, atol=1e-6)
        np.testing.assert_allclose(x.std(axis=(0, 2, 3)), 1, rtol=1e-6)

    @pytest.mark.parametrize("value", [0, 200, 0.1])
    def test_a_constant_channel_has_deviation_1_and_normalises_to_zeros(self, value):
        images = np.full((3, 1, 7, 9), value)
        measured = Preprocessing.measure(images, Decoding(7, 9, 1))
        assert measured.std == (1.0,)
        assert not measured.normalize(images).any()

    def test_floats_far_from_zero_keep_their_deviation(self):
        images = 1e6 + np.random.default_rng(0).normal(size=(50, 1, 1, 1))
        measured = Preprocessing.measure(images, GREY)
        assert measured.std[0] == pytest.approx(images.std())

    @pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 1, 4, 5), (2, 3, 4)])
    def test_no_images_or_others_are_refused(self, shape):
        with pytest.raises(ValueError, match=r"Received: \d of an array of shape"):
            Preprocessing.measure(np.zeros(shape), COLOUR)

    def test_values_that_are_not_finite_are_refused(self):
        with pytest.raises(ValueError, match="finite"):
            Preprocessing.measure(np.full((2, 1, 1, 1), np.nan), GREY)


class TestNormalize:
    def test_it_is_x_minus_mean_over_deviation_of_the_channel(self):
        images = random_images()
        stored = Preprocessing(COLOUR, (10.0, 20.0, 30.0), (1.0, 2.0, 4.0))
        expected = (images - np.reshape([10.0, 20.0, 30.0], (3, 1, 1))) / np.reshape([1.0, 2.0, 4.0], (3, 1, 1))
        np.testing.assert_allclose(stored.normalize(images), expected, rtol=1e-6)
        np.testing.assert_allclose(stored.normalize(images.astype(np.float64)), expected, rtol=1e-6)

    @pytest.mark.parametrize("per_image", [False, True])
    @pytest.mark.parametrize("dtype", [np.uint8, np.float32])
    def test_the_images_it_is_given_stay_as_they_are(self, per_image, dtype):
        images = random_images().astype(dtype)
        before = images.copy()
        Preprocessing.measure(images, COLOUR, per_image).normalize(images)
        np.testing.assert_array_equal(images, before)

    @pytest.mark.parametrize("shape", [(2, 1, 4, 5), (3, 4, 5)])
    def test_another_shape_is_refused(self, shape):
        stored = Preprocessing(COLOUR, (0.0,) * 3, (1.0,) * 3)
        with pytest.raises(ValueError, match=r"shape \(n, 3, height, width\). Received"):
            stored.normalize(np.zeros(shape, dtype=np.uint8))


class TestPerImage:
    stored = Preprocessing.measure(random_images(), COLOUR, per_image=True)

    def test_every_image_gets_mean_0_and_deviation_1_over_all_its_values(self):
        x = self.stored.normalize(random_images())
        assert x.dtype == np.float32
        np.testing.assert_allclose(x.mean(axis=(1, 2, 3)), 0, atol=1e-6)
        np.testing.assert_allclose(x.std(axis=(1, 2, 3)), 1, rtol=1e-5)

    def test_it_does_not_depend_on_the_other_images(self):
        images = random_images()
        np.testing.assert_array_equal(self.stored.normalize(images)[3:4], self.stored.normalize(images[3:4]))

    def test_it_is_right_for_images_whose_axes_were_moved(self):
        images = random_images()
        moved = np.ascontiguousarray(images.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
        np.testing.assert_array_equal(self.stored.normalize(moved), self.stored.normalize(images))

    @pytest.mark.parametrize("value", [0, 255, 0.1])
    def test_a_constant_image_gives_zeros(self, value):
        assert not self.stored.normalize(np.full((2, 3, 31, 37), value)).any()

    def test_no_images_give_no_images(self):
        assert self.stored.normalize(np.zeros((0, 3, 4, 5), dtype=np.uint8)).shape == (0, 3, 4, 5)

    def test_nothing_is_measured(self):
        assert (self.stored.mean, self.stored.std) == ((0.0,) * 3, (1.0,) * 3)


class TestJson:
    @pytest.mark.parametrize("per_image", [False, True])
    def test_it_survives_json(self, per_image):
        measured = Preprocessing.measure(random_images(), COLOUR, per_image)
        assert Preprocessing.from_json(json.loads(json.dumps(measured.to_json()))) == measured

    def test_the_fields_are_those_of_every_model_file(self):
        fields = {
            "decoding": COLOUR.to_json(),
            "mean": [1.0, 2.0, 3.0],
            "deviation": [4.0, 5.0, 6.0],
            "per_image": False,
        }
        read = Preprocessing.from_json(fields)
        assert (read.mean, read.std) == ((1.0, 2.0, 3.0), (4.0, 5.0, 6.0))
        assert read.to_json() == fields

    @pytest.mark.parametrize(
        "change",
        [
            {"mean": [0.0]},
            {"mean": [0.0, 0.0, math.nan]},
            {"mean": [0.0, 0.0, math.inf]},
            {"mean": [0.0, 0.0, 10**400]},
            {"mean": [0.0, 0.0, 1e200]},
            {"mean": [0.0, 0.0, "0"]},
            {"mean": [0.0, 0.0, True]},
            {"mean": "000"},
            {"mean": None},
            {"deviation": [1.0, 1.0, 0.0]},
            {"deviation": [1.0, 1.0, -1.0]},
            {"deviation": [1.0, 1.0, 1e-60]},
            {"deviation": {"0": 1.0}},
            {"per_image": 1},
            {"per_image": "no"},
            {"decoding": None},
            {"decoding": {"height": 4}},
            {"surprise": 1},
        ],
    )
    def test_foreign_json_is_refused(self, change):
        fields = Preprocessing(COLOUR, (0.0,) * 3, (1.0,) * 3).to_json()
        with pytest.raises(ValueError, match="Received"):
            Preprocessing.from_json({**fields, **change})

    @pytest.mark.parametrize("fields", [None, [], "text", {}, {"mean": [0.0]}])
    def test_json_without_the_fields_is_refused(self, fields):
        with pytest.raises(ValueError, match="Received"):
            Preprocessing.from_json(fields)


class TestNormalized:
    images = random_images()
    stored = Preprocessing.measure(images, COLOUR)
    rows = np.array([6, 1, 4, 2])
    view = Normalized(images, rows, stored)

    def test_it_looks_like_a_float32_array(self):
        assert self.view.shape == (4, 3, 4, 5)
        assert self.view.ndim == 4
        assert self.view.dtype == np.float32
        assert len(self.view) == 4

    @pytest.mark.parametrize("chosen", [slice(None), slice(1, 3), slice(4, 9), np.array([3, 0, 0]), np.array([], int)])
    def test_indexing_gives_the_normalised_images_of_those_rows(self, chosen):
        taken = self.view[chosen]
        assert taken.dtype == np.float32
        np.testing.assert_array_equal(taken, self.stored.normalize(self.images[self.rows])[chosen])
