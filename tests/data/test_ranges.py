"""Values of more than 8 bits: measured on the training images, and always mapped the same after that."""

import warnings

import numpy as np
import pytest

from tests.data.conftest import save
from xpcnn.data import Decoding, load_folder, measure_range, read_image
from xpcnn.data.picture import Facts
from xpcnn.data.ranges import range_of, scaled, warn_of_lost_values, with_range

GREY = Decoding(2, 2, 1)


def facts(low=(), high=(), dtype="uint16", clipped=0.0):
    return Facts(2, 2, max(1, len(low)), "grey", dtype, 1, low, high, "00" * 8, clipped)


BYTES = facts(dtype="uint8")


def written(folder, values, dtype=np.uint16):
    """Files of one value each."""
    suffix = ".png" if dtype in (np.uint8, np.uint16) else ".tiff"
    return [save(folder / f"{i}{suffix}", np.full((2, 2), value, dtype)) for i, value in enumerate(values)]


class TestMeasuring:
    def test_it_is_the_least_and_the_greatest_value_of_the_chosen_images(self):
        some = [facts((5.0,), (9.0,)), facts((3.0,), (7.0,)), facts((0.0,), (99.0,))]
        assert range_of(some, np.array([0, 1]), GREY) == ((3.0, 9.0),)

    def test_colours_share_one_and_channels_have_their_own(self):
        some = [facts((5.0, 1.0, 8.0), (9.0, 4.0, 100.0))]
        assert range_of(some, np.array([0]), Decoding(2, 2, 3)) == ((1.0, 100.0),) * 3
        channels = Decoding(2, 2, 3, as_channels=True)
        assert range_of(some, np.array([0]), channels) == ((5.0, 9.0), (1.0, 4.0), (8.0, 100.0))

    def test_images_of_one_value_have_a_range_too(self):
        assert range_of([facts((7.0,), (7.0,))], np.array([0]), GREY) == ((7.0, 8.0),)

    def test_values_that_float32_does_not_tell_apart_are_refused(self):
        with pytest.raises(ValueError, match="too narrow"):
            with_range(GREY, [facts((2.0**30,), (2.0**30 + 256,), "int32")])

    def test_those_of_files(self, tmp_path):
        decoding = measure_range(written(tmp_path, [100, 4095]), GREY)
        assert decoding == Decoding(2, 2, 1, range=(100, 4095))
        assert read_image(tmp_path / "1.png", decoding).max() == 255

    def test_files_of_8_bits_need_none(self, tmp_path):
        assert measure_range(written(tmp_path, [1, 200], np.uint8), GREY) == GREY

    def test_one_that_is_given_stays(self):
        decoding = Decoding(2, 2, 1, range=(0, 5))
        assert with_range(decoding, [facts((0.0,), (9.0,))]) == decoding


class TestMixed:
    def test_8_and_16_bits_that_use_their_range_are_scaled_by_it(self):
        assert with_range(GREY, [BYTES, facts((0.0,), (60000.0,))]) == GREY

    @pytest.mark.parametrize(
        "deep", [facts((0.0,), (4095.0,)), facts((0.0,), (1.0,), "float32")], ids=["12 bit", "float"]
    )
    def test_8_bits_and_others_without_a_common_scale_are_refused(self, deep):
        with pytest.raises(ValueError, match=r"1 images are 8-bit and 1 are .*--range LOW HIGH"):
            with_range(GREY, [BYTES, deep])

    def test_several_depths_of_more_than_8_bits_are_refused(self):
        with pytest.raises(ValueError, match=r"have different depths, 1 of float32, 1 of uint16\. .*--range LOW HIGH"):
            with_range(GREY, [facts((0.0,), (1.0,), "float32"), facts((0.0,), (4095.0,))])


class TestMapping:
    @pytest.mark.parametrize("ranges", [((0.0, 100.0), (50.0, 150.0))])
    def test_in_memory_and_when_taken_it_is_the_same(self, tmp_path, ranges):
        raw = np.random.default_rng(0).uniform(-10, 160, (9, 2, 3, 4)).astype(np.float32)
        mapped = np.memmap(tmp_path / "raw", np.float32, "w+", shape=raw.shape)
        mapped[:] = raw
        eager, lazy = scaled(raw, ranges), scaled(mapped, ranges)
        assert isinstance(eager, np.ndarray)
        assert not isinstance(lazy, np.ndarray)
        assert (lazy.shape, lazy.dtype, len(lazy)) == (eager.shape, eager.dtype, 9)
        for rows in (slice(2, 5), np.array([8, 0]), 3):
            np.testing.assert_array_equal(lazy[rows], eager[rows])
        expected = np.clip(np.rint((raw[:, 1] - 50) * 2.55), 0, 255)
        np.testing.assert_allclose(eager[:, 1].astype(float), expected, atol=1)


class TestWarnings:
    def told(self, some, decoding):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            warn_of_lost_values(some, decoding)
        return [str(one.message) for one in caught]

    def test_of_16_bits_that_use_few_levels(self):
        (line,) = self.told([facts((0.0,), (4095.0,))], GREY)
        assert "with values only up to 4095, which leaves 16 of 256 levels" in line
        assert "(0, 4095), or data.measure_range" in line

    def test_of_many_values_outside_the_range(self):
        decoding = Decoding(2, 2, 1, range=(0, 100))
        (line,) = self.told([facts((0.0,), (900.0,), clipped=0.6), facts((0.0,), (90.0,))], decoding)
        assert line.startswith("1 image with many values outside the range 0 to 100 that becomes 0 to 255, up to 60%")

    def test_of_8_bits_under_a_wide_range(self):
        (line,) = self.told([BYTES], Decoding(2, 2, 1, range=(0, 4095)))
        assert "will be almost black" in line

    @pytest.mark.parametrize(
        ("some", "decoding"),
        [
            ([BYTES], GREY),
            ([facts((0.0,), (65000.0,))], GREY),
            ([facts((0.0,), (90.0,), clipped=0.01)], Decoding(2, 2, 1, range=(0, 100))),
            ([BYTES], Decoding(2, 2, 1, range=(0, 200))),
            ([], GREY),
        ],
    )
    def test_of_nothing_else(self, some, decoding):
        assert self.told(some, decoding) == []

    def test_where_a_folder_is_loaded(self, tmp_path):
        for name in ("a", "b"):
            written(tmp_path / name, [0, 4000])
        with pytest.warns(UserWarning, match=r"4 images of 16 bits .* leaves 16 of 256 levels"):
            load_folder(tmp_path, GREY)
