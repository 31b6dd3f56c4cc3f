"""Every draw depends on its key alone; dropout masks do not depend on how a batch is divided."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xpcnn import random


def keep_mask(shape=(8, 5), keep=0.5, first_row=0, seed=0, step=0, stream=0):
    return random.keep_mask(shape, keep, random.MaskKey(seed, step, stream, first_row))


def test_the_same_key_gives_the_same_numbers_whatever_was_drawn_before():
    first = random.generator(3, "shuffle", 4).random(5)
    random.generator(3, "weights").random(100)
    np.testing.assert_array_equal(random.generator(3, "shuffle", 4).random(5), first)


def test_every_part_of_the_key_counts():
    keys = [(seed, purpose, *rest) for seed in (0, 1) for purpose in random.PURPOSES for rest in ((), (1,), (0, 1))]
    numbers = [random.generator(*key).random() for key in keys]
    assert len(set(numbers)) == len(keys)


def test_purposes_keep_their_places_because_the_place_is_part_of_the_key():
    assert random.PURPOSES[:6] == ("weights", "shuffle", "split", "augmentation", "dropout", "sample")


def test_an_unknown_purpose_is_an_error():
    with pytest.raises(ValueError, match="not in tuple"):
        random.generator(0, "lunch")


@pytest.mark.parametrize("seed", [-1, 1.0, 1.5, "1", None, True, np.float64(2), np.bool_(True), [1]])
def test_seeds_that_are_no_whole_numbers_from_0_on_are_refused(seed):
    with pytest.raises(ValueError, match="integer from 0"):
        random.check_seed(seed)
    with pytest.raises(ValueError, match="Received"):
        random.generator(seed, "weights")
    with pytest.raises(ValueError, match="Received"):
        keep_mask(seed=seed)


@pytest.mark.parametrize("seed", [0, 7, np.int64(7), np.uint8(7), 2**63])
def test_whole_numbers_are_seeds(seed):
    checked = random.check_seed(seed)
    assert type(checked) is int
    assert checked == seed
    np.testing.assert_array_equal(keep_mask(seed=seed), keep_mask(seed=checked))


@given(
    row=st.lists(st.integers(1, 5), min_size=0, max_size=3).map(tuple),
    cuts=st.lists(st.integers(0, 12), max_size=4).map(sorted),
    step=st.integers(0, 2**40),
)
def test_a_cut_batch_gets_the_mask_of_the_whole(row, cuts, step):
    whole = keep_mask((12, *row), step=step)
    pieces = [
        keep_mask((end - start, *row), first_row=start, step=step) for start, end in itertools.pairwise([0, *cuts, 12])
    ]
    np.testing.assert_array_equal(np.concatenate(pieces), whole)


def test_masks_are_booleans_of_the_shape_asked_for():
    mask = keep_mask((3, 4, 5))
    assert mask.shape == (3, 4, 5)
    assert mask.dtype == np.bool_
    assert keep_mask((0, 4)).shape == (0, 4)


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.9])
def test_cells_are_kept_with_the_probability_asked_for(keep):
    cells = 200_000
    deviations = (keep_mask((100, 2000), keep).mean() - keep) / np.sqrt(keep * (1 - keep) / cells)
    assert abs(deviations) < 4


def test_probability_0_and_1_are_exact():
    assert not keep_mask((1000, 1000), 0.0).any()
    assert keep_mask((1000, 1000), 1.0).all()


@pytest.mark.parametrize("change", [{"seed": 1}, {"step": 1}, {"stream": 1}])
def test_other_seeds_steps_and_layers_get_masks_that_agree_on_half_the_cells(change):
    agreement = (keep_mask((100, 400)) == keep_mask((100, 400), **change)).mean()
    assert abs(agreement - 0.5) < 0.02


def philox4x64(key, counter):
    """Ten rounds of Philox4x64, from the definition: Salmon et al., SC 2011, section 3.3 and table 2."""
    key, counter, mask = list(key), list(counter), 2**64 - 1
    for _ in range(10):
        left, right = 0xD2E7470EE14C6C93 * counter[0], 0xCA5A826395121157 * counter[2]
        counter = [
            (right >> 64) ^ counter[1] ^ key[0],
            right & mask,
            (left >> 64) ^ counter[3] ^ key[1],
            left & mask,
        ]
        key = [(key[0] + 0x9E3779B97F4A7C15) & mask, (key[1] + 0xBB67AE8584CAA73B) & mask]
    return counter


def test_masks_are_those_of_the_published_generator():
    """What a kernel on another device must reproduce; NumPy counts up before a block, hence block + 1."""
    seed, step, stream, keep, cells = 11, 5, 2, 0.75, 50
    numbers = []
    for block in range(-(-cells // 16)):
        for word in philox4x64((seed, stream), (block + 1, step, 0, 0)):
            numbers += [word >> shift & 0xFFFF for shift in (0, 16, 32, 48)]
    expected = np.array(numbers[:cells]) < keep * 65536
    actual = keep_mask((5, 10), keep, seed=seed, step=step, stream=stream)
    np.testing.assert_array_equal(actual.ravel(), expected)
