"""Images of any shape, brought to the same one."""

import numpy as np
import pytest

from xpcnn.data.resizing import resized


def disc(height, width):
    """A white disc as large as it fits, in the centre of a picture, (height, width, 1)."""
    rows, columns = np.mgrid[:height, :width]
    middle = ((height - 1) / 2, (width - 1) / 2)
    inside = np.hypot(rows - middle[0], columns - middle[1]) < 0.4 * min(height, width)
    return np.where(inside, 255, 0).astype(np.uint8)[:, :, np.newaxis]


def extent(image):
    """How many rows and columns hold something white."""
    white = image[:, :, 0] > 127
    return int(white.any(axis=1).sum()), int(white.any(axis=0).sum())


@pytest.mark.parametrize("shape", [(40, 80), (80, 40), (40, 41), (10, 30)])
def test_stretching_changes_the_proportions_and_cropping_and_padding_do_not(shape):
    image = disc(*shape)
    rows, columns = extent(resized(image, 32, 32, "stretch"))
    assert (rows > columns) == (shape[1] > shape[0]) or abs(rows - columns) <= 1
    for way in ("crop", "pad"):
        rows, columns = extent(resized(image, 32, 32, way))
        assert abs(rows - columns) <= 1
        assert rows > 5


def test_cropping_keeps_the_largest_centred_part():
    image = np.arange(8, dtype=np.uint8).reshape(1, 8, 1).repeat(4, axis=0)
    assert resized(image, 4, 4, "crop")[0, :, 0].tolist() == [2, 3, 4, 5]
    assert resized(image.swapaxes(0, 1), 4, 4, "crop")[:, 0, 0].tolist() == [2, 3, 4, 5]


def test_padding_keeps_all_and_repeats_the_edge():
    image = np.array([[10, 20, 30, 40]] * 2, dtype=np.uint8)[:, :, np.newaxis]
    image[1] += 100
    assert resized(image, 4, 4, "pad")[:, :, 0].tolist() == [[10, 20, 30, 40]] * 2 + [[110, 120, 130, 140]] * 2


@pytest.mark.parametrize("way", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1), (3, 7)])
@pytest.mark.parametrize("size", [(1, 1), (5, 9), (64, 64)])
def test_any_shape_comes_to_any_size(way, shape, size):
    image = np.full((*shape, 2), 77, np.uint8)
    assert (resized(image, *size, way) == 77).all()
    assert resized(image, *size, way).shape == (*size, 2)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 9])
def test_any_depth_and_number_of_channels_is_resized_channel_by_channel(dtype, channels):
    image = np.random.default_rng(0).integers(0, 200, (12, 10, channels)).astype(dtype)
    whole = resized(image, 5, 17)
    assert whole.dtype == dtype
    for channel in range(channels):
        alone = resized(np.ascontiguousarray(image[:, :, channel : channel + 1]), 5, 17)[:, :, 0]
        np.testing.assert_allclose(whole[:, :, channel].astype(float), alone, atol=1)


@pytest.mark.parametrize("way", ["stretch", "crop", "pad"])
def test_a_picture_of_the_size_stays_as_it_is(way):
    image = np.random.default_rng(0).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    np.testing.assert_array_equal(resized(image, 7, 9, way), image)
