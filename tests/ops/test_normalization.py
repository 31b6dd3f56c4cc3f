"""Statistics combined from shards; for the formulas see tests/layers/test_normalization.py."""

import functools
import operator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import strict
from xpcnn.ops import normalization
from xpcnn.ops.normalization import Moments, moments
from xpcnn.ops.workspace import Workspace


@settings(max_examples=30)
@given(cuts=st.lists(st.integers(1, 11), max_size=4, unique=True), images=st.booleans())
def test_the_moments_of_shards_add_up_to_those_of_the_whole(xp, host, cuts, images):
    x = np.random.default_rng(0).normal(3, 2, size=(12, 4, 2, 3) if images else (12, 4))
    pieces = [moments(xp, xp.asarray(piece.copy()), Workspace(xp)) for piece in np.split(x, sorted(cuts))]
    total = functools.reduce(operator.add, pieces)
    axes = (0, 2, 3) if images else (0,)
    assert total.count == x.size // 4
    np.testing.assert_allclose(host(total.mean), x.mean(axis=axes), rtol=1e-12)
    np.testing.assert_allclose(host(total.squares), x.var(axis=axes) * total.count, rtol=1e-12)


def test_far_from_zero_no_digits_are_lost(xp, host):
    x = (1000 + np.random.default_rng(0).normal(size=(64, 3))).astype(np.float32)
    parts = [moments(xp, xp.asarray(part), Workspace(xp)) for part in (x[:40], x[40:])]
    total = parts[0] + parts[1]
    np.testing.assert_allclose(host(total.squares) / 64, x.astype(np.float64).var(axis=0), rtol=1e-4)
    assert total.mean.dtype == total.squares.dtype == np.float32


def test_sums_over_a_million_numbers_lose_no_digits(xp, host):
    x, dy = np.random.default_rng(0).normal(2, 1, size=(2, 16, 2, 256, 256)).astype(np.float32)
    exact_x, exact_dy = x.astype(np.float64), dy.astype(np.float64)
    total = moments(xp, xp.asarray(x), Workspace(xp))
    middle, ones = xp.full(2, 2, dtype=np.float32), xp.ones(2, dtype=np.float32)
    dweight, dbias = xp.empty_like(ones), xp.empty_like(ones)
    _, backward = normalization.batch_normalization(xp, xp.asarray(x), middle, ones, ones, ones, Workspace(xp))
    sums, _ = backward(xp.asarray(dy), dweight, dbias)
    np.testing.assert_array_equal(host(sums), [host(dbias), host(dweight)])
    sums = host(sums)
    axes = (0, 2, 3)
    np.testing.assert_allclose(host(total.mean), exact_x.mean(axis=axes), rtol=1e-6)
    np.testing.assert_allclose(host(total.squares), exact_x.var(axis=axes) * total.count, rtol=1e-5)
    np.testing.assert_allclose(sums[0], exact_dy.sum(axis=axes), rtol=1e-6)
    products = exact_dy * (exact_x - 2)
    np.testing.assert_allclose(sums[1], products.sum(axis=axes), atol=1e-6 * np.abs(products).sum() / 2)


@pytest.mark.parametrize("shape", [(5, 3), (5, 3, 2, 4)])
def test_nothing_waits_for_the_device_nor_copies_to_it(shape):
    xp = strict.xp
    x, dy, ones = xp.ones(shape), xp.ones(shape), xp.ones(3)
    with strict.forbid():
        total = moments(xp, x, Workspace(xp)) + moments(xp, x, Workspace(xp))
        _, backward = normalization.batch_normalization(xp, x, total.mean, ones, ones, ones, Workspace(xp), relu=True)
        sums, input_gradient = backward(dy, xp.ones(3), xp.ones(3))
        input_gradient(sums, total.count)


@pytest.mark.parametrize("count", [1, 2, 50])
def test_running_statistics_move_towards_those_of_the_batch_unless_it_is_one_value(xp, host, count):
    mean, squares, running_mean, running_var = np.random.default_rng(0).uniform(0.5, 2, (4, 3))
    total = Moments(count, xp.asarray(mean), xp.asarray(squares))
    results = normalization.statistics(xp, total, xp.asarray(running_mean), xp.asarray(running_var), 0.1, 1e-5)
    same_mean, std, new_mean, new_var = map(host, results)
    np.testing.assert_array_equal(same_mean, mean)
    np.testing.assert_allclose(std, np.sqrt(squares / count + 1e-5), rtol=1e-12)
    moved = 0.1 if count > 1 else 0
    np.testing.assert_allclose(new_mean, 0.9 * running_mean + 0.1 * mean if moved else running_mean, rtol=1e-12)
    unbiased = squares / max(count - 1, 1)
    np.testing.assert_allclose(new_var, 0.9 * running_var + 0.1 * unbiased if moved else running_var, rtol=1e-12)


def test_a_single_value_leaves_running_statistics_as_they_are_even_if_it_is_infinite(xp, host):
    infinite, ones = np.full(3, np.inf), xp.ones(3)
    total = Moments(1, xp.asarray(infinite), xp.asarray(infinite))
    _, _, *running = normalization.statistics(xp, total, ones, ones, 0.1, 1e-5)
    for statistic in running:
        np.testing.assert_array_equal(host(statistic), np.ones(3))


def test_more_channels_than_a_grid_has_rows_are_normalised_all_the_same(xp, host):
    x = np.random.default_rng(0).normal(size=(2, 66_000)).astype(np.float32)
    total = moments(xp, xp.asarray(x), Workspace(xp))
    np.testing.assert_allclose(host(total.mean), x.mean(axis=0), rtol=1e-4, atol=1e-6)
    ones = xp.ones(66_000, dtype=np.float32)
    y, _ = normalization.batch_normalization(xp, xp.asarray(x), total.mean, ones, ones, ones, Workspace(xp))
    np.testing.assert_allclose(host(y), x - x.mean(axis=0) + 1, rtol=1e-4, atol=1e-5)
