"""Pooling: memory, large windows, no waiting; for the values see tests/layers/test_pooling.py."""

import numpy as np
import pytest

from tests import strict
from xpcnn.ops.pooling import average_pool, extreme_pool, global_average_pool, global_max_pool
from xpcnn.ops.window import Window
from xpcnn.ops.workspace import Workspace, channel_rows

POOLS = {
    "max": lambda xp, x: extreme_pool(xp, x, Window((3, 3), (2, 2), ((1, 1), (1, 1))), Workspace(xp), largest=True),
    "min": lambda xp, x: extreme_pool(xp, x, Window((2, 2), (2, 2)), Workspace(xp), largest=False),
    "average": lambda xp, x: average_pool(xp, x, Window((2, 2), (2, 2)), Workspace(xp)),
    "average padded": lambda xp, x: average_pool(xp, x, Window((3, 3), (2, 2), ((1, 1), (1, 1))), Workspace(xp)),
    "global average": lambda xp, x: global_average_pool(xp, x, Workspace(xp)),
    "global max": lambda xp, x: global_max_pool(xp, x, Workspace(xp)),
}


@pytest.mark.parametrize("pool", POOLS)
def test_nothing_waits_for_the_device_nor_copies_to_it(pool):
    xp = strict.xp
    x = xp.asarray(np.random.default_rng(0).normal(size=(2, 3, 6, 6)))
    with strict.forbid():
        y, backward = POOLS[pool](xp, x)
        backward(xp.ones_like(y))


@pytest.mark.parametrize("pool", [name for name in POOLS if not name.startswith("global")])
def test_images_stay_in_channel_order_in_memory(xp, pool):
    y, _ = POOLS[pool](xp, xp.ones((2, 3, 6, 6)))
    assert xp.shares_memory(channel_rows(y), y)


def test_the_input_stays_as_it_was(xp, host):
    for pool in POOLS.values():
        x = np.random.default_rng(0).normal(size=(2, 3, 6, 6))
        given = xp.asarray(x.copy())
        y, backward = pool(xp, given)
        backward(xp.ones_like(y))
        np.testing.assert_array_equal(host(given), x)


@pytest.mark.parametrize("largest", [True, False])
@pytest.mark.parametrize("cells", [255, 256, 257])
def test_a_window_may_have_more_cells_than_a_byte_numbers(xp, host, largest, cells):
    _find_the_last(xp, host, largest, cells)


@pytest.mark.slow
@pytest.mark.parametrize("largest", [True, False])
@pytest.mark.parametrize("cells", [65_536, 65_537])
def test_a_window_may_have_any_number_of_cells(host, largest, cells):
    _find_the_last(np, host, largest, cells)


@pytest.mark.parametrize("shape", [(1, 3, 1, 1), (40, 2, 7, 11), (64, 1, 3, 3)])
def test_a_global_average_is_of_all_cells_and_its_gradient_goes_to_each(xp, host, shape):
    x = np.random.default_rng(0).normal(size=shape)
    dy = np.random.default_rng(1).normal(size=shape[:2])
    y, backward = global_average_pool(xp, xp.asarray(x), Workspace(xp))
    np.testing.assert_allclose(host(y), x.mean(axis=(2, 3)), rtol=1e-12, atol=1e-14)
    expected = np.broadcast_to(dy[:, :, None, None] / (shape[2] * shape[3]), shape)
    np.testing.assert_allclose(host(backward(xp.asarray(dy))), expected, rtol=1e-12)


def _find_the_last(xp, host, largest, cells):
    x = np.zeros((1, 1, 1, cells), np.float32)
    x[..., -1] = 1 if largest else -1
    y, backward = extreme_pool(xp, xp.asarray(x), Window((1, cells)), Workspace(xp), largest=largest)
    assert host(y).tolist() == [[[[x[0, 0, 0, -1]]]]]
    assert np.flatnonzero(host(backward(xp.ones_like(y)))).tolist() == [cells - 1]


def test_a_nan_reaches_the_output(xp, host):
    x = np.zeros((1, 1, 4, 4))
    x[0, 0, 1, 2] = np.nan
    for pool in POOLS.values():
        assert np.isnan(host(pool(xp, xp.asarray(x))[0])).any()


@pytest.mark.parametrize("largest", [True, False])
@pytest.mark.parametrize(
    "window", [Window((2, 2), (2, 2)), Window((3, 2), (2, 1), ((1, 1), (1, 0)), (1, 2)), Window((3, 3), (3, 2))]
)
def test_a_single_image_has_the_same_result_with_and_without_a_backward_pass(xp, host, window, largest):
    x = np.random.default_rng(0).normal(size=(1, 3, 9, 8)).astype(np.float32)
    x[0, 0, 3, 4], x[0, 1, 5, 5], x[0, 1, :4, :4] = np.nan, np.inf, -np.inf
    kept, _ = extreme_pool(xp, xp.asarray(x), window, Workspace(xp), largest=largest, training=True)
    alone, _ = extreme_pool(xp, xp.asarray(x), window, Workspace(xp), largest=largest, training=False)
    np.testing.assert_array_equal(host(alone), host(kept))
    assert np.isnan(host(alone)).any()
