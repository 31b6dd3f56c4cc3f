"""Convolution and max pooling as one operation: the same as one after the other, whichever way it is computed."""

import numpy as np
import pytest

from xpcnn.ops import pooled_convolution as module
from xpcnn.ops.convolution import convolution
from xpcnn.ops.pooled_convolution import pooled_convolution
from xpcnn.ops.pooling import extreme_pool
from xpcnn.ops.window import Window
from xpcnn.ops.workspace import Workspace

WINDOWS = {
    "5x5": Window((5, 5)),
    "padded": Window((3, 3), padding=((1, 1), (1, 2))),
    "rows two at a time": Window((3, 2), (2, 1)),
    "columns two at a time": Window((3, 3), (1, 2)),
    "dilated": Window((2, 2), dilation=(2, 2)),
    "dilated down": Window((2, 2), dilation=(2, 1)),
}
POOLS = {
    "2x2": Window((2, 2), (2, 2)),
    "3x3": Window((3, 3), (3, 3)),
    "1x3": Window((1, 3), (1, 3)),
    "wide": Window((2, 5), (2, 5)),
    "overlapping": Window((3, 3), (2, 2)),
    "apart": Window((2, 2), (3, 3)),
    "padded": Window((2, 2), (2, 2), ((1, 0), (1, 0))),
}


def both(xp, x, weight, window, pool, groups, mode, wanted=True):
    """Yield y, dweight and dx, if wanted, of the one operation, and of one after the other."""
    joined = pooled_convolution(xp, x, weight, window, Workspace(xp), pool=pool, groups=groups, padding_mode=mode)
    workspace = Workspace(xp)
    y, convolution_backward = convolution(xp, x, weight, window, workspace, groups=groups, padding_mode=mode)
    y, pool_backward = extreme_pool(xp, y, pool, workspace, largest=True)
    apart = y, lambda dy, dweight, wanted: convolution_backward(pool_backward(dy), dweight, wanted)
    for y, backward in (joined, apart):
        dweight = xp.full(weight.shape, np.nan)
        dx = backward(xp.asarray(np.random.default_rng(1).normal(size=y.shape)), dweight, wanted)
        yield y, dweight, dx


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize(("groups", "mode"), [(1, "zeros"), (1, "edge"), (2, "zeros")])
def test_it_is_convolution_and_then_pooling(xp, host, window, pool, groups, mode):
    rng = np.random.default_rng(0)
    x = xp.asarray(rng.normal(size=(3, 4, 14, 15)))
    weight = xp.asarray(rng.normal(size=(6, 4 // groups, *WINDOWS[window].kernel)))
    joined, apart = both(xp, x, weight, WINDOWS[window], POOLS[pool], groups, mode)
    for one, other in zip(joined, apart, strict=True):
        np.testing.assert_allclose(host(one), host(other), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("window", ["5x5", "padded", "rows two at a time"])
@pytest.mark.parametrize("pool", ["2x2", "1x3", "overlapping"])
def test_so_is_the_weights_gradient_where_the_inputs_is_not_wanted(xp, host, window, pool):
    rng = np.random.default_rng(0)
    x = xp.asarray(rng.normal(size=(3, 2, 14, 15)))
    weight = xp.asarray(rng.normal(size=(6, 2, *WINDOWS[window].kernel)))
    joined, apart = both(xp, x, weight, WINDOWS[window], POOLS[pool], 1, "zeros", wanted=False)
    np.testing.assert_allclose(host(joined[1]), host(apart[1]), rtol=1e-10, atol=1e-12)
    assert joined[2] is apart[2] is None


def test_equal_cells_of_a_window_give_the_gradient_to_the_first(xp, host):
    x, weight = xp.ones((1, 1, 3, 3)), xp.zeros((2, 1, 2, 2))
    (_, dweight, dx), (_, expected, _) = both(xp, x, weight, Window((2, 2)), POOLS["2x2"], 1, "zeros")
    assert host(dweight).tolist() == host(expected).tolist()
    assert not host(dx).any()


@pytest.mark.parametrize("filters", [module.MANY_FILTERS - 1, module.MANY_FILTERS])
def test_few_filters_are_widened_and_many_are_not(monkeypatch, filters):
    seen = []

    def noted(function):
        def call(xp, x, weight, *arguments, **options):
            seen.append(weight.shape[-4:])
            return function(xp, x, weight, *arguments, **options)

        return call

    for name in ("convolution", "correlate"):
        monkeypatch.setattr(module, name, noted(getattr(module, name)))
    x, weight = np.ones((1, 2, 6, 6)), np.ones((filters, 2, 3, 3))
    pooled_convolution(np, x, weight, Window((3, 3)), Workspace(np), pool=POOLS["2x2"])
    few = filters < module.MANY_FILTERS
    assert seen == [(2 * filters, 2, 3, 4) if few else (filters, 2, 3, 3)]


def test_prediction_gives_the_same_and_keeps_nothing_for_backward(xp, host):
    rng = np.random.default_rng(0)
    x, weight = xp.asarray(rng.normal(size=(2, 1, 8, 8))), xp.asarray(rng.normal(size=(3, 1, 3, 3)))
    y, _ = pooled_convolution(xp, x, weight, Window((3, 3)), Workspace(xp), pool=POOLS["2x2"])
    predicted, backward = pooled_convolution(
        xp, x, weight, Window((3, 3)), Workspace(xp), pool=POOLS["2x2"], training=False
    )
    assert host(predicted).tolist() == host(y).tolist()
    with pytest.raises(RuntimeError, match="training=True"):
        backward(y, xp.zeros(weight.shape), True)
