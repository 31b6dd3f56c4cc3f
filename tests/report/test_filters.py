"""What filters respond to is found where it is."""

import re

import numpy as np
import pytest

import xpcnn
from tests.report.test_pictures import decoded
from xpcnn import layers, presets
from xpcnn.data import Decoding, LabelledImages, Preprocessing
from xpcnn.program.network import Network
from xpcnn.report import filters


def section_of(network, x):
    images = LabelledImages(x=x, y=np.zeros(len(x), dtype=np.int64), classes=("cat",), paths=None)
    channels, height, width = x.shape[1:]
    preprocessing = Preprocessing(Decoding(height, width, channels), (0.0,) * channels, (255.0,) * channels)
    return filters.filters_section(network, images, np.arange(len(x)), preprocessing, "cat")


def pixels(count, *shape):
    return np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8)


def test_of_many_convolutions_three_are_shown_the_first_and_the_last_among_them_and_no_gates():
    network = Network(presets.get("mobilenet-v3-small")((3, 64, 64), 3), (3, 64, 64), np)
    section = section_of(network, pixels(2, 3, 64, 64))
    assert re.findall("<h3>([^ ]+) ", section) == ["features.0.0", "features.6.block.1.0", "features.12.0"]
    assert "of features.12.0" in section
    assert "fc1" not in re.sub('base64,[^"]*', "", section)


def test_without_a_convolution_there_is_no_section():
    assert section_of(Network([layers.Flatten(), layers.Dense(2)], (1, 8, 8), np), pixels(2, 1, 8, 8)) == ""


def test_the_parts_are_those_of_the_strongest_responses_of_different_images():
    model = xpcnn.Sequential([layers.Conv2D(1, 1), layers.Flatten(), layers.Dense(2)], (1, 16, 16), np)
    names = {"conv2d_1.weight": np.ones((1, 1, 1, 1))}
    model.set_weights({name: names.get(name, np.zeros_like(value)) for name, value in model.get_weights().items()})
    x = np.zeros((5, 1, 16, 16), dtype=np.uint8)
    for place, value in enumerate((10, 250, 40, 200, 100)):  # one bright point in each image
        x[place, 0, 3 * place, 2 * place] = value
    section = section_of(model.network, x)
    parts = [decoded(one) for one in re.findall('<img[^>]*alt="a part[^>]*>', section)]
    assert [int(one.max()) for one in parts] == [250, 200, 100]
    assert {one.shape for one in parts} == {(1, 4, 4)}


@pytest.mark.parametrize(
    ("shape", "maps", "place", "expected"),
    [
        ((1, 16, 16), (16, 16), (0, 0), (slice(0, 4), slice(0, 4))),
        ((1, 16, 16), (16, 16), (15, 8), (slice(12, 16), slice(6, 10))),
        ((1, 16, 32), (4, 8), (1, 7), (slice(0, 16), slice(16, 32))),
        ((1, 64, 64), (16, 16), (8, 8), (slice(26, 42), slice(26, 42))),
        ((1, 2, 2), (1, 1), (0, 0), (slice(0, 2), slice(0, 2))),
    ],
)
def test_a_part_lies_around_the_strongest_place_and_within_the_image(shape, maps, place, expected):
    image, response = pixels(1, *shape)[0], np.zeros(maps)
    response[place] = 1
    assert np.array_equal(filters.part(image, response), image[:, expected[0], expected[1]])
