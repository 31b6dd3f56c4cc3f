"""A convolution fused with pooling, bias and ReLU equals these one after another."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import reference
from xpcnn.ops.convolution import convolution
from xpcnn.ops.dense import dense
from xpcnn.ops.pooling import extreme_pool
from xpcnn.ops.window import Window
from xpcnn.ops.workspace import Workspace

POOLS = {
    "none": None,
    "squares of 2": Window((2, 2), (2, 2)),
    "overlapping": Window((3, 2), (2, 1), ((1, 1), (0, 1))),
    "apart": Window((1, 2), (2, 3)),
}


def run(xp, host, x, weight, bias, dy, window, groups=1, **following):
    """Return y, dx, dweight and dbias of the whole, on the host."""
    device = [None if array is None else xp.asarray(array) for array in (x, weight, bias, dy)]
    y, backward = convolution(xp, *device[:3], window, Workspace(xp), groups=groups, **following)
    dweight = xp.full(weight.shape, np.nan, dtype=x.dtype)
    dbias = None if bias is None else xp.full(bias.shape, np.nan, dtype=x.dtype)
    dx = backward(device[3], dweight, dbias, True)
    return [None if array is None else host(array) for array in (y, dx, dweight, dbias)]


def expected(x, weight, bias, dy, window, groups, pool, activation):
    """Return the same of the textbook's convolution, then pooling, then bias and activation."""
    geometry = {"stride": window.strides, "padding": window.padding, "dilation": window.dilation, "groups": groups}
    y = reference.conv2d(x, weight, **geometry)
    pool_backward = None
    if pool is not None:
        y, pool_backward = extreme_pool(np, y, pool, Workspace(np), largest=True)
    y = y + (0 if bias is None else bias[:, None, None])
    low, high = {"linear": (-np.inf, np.inf), "relu": (0, np.inf), "relu6": (0, 6)}[activation]
    dy = dy * ((y > low) & (y < high))
    y = y.clip(low, high)
    dbias = None if bias is None else dy.sum(axis=(0, 2, 3))
    dpooled = dy if pool_backward is None else pool_backward(dy)
    dx, dweight, _ = reference.conv2d_gradients(np.ascontiguousarray(dpooled), x, weight, **geometry)
    return y, dx, dweight, dbias


