"""Dropout: what the mask depends on, and what it does not."""

import numpy as np
import pytest

from tests.passes import check_dtypes, distinct, run
from xpcnn.layers import Dropout

SHAPES = pytest.mark.parametrize("shape", [(8, 50), (8, 3, 5, 7)])


def outputs(xp, x, rate=0.4, **context):
    layer = Dropout(rate)
    layer.number = context.pop("number", 0)
    return run(layer, xp, x, **context).y


@SHAPES
def test_kept_values_are_scaled_and_the_others_are_zero(xp, shape):
    x, dy = distinct(*shape), distinct(*shape, seed=1)
    result = run(Dropout(0.4), xp, x, dy)
    kept = result.y != 0
    np.testing.assert_allclose(result.y, np.where(kept, x / 0.6, 0), rtol=1e-12)
    np.testing.assert_allclose(result.dx, np.where(kept, dy / 0.6, 0), rtol=1e-12)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_the_rate_is_the_part_that_is_dropped_and_the_mean_is_kept(xp, rate):
    y = outputs(xp, np.ones((100, 1000)), rate)
    assert (y == 0).mean() == pytest.approx(rate, abs=0.01)
    assert y.mean() == pytest.approx(1.0, abs=0.05)


@SHAPES
@pytest.mark.parametrize("cut", [1, 3, 4, 7])
def test_the_mask_is_the_same_however_the_batch_is_cut(xp, shape, cut):
    x = np.ones(shape)
    whole = outputs(xp, x, seed=3, step=5)
    pieces = [outputs(xp, x[i : i + cut], seed=3, step=5, first_row=i) for i in range(0, len(x), cut)]
    np.testing.assert_array_equal(np.concatenate(pieces), whole)


@SHAPES
def test_the_mask_is_the_same_on_every_backend(xp, shape):
    x = np.ones(shape, np.float32)
    np.testing.assert_array_equal(outputs(xp, x, seed=1), outputs(np, x, seed=1))


def test_seed_step_and_place_in_the_network_each_change_the_mask(xp):
    x = np.ones((4, 100))
    keys = [{}, {"seed": 1}, {"step": 1}, {"number": 1}, {"first_row": 4}]
    assert len({outputs(xp, x, **key).tobytes() for key in keys}) == len(keys)
    assert outputs(xp, x).tobytes() == outputs(xp, x).tobytes()


def test_prediction_and_a_rate_of_zero_change_nothing(xp):
    x = distinct(4, 6)
    np.testing.assert_array_equal(outputs(xp, x, training=False), x)
    unchanged = run(Dropout(0), xp, x, x)
    np.testing.assert_array_equal(unchanged.y, x)
    np.testing.assert_array_equal(unchanged.dx, x)


def test_dtypes_are_kept(xp):
    check_dtypes(Dropout(np.float64(0.5)), xp, (4, 3, 3))
    check_dtypes(Dropout(0.5), xp, (9,))


@pytest.mark.parametrize("rate", [-0.1, 1, 1.5, float("nan"), "half", None, True])
def test_impossible_rates_are_refused(rate):
    with pytest.raises(ValueError, match=r"A dropout rate must be a number in \[0, 1\)\. Received: "):
        Dropout(rate)
