"""Copies of an image are found by their digests, whatever part, label or group they are in."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xpcnn.data.copies import first_pair, in_several, same_pictures, to_leave_out, united
from xpcnn.data.digests import digest

numbers = st.lists(st.integers(0, 6), min_size=1, max_size=30)


def digests(contents):
    return np.array([list(digest(content)) for content in contents], np.uint8)


def test_images_of_the_same_content_are_the_same_picture():
    pictures = same_pictures(digests([b"cat", b"dog", b"cat", b"owl"]))
    assert pictures[0] == pictures[2]
    assert len(set(pictures.tolist())) == 3


def test_digests_may_be_a_view():
    whole = np.arange(64, dtype=np.uint8).reshape(4, 16)
    assert len(set(same_pictures(whole[::2, 4:12]).tolist())) == 2


@given(numbers, st.randoms())
def test_a_picture_is_in_several_where_its_values_differ(pictures, random):
    values = [random.choice(["a", "b"]) for _ in pictures]
    expected = [len({v for q, v in zip(pictures, values, strict=True) if q == p}) > 1 for p in pictures]
    pictures, values = np.array(pictures), np.array(values)
    assert in_several(pictures, values).tolist() == expected
    if any(expected):
        one, other = first_pair(pictures, values)
        assert one == expected.index(True)
        assert pictures[one] == pictures[other]
        assert values[one] != values[other]


@pytest.mark.parametrize(
    ("parts", "left_out"),
    [
        (["train", "test"], [True, False]),
        (["test", "train"], [False, True]),
        (["validation", "train"], [False, True]),
        (["train", "validation", "test", "test"], [True, True, False, False]),
        (["train", "train"], [False, False]),
    ],
)
def test_a_copy_stays_where_it_counts_most(parts, left_out):
    others = ["train", "validation", "test"]
    pictures = np.array([0] * len(parts) + [1, 2, 3])
    assert to_leave_out(pictures, np.array([*parts, *others])).tolist() == [*left_out, False, False, False]


@given(numbers, st.randoms())
def test_groups_that_share_a_picture_directly_or_by_others_are_one(pictures, random):
    groups = [random.choice("uvwxyz") for _ in pictures]
    joined = united(np.array(pictures), groups)
    sets = []  # the same, as a person would do it
    for picture, group in zip(pictures, groups, strict=True):
        touched = [one for one in sets if one & {picture, group}]
        sets = [one for one in sets if one not in touched] + [set().union({picture, group}, *touched)]
    expected = [next(place for place, one in enumerate(sets) if group in one) for group in groups]
    assert len({*zip(joined.tolist(), expected, strict=True)}) == len(set(expected)) == len(set(joined.tolist()))


def test_no_images_have_no_copies():
    none = same_pictures(np.empty((0, 8), np.uint8))
    assert (len(none), len(in_several(none, none)), len(united(none, none))) == (0, 0, 0)