def drawn(n, channels, size, filters, window, pool, groups=1, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    rows_and_columns = window.output_size(*size)
    out = rows_and_columns if pool is None else pool.output_size(*rows_and_columns)
    return (
        rng.normal(size=(n, channels, *size)).astype(dtype),
        rng.normal(size=(filters, channels // groups, *window.kernel)).astype(dtype),
        rng.normal(size=filters).astype(dtype),
        rng.normal(size=(n, filters, *out)).astype(dtype),
    )


def assert_close(results, others, rtol=1e-9, atol=1e-10):
    for result, other in zip(results, others, strict=True):
        assert (result is None) == (other is None)
        if result is not None:
            np.testing.assert_allclose(result, other, rtol=rtol, atol=atol)


@pytest.mark.parametrize("activation", ["linear", "relu", "relu6"])
@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("with_bias", [False, True])
def test_in_whichever_combination_it_is_what_they_are_one_after_the_other(xp, host, pool, activation, with_bias):
    window = Window((3, 3), (1, 1), ((1, 1), (1, 1)))
    x, weight, bias, dy = drawn(5, 2, (9, 8), 6, window, POOLS[pool])
    bias = bias if with_bias else None
    results = run(xp, host, x, weight, bias, dy, window, pool=POOLS[pool], activation=activation)
    assert_close(results, expected(x, weight, bias, dy, window, 1, POOLS[pool], activation))


@pytest.mark.parametrize("n", [1, 16, 17])
@pytest.mark.parametrize(("channels", "filters", "pool"), [(1, 10, "squares of 2"), (3, 7, "none"), (32, 32, "none")])
def test_in_single_precision_any_number_of_images_fills_vectors(xp, host, n, channels, filters, pool):
    window = Window((3, 3), (1, 1), ((1, 1), (1, 1)))
    arrays = drawn(n, channels, (11, 9), filters, window, POOLS[pool], dtype=np.float32)
    results = run(xp, host, *arrays, window, pool=POOLS[pool], activation="relu")
    doubles = [array.astype(np.float64) for array in arrays]
    exact = run(
        np, host, *doubles, window, pool=POOLS[pool], activation="relu"
    )  # which the tests below compare with loops
    for result, other in zip(results, exact, strict=True):
        np.testing.assert_allclose(result, other, rtol=1e-4, atol=2e-5 * np.abs(other).max())


@settings(max_examples=30)
@given(
    n=st.sampled_from([1, 3, 33]),
    filters=st.sampled_from([2, 4, 10, 18]),
    kernel=st.tuples(st.integers(1, 5), st.sampled_from([1, 2, 3, 5])),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    padding=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    size=st.tuples(st.integers(9, 10), st.integers(9, 11)),
    groups=st.sampled_from([1, 2]),
    pool=st.sampled_from(list(POOLS)),
)
def test_any_geometry_gives_the_textbooks_result(
    xp, host, n, filters, kernel, strides, dilation, padding, size, groups, pool
):
    window = Window(kernel, strides, ((padding[0], 0), (padding[1], padding[0])), dilation)
    pool = POOLS[pool] if min(window.output_size(*size)) > 3 else None
    x, weight, bias, dy = drawn(n, 4, size, filters, window, pool, groups)
    results = run(xp, host, x, weight, bias, dy, window, groups, pool=pool, activation="relu")
    assert_close(results, expected(x, weight, bias, dy, window, groups, pool, "relu"))


@pytest.mark.parametrize("kernel", [pytest.param((60, 60), marks=pytest.mark.slow), (1, 130)])
def test_kernels_too_large_for_shared_memory_are_computed_all_the_same(xp, host, kernel):
    window = Window(kernel)
    x, weight, bias, dy = drawn(2, 2, (kernel[0] + 2, kernel[1] + 1), 3, window, None)
    assert_close(
        run(xp, host, x, weight, bias, dy, window, activation="relu"),
        expected(x, weight, bias, dy, window, 1, None, "relu"),
    )


@pytest.mark.parametrize("channels", [40, 300])
def test_many_channels_are_taken_in_turns_and_shared_by_threads(xp, host, channels):
    window = Window((3, 3))
    x, weight, bias, dy = drawn(3, channels, (5, 5), 5, window, None, dtype=np.float32)
    results = run(xp, host, x, weight, bias, dy, window)
    assert_close(results, expected(x, weight, bias, dy, window, 1, None, "linear"), rtol=1e-4, atol=1e-3)


def test_the_edge_is_repeated_where_that_is_asked_for(xp, host):
    window = Window((3, 3), (2, 1), ((2, 1), (1, 2)))
    x, weight, bias, dy = drawn(4, 2, (6, 7), 3, window, None)
    results = run(xp, host, x, weight, bias, dy, window, padding_mode="edge")
    padded = np.pad(x, ((0, 0), (0, 0), *window.padding), mode="edge")
    y, dpadded, dweight, dbias = expected(padded, weight, bias, dy, window.unpadded, 1, None, "linear")
    rows, columns = (np.arange(-2, 7).clip(0, 5), np.arange(-1, 9).clip(0, 6))
    dx = np.zeros_like(x)
    np.add.at(dx, (slice(None), slice(None), rows[:, None], columns[None, :]), dpadded)
    assert_close(results, (y, dx, dweight, dbias))


def test_of_equal_cells_the_first_takes_the_gradient_and_nan_wins(xp, host):
    x = np.zeros((1, 1, 2, 4))
    x[0, 0, 1, 2] = np.nan
    weight, dy = np.ones((1, 1, 1, 1)), np.array([[[[1.0, 2.0]]]])
    y, dx, _, _ = run(xp, host, x, weight, None, dy, Window((1, 1)), pool=Window((2, 2), (2, 2)))
    assert y[0, 0, 0, 0] == 0
    assert np.isnan(y[0, 0, 0, 1])
    assert dx[0, 0, 0, 0] == 1
    assert dx[0, 0, :, :2].sum() == 1


def test_without_training_nothing_is_kept_for_backward(xp):
    window, pool = Window((2, 2)), Window((2, 2), (2, 2))
    x, weight, bias, dy = map(xp.asarray, drawn(2, 1, (5, 5), 2, window, pool))
    _, backward = convolution(xp, x, weight, bias, window, Workspace(xp), pool=pool, training=False)
    with pytest.raises(RuntimeError, match="without training=True"):
        backward(dy, xp.empty(weight.shape), xp.empty(2), True)


def test_a_product_of_many_features_is_one_launch_for_any_number_of_them(xp, host):
    rng = np.random.default_rng(0)
    x, weight, bias = rng.normal(size=(2, 9000)), rng.normal(size=(260, 9000)), rng.normal(size=260)
    dy = rng.normal(size=(2, 260))
    y, backward = dense(xp, xp.asarray(x), xp.asarray(weight), xp.asarray(bias), Workspace(xp))
    dweight, dbias = xp.empty(weight.shape), xp.empty(260)
    dx = backward(xp.asarray(dy), dweight, dbias, True)
    assert_close(map(host, (y, dx, dweight, dbias)), (x @ weight.T + bias, dy @ weight, dy.T @ x, dy.sum(axis=0)))


@pytest.mark.parametrize("filters", [12, 16])
def test_sums_that_threads_share_fit_the_memory_that_they_share(xp, host, filters):
    window, pool = Window((3, 3)), Window((2, 2), (2, 2))
    x, weight, bias, dy = drawn(2, 64, (6, 6), filters, window, pool)
    assert_close(
        run(xp, host, x, weight, bias, dy, window, pool=pool), expected(x, weight, bias, dy, window, 1, pool, "linear")
    )
