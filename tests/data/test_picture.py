"""Channels, depth and scale: from the content of a file to the format of a set."""

import numpy as np
import pytest

from xpcnn.data import Decoding
from xpcnn.data.picture import Facts, make
from xpcnn.data.pixels import Pixels, Refusal

DIGEST = bytes(8)


def pixels(samples, kind, dtype=np.uint8, alpha=False):
    """A picture of 2 x 3 pixels whose sample number s is 10 (s + 1)."""
    values = np.broadcast_to(np.arange(1, samples + 1) * 10, (2, 3, samples)).astype(dtype)
    return Pixels(values, kind, alpha)


def made(picture, channels, **options):
    """The value of each channel."""
    decoding = Decoding(2, 3, channels, **options)
    return make(picture, decoding, DIGEST).image[:, 0, 0].tolist()


class TestChannels:
    @pytest.mark.parametrize(
        ("picture", "grey", "colour"),
        [
            (pixels(1, "grey"), [10], [10, 10, 10]),
            (pixels(2, "grey", alpha=True), [10], [10, 10, 10]),
            (pixels(3, "rgb"), [18], [10, 20, 30]),
            (pixels(4, "rgb", alpha=True), [18], [10, 20, 30]),
            (pixels(3, "channels"), [18], [10, 20, 30]),
        ],
        ids=["grey", "grey with alpha", "colour", "colour with alpha", "three channels"],
    )
    def test_grey_and_colour_come_of_what_there_is(self, picture, grey, colour):
        assert made(picture, 1) == grey
        assert made(picture, 3) == colour

    @pytest.mark.parametrize("samples", [2, 4, 5])
    @pytest.mark.parametrize("channels", [1, 3])
    def test_channels_that_are_no_colours_are_not_taken_for_some(self, samples, channels):
        with pytest.raises(Refusal, match=f"it has {samples} channels, which are not colours: .*--channels"):
            made(pixels(samples, "channels"), channels)

    @pytest.mark.parametrize("kind", ["channels", "rgb"])
    def test_as_channels_the_first_are_taken_as_they_are(self, kind):
        assert made(pixels(5, "channels"), 5, as_channels=True) == [10, 20, 30, 40, 50]
        assert made(pixels(5, "channels"), 2, as_channels=True) == [10, 20]
        assert made(pixels(4, kind, alpha=True), 4, as_channels=True) == [10, 20, 30, 40]
        assert made(pixels(1, "grey"), 1, as_channels=True) == [10]

    def test_too_few_channels_are_refused(self):
        with pytest.raises(Refusal, match="it has one channel, and 2 are expected"):
            made(pixels(1, "grey"), 2, as_channels=True)

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
    def test_grey_is_one_formula_in_any_depth(self, dtype):
        red = Pixels(np.array([[[200, 0, 0]]], dtype), "rgb")
        assert make(red, Decoding(1, 1, 1, range=(0, 255)), DIGEST).image.item() == 60


class TestDepth:
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.uint32, np.int32, np.float32])
    def test_a_range_is_spread_over_the_bytes_whatever_the_depth(self, dtype):
        values = np.array([[[0], [10], [60], [110], [127]]], dtype)
        picture = make(Pixels(values, "grey"), Decoding(1, 5, 1, range=(10, 110)), DIGEST)
        assert picture.image.ravel().tolist() == [0, 0, 128, 255, 255]
        assert picture.facts.clipped == pytest.approx(0.4)

    def test_each_channel_has_its_own_range(self):
        decoding = Decoding(1, 1, 2, as_channels=True, range=((0, 100), (0, 4000)))
        values = np.array([[[50, 1000]]], np.uint16)
        assert make(Pixels(values, "channels"), decoding, DIGEST).image.ravel().tolist() == [128, 64]

    def test_without_one_16_bits_are_scaled_by_their_whole_range(self):
        values = np.arange(65536, dtype=np.uint16).reshape(256, 256, 1)
        image = make(Pixels(values, "grey"), Decoding(256, 256, 1), DIGEST).image
        np.testing.assert_array_equal(image[0], np.round(values[:, :, 0] / 257))

    @pytest.mark.parametrize("dtype", [np.int16, np.uint32, np.int32, np.float32])
    def test_without_one_other_depths_are_refused(self, dtype):
        with pytest.raises(Refusal, match=f"its values are {np.dtype(dtype)}, and no range says .*--range LOW HIGH"):
            make(Pixels(np.zeros((1, 1, 1), dtype), "grey"), Decoding(1, 1, 1), DIGEST)

    def test_raw_values_are_not_scaled(self):
        values = np.array([[[7], [4095]]], np.uint16)
        picture = make(Pixels(values, "grey"), Decoding(1, 2, 1), DIGEST, raw=True)
        assert picture.image.dtype == np.float32
        assert picture.image.ravel().tolist() == [7, 4095]

    def test_depth_is_lost_only_after_the_size_is_changed(self):
        values = np.array([[[0], [0], [100], [0]]], np.uint16)
        picture = make(Pixels(values, "grey"), Decoding(1, 2, 1, range=(0, 100)), DIGEST)
        assert picture.image.ravel().tolist() == [0, 128]


class TestFacts:
    def test_they_tell_what_was_found(self):
        picture = Pixels(np.array([[[7, 70], [9, 50]]], np.uint16), "channels", pages=4)
        facts = make(picture, Decoding(1, 2, 2, as_channels=True), bytes(range(8))).facts
        assert facts == Facts(1, 2, 2, "channels", "uint16", 4, (7.0, 50.0), (9.0, 70.0), "0001020304050607")
        assert facts.is_deep

    def test_of_8_bits_no_values_are_told(self):
        facts = make(pixels(4, "rgb", alpha=True), Decoding(2, 3, 3), DIGEST).facts
        assert (facts.samples, facts.low, facts.high, facts.is_deep) == (3, (), (), False)

    def test_they_survive_json(self):
        facts = make(pixels(2, "channels", np.float32), Decoding(2, 3, 2, as_channels=True, range=(0, 9)), DIGEST).facts
        assert Facts.from_json([list(value) if isinstance(value, tuple) else value for value in facts]) == facts

    @pytest.mark.parametrize("place", range(10))
    def test_foreign_ones_are_refused(self, place):
        values = list(make(pixels(1, "grey"), Decoding(2, 3, 1), DIGEST).facts)
        values[place] = None
        with pytest.raises((TypeError, ValueError)):
            Facts.from_json(values)
