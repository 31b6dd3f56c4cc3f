"""Arrays as PNG files that any decoder reads."""

import base64
import re

import numpy as np
import pytest

from xpcnn.data.opencv import load_opencv
from xpcnn.report import pictures

cv2 = load_opencv()


def decoded(element):
    """The picture of an element, uint8 (channels, height, width)."""
    content = base64.b64decode(re.search(r"base64,([^\"]*)", element)[1])
    image = cv2.imdecode(np.frombuffer(content, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    return image[np.newaxis] if image.ndim == 2 else image[:, :, ::-1].transpose(2, 0, 1)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 5, 7), (3, 7, 5), (3, 64, 64)])
def test_a_decoder_finds_the_same_pixels(shape):
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    assert np.array_equal(decoded(pictures.img(image, "noise")), image)


def test_a_large_picture_is_shrunk_and_keeps_its_proportions():
    assert decoded(pictures.img(np.zeros((3, 400, 200), dtype=np.uint8), "")).shape == (3, 96, 48)


def test_small_pictures_keep_their_pixels():
    assert 'class="pixels"' in pictures.img(np.zeros((1, 8, 8), dtype=np.uint8), "")
    assert 'class="pixels"' not in pictures.img(np.zeros((1, 64, 64), dtype=np.uint8), "")


def test_heat_rises_in_brightness():
    brightness = pictures.heat(np.linspace(0, 1, 20)[np.newaxis], 1.0).astype(int).sum(axis=0)[0]
    assert (np.diff(brightness) > 0).all()


def test_nothing_is_black():
    assert pictures.heat(np.zeros((2, 2)), 0.0).max() <= 4


def test_the_same_number_has_the_same_colour_in_every_picture():
    one, other = pictures.heat(np.array([[0.2, 1.0]]), 2.0), pictures.heat(np.array([[2.0, 0.2]]), 2.0)
    assert np.array_equal(one[:, 0, 0], other[:, 0, 1])


def test_a_map_is_laid_over_the_place_that_it_is_of():
    corner = pictures.overlay(np.full((1, 8, 8), 128, dtype=np.uint8), np.array([[1.0, 0.0], [0.0, 0.0]]))
    warmth = corner[0].astype(int) - corner[2]
    assert warmth[0, 0] > 20
    assert np.unravel_index(corner[0].argmax(), (8, 8)) < (4, 4)
    assert corner[0, -1, -1] < corner[0, 0, 0]
