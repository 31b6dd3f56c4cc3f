"""How images are decoded, as stored in a model."""

import json

import pytest

from xpcnn.data import Decoding

FIRST = {"height": 8, "width": 6, "channels": 1, "resizing": "stretch"}


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"resizing": "pad"},
        {"channels": 5, "as_channels": True},
        {"range": (0, 4095)},
        {"channels": 2, "as_channels": True, "range": ((0, 100), (-0.5, 1.5)), "page": 3},
        {"page": "max"},
        {"generation": 1},
    ],
    ids=str,
)
def test_it_survives_json(fields):
    decoding = Decoding(**{"height": 8, "width": 6, "channels": 3} | fields)
    assert Decoding.from_json(json.loads(json.dumps(decoding.to_json()))) == decoding


def test_one_range_is_that_of_every_channel():
    assert Decoding(8, 8, 3, range=(0, 4095)).ranges == ((0.0, 4095.0),) * 3
    assert Decoding(8, 8, 3).ranges is None


def test_what_version_0_1_0_wrote_is_its_generation_and_is_written_as_it_was():
    decoding = Decoding.from_json(FIRST)
    assert decoding == Decoding(8, 6, 1, generation=1)
    assert decoding.to_json() == FIRST


@pytest.mark.parametrize(
    "fields",
    [
        {"resizing": "squeeze"},
        {"as_channels": 1},
        {"channels": 0, "as_channels": True},
        {"channels": 513, "as_channels": True},
        {"page": -1},
        {"page": "min"},
        {"page": True},
        {"range": (5, 5)},
        {"range": (0, float("nan"))},
        {"range": (0, float("inf"))},
        {"range": (0, 1, 2)},
        {"range": ((0, 1), (0, 1))},
        {"range": "ab"},
        {"range": (4000000200, 4000001400)},  # float32 would leave two levels
        {"range": (0, 1e-45)},
        {"range": (-3e38, 3e38)},
        {"generation": 3},
        {"generation": 1, "resizing": "crop"},
        {"generation": 1, "range": (0, 1)},
        {"generation": 1, "page": 1},
    ],
    ids=str,
)
def test_impossible_arguments_are_refused(fields):
    with pytest.raises(ValueError, match="Received"):
        Decoding(**{"height": 8, "width": 6, "channels": 3} | fields)


@pytest.mark.parametrize(
    "change",
    [
        {"more": 1},
        {"range": [[0, 1], [0, 1]]},
        {"range": [[1, 0]]},
        {"range": [["a", "b"]]},
        {"range": {}},
        {"page": None},
        {"generation": "2"},
        {"as_channels": None},
    ],
    ids=str,
)
def test_foreign_json_is_refused(change):
    with pytest.raises(ValueError, match="Received"):
        Decoding.from_json(Decoding(8, 6, 1).to_json() | change)
