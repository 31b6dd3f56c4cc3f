"""Winograd convolution equals the direct method, for every size of filter, tile and block."""

import numpy as np
import pytest

from tests import reference, strict
from xpcnn.ops import winograd
from xpcnn.ops.correlation import correlation
from xpcnn.ops.window import Window
from xpcnn.ops.workspace import COLUMN_BUDGET, Workspace


@pytest.mark.parametrize("taps", winograd.TILE)
def test_the_matrices_give_the_correlation_of_rows(taps):
    inputs, filters, outputs = winograd.transforms(taps, "float64")
    rng = np.random.default_rng(taps)
    w, x = rng.normal(size=taps), rng.normal(size=winograd.TILE[taps] + taps - 1)
    np.testing.assert_allclose(outputs @ ((filters @ w) * (inputs @ x)), np.correlate(x, w), rtol=1e-9)


def test_three_taps_have_the_matrices_of_the_paper():
    inputs, filters, outputs = winograd.transforms(3, "float64")
    assert outputs.tolist() == [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]
    assert inputs[0].tolist() == [4, 0, -5, 0, 1, 0]
    np.testing.assert_allclose(filters[3], [1 / 24, 1 / 12, 1 / 6])


WINDOWS = {
    **{f"{taps} rows": Window((taps, 3)) for taps in winograd.TILE},
    "one column": Window((3, 1)),
    "padded": Window((3, 3), padding=((1, 1), (1, 1))),
    "padded unevenly": Window((5, 4), padding=((2, 0), (0, 3))),
    "columns two at a time": Window((3, 3), (1, 2)),
    "columns apart": Window((3, 2), dilation=(1, 3)),
    "columns apart and two at a time": Window((4, 2), (1, 2), dilation=(1, 3)),
}


def convolve(x, weight, dy, window, budget=COLUMN_BUDGET):
    """Return y, dx and dweight."""
    y, backward = correlation(np, x, weight, window, Workspace(np, budget))
    dweight = np.full(weight.shape, np.nan, weight.dtype)
    return y, backward(dy, dweight, True), dweight


def arrays(window, n=2, channels=2, filters=8, size=(13, 9), dtype=np.float64):
    rng = np.random.default_rng(0)
    x, weight = rng.normal(size=(n, channels, *size)), rng.normal(size=(filters, channels, *window.kernel))
    dy = rng.normal(size=(n, filters, *window.output_size(*size)))
    return [array.astype(dtype) for array in (x, weight, dy)]


@pytest.fixture
def used(monkeypatch):
    """The sizes for which it was the way, whatever the number of filters and weights."""
    seen, suits = [], winograd.suits

    def noted(*arguments):
        if suits(*arguments):
            seen.append(arguments[2:])
        return suits(*arguments)

    monkeypatch.setattr(winograd, "suits", noted)
    monkeypatch.setattr(winograd, "MANY_FILTERS", 0)
    monkeypatch.setattr(winograd, "MANY_WEIGHTS", 0)
    return seen


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("budget", [COLUMN_BUDGET, 100_000, 1])
def test_it_is_the_plain_convolution(used, window, budget):
    window = WINDOWS[window]
    x, weight, dy = arrays(window)
    results = convolve(x, weight, dy, window, budget)
    options = {"stride": window.strides, "padding": window.padding, "dilation": window.dilation}
    expected = reference.conv2d(x, weight, **options)
    dx, dweight, _ = reference.conv2d_gradients(dy, x, weight, **options)
    for result, right in zip(results, (expected, dx, dweight), strict=True):
        np.testing.assert_allclose(result, right, rtol=1e-8, atol=1e-9)
    assert len(used) == (3 if window.strides == (1, 1) else 2), (
        "forward, for the weight, and for the input where strides are 1"
    )


@pytest.mark.parametrize("rows", [4, 5, 6, 7, 8, 9])
@pytest.mark.parametrize("n", [1, 3])
def test_rows_beyond_the_last_whole_tile_are_there_too(used, rows, n):
    window = Window((3, 3))
    x, weight, dy = arrays(window, n=n, size=(rows + 2, 5))
    y, _, dweight = convolve(x, weight, dy, window)
    np.testing.assert_allclose(y, reference.conv2d(x, weight), rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(dweight, reference.conv2d_gradients(dy, x, weight)[1], rtol=1e-8, atol=1e-10)
    assert used


@pytest.mark.parametrize("taps", winograd.TILE)
def test_in_single_precision_rounding_stays_small(used, taps):
    window = Window((taps, taps))
    exact = convolve(*arrays(window, channels=32, filters=32), window)
    rounded = convolve(*arrays(window, channels=32, filters=32, dtype=np.float32), window)
    for single, double in zip(rounded, exact, strict=True):
        assert single.dtype == np.float32
        assert np.abs(single - double).max() < 1e-5 * np.abs(double).max()


@pytest.mark.parametrize(
    ("window", "filters", "depth", "rows", "suits"),
    [
        (Window((3, 3)), 8, 25, 4, True),
        (Window((3, 3)), 8, 24, 4, False),
        (Window((3, 3)), 7, 300, 4, False),
        (Window((3, 3)), 8, 25, 3, False),
        (Window((7, 7)), 8, 25, 2, True),
        (Window((2, 3)), 8, 300, 40, False),
        (Window((8, 3)), 8, 300, 40, False),
        (Window((3, 3), (2, 1)), 8, 300, 40, False),
        (Window((3, 3), (1, 2), dilation=(1, 2)), 8, 300, 40, True),
        (Window((3, 3), dilation=(2, 1)), 8, 300, 40, False),
    ],
)
def test_it_is_the_way_for_many_weights_and_rows_one_by_one(window, filters, depth, rows, suits):
    assert winograd.suits(np, window, filters, depth, rows) == suits
    assert not winograd.suits(strict.xp, window, filters, depth, rows)
