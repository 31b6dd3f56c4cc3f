"""Digests of images."""

import numpy as np
import pytest

from xpcnn.data.digests import are_known, as_array, digest, with_digests


def test_equal_content_alone_has_an_equal_digest():
    assert digest(b"a") == digest(bytearray(b"a")) == digest(np.frombuffer(b"a", np.uint8))
    assert digest(b"a") != digest(b"b")
    assert len(digest(b"a")) == 8


def test_they_are_kept_sorted_each_once():
    drawn = np.random.default_rng(0).integers(0, 3, (50, 8), dtype=np.uint8)
    drawn[:, 2:] = 0
    kept = with_digests(None, drawn)
    assert [*map(tuple, kept.tolist())] == sorted({*map(tuple, drawn.tolist())})
    assert kept.dtype == np.uint8


def test_those_of_before_are_kept():
    one, other = as_array(["00" * 7 + "05"]), as_array(["00" * 7 + "03", "00" * 7 + "05"])
    assert with_digests(one, other)[:, 7].tolist() == [3, 5]


@pytest.mark.parametrize("count", [0, 3])
def test_it_is_told_which_are_known(count):
    known = as_array(f"{number:016x}" for number in range(count))
    asked = as_array(["0" * 15 + "2", "f" * 16])
    assert are_known(asked, known).tolist() == [count == 3, False]
