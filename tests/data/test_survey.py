"""A first look at a set of images."""

import numpy as np
import pytest

from tests.data.conftest import save
from xpcnn.data.survey import Look, look, side


def test_it_sees_size_channels_and_depth(tmp_path):
    paths = [
        save(tmp_path / "1.png", np.zeros((5, 7), np.uint16)),
        save(tmp_path / "2.jpg", np.zeros((9, 4, 3), np.uint8)),
        save(tmp_path / "3.png", np.zeros((2, 3, 4), np.uint8)),
    ]
    (tmp_path / "4.png").write_bytes(b"none")
    assert look([*paths, tmp_path / "4.png"]) == [
        Look(5, 7, 1, "grey", "uint16"),
        Look(9, 4, 3, "rgb", "uint8"),
        Look(2, 3, 3, "rgb", "uint8"),
    ]


def test_of_many_it_looks_at_some_that_are_spread_over_all(tmp_path):
    paths = [save(tmp_path / f"{i}.png", np.zeros((1, i + 1), np.uint8)) for i in range(200)]
    widths = [one.width for one in look(paths)]
    assert len(widths) < 64
    assert widths[0] < 10
    assert widths[-1] > 190


@pytest.mark.parametrize(
    ("sizes", "chosen"),
    [
        ([(28, 28)], 28),
        ([(32, 20)] * 3 + [(500, 500)], 32),
        ([(360, 363)], 64),
        ([(3, 2)], 8),
        ([], 64),
    ],
)
def test_the_side_is_that_of_the_pictures_within_reason(sizes, chosen):
    assert side([Look(height, width, 1, "grey", "uint8") for height, width in sizes]) == chosen
