"""Winograd's convolution equals the direct one, for every size of filter, tile and block."""

import numpy as np
import pytest

pytest.importorskip("numba")
from tests.ops.cpu.convolutions import assert_plain, convolve, drawn, noted
from xpcnn.ops.cpu import winograd
from xpcnn.ops.cpu.toom_cook import TILE
from xpcnn.ops.window import Window

WINDOWS = {
    **{f"{taps} rows": Window((taps, 3)) for taps in TILE},
    "one column": Window((3, 1)),
    "padded": Window((3, 3), padding=((1, 1), (1, 1))),
    "padded unevenly": Window((5, 4), padding=((2, 0), (0, 3))),
    "columns apart": Window((3, 2), padding=((0, 2), (1, 1)), dilation=(1, 3)),
}


@pytest.fixture
def used(monkeypatch):
    """The windows for which it was the way."""
    return noted(monkeypatch, winograd)


@pytest.mark.parametrize("window", WINDOWS)
def test_it_is_the_plain_convolution(used, window):
    arrays = drawn(WINDOWS[window])
    assert_plain(convolve(*arrays, WINDOWS[window]), *arrays, WINDOWS[window])
    assert used


@pytest.mark.parametrize("window", ["3 rows", "padded unevenly"])
def test_it_is_the_same_in_blocks_of_few_columns(used, monkeypatch, window):
    monkeypatch.setattr(winograd, "L1_BYTES", 1)
    monkeypatch.setattr(winograd, "L2_BYTES", 1)
    arrays = drawn(WINDOWS[window])
    assert_plain(convolve(*arrays, WINDOWS[window]), *arrays, WINDOWS[window])
    assert used


@pytest.mark.parametrize("filters", [9, 21])
def test_filters_that_do_not_fill_the_last_tile_are_there_too(used, filters):
    window = Window((3, 3))
    arrays = drawn(window, filters=filters)
    assert_plain(convolve(*arrays, window), *arrays, window)
    assert used


@pytest.mark.parametrize("rows", [4, 5, 6, 7, 8, 9])
@pytest.mark.parametrize("n", [1, 3])
def test_rows_beyond_the_last_whole_tile_are_there_too(used, rows, n):
    window = Window((3, 3))
    arrays = drawn(window, n=n, size=(rows + 2, 26))
    assert_plain(convolve(*arrays, window), *arrays, window)
    assert used


@pytest.mark.parametrize("taps", [3, 6])
def test_in_single_precision_rounding_stays_small(used, taps):
    window = Window((taps, taps))
    exact = convolve(*drawn(window, channels=32, filters=32, n=3), window)
    rounded = convolve(*drawn(window, channels=32, filters=32, n=3, dtype=np.float32), window)
    for single, double in zip(rounded, exact, strict=True):
        assert single.dtype == np.float32
        assert np.abs(single - double).max() < 1e-5 * np.abs(double).max()
    assert len(used) == 2


@pytest.mark.parametrize(
    ("window", "shape", "groups", "size", "suits"),
    [
        (Window((3, 3)), (8, 8), 1, (6, 32), True),
        (Window((3, 3)), (8, 7), 1, (6, 32), False),
        (Window((3, 3)), (7, 8), 1, (6, 32), False),
        (Window((3, 3)), (8, 8), 2, (6, 32), False),
        (Window((3, 3)), (8, 8), 1, (5, 32), False),
        (Window((3, 3)), (8, 8), 1, (6, 4), False),
        (Window((7, 7)), (8, 8), 1, (8, 70), True),
        (Window((2, 3)), (8, 8), 1, (9, 32), False),
        (Window((8, 3)), (8, 8), 1, (40, 32), False),
        (Window((3, 3), (2, 1)), (8, 8), 1, (40, 32), False),
        (Window((3, 3), (1, 2)), (8, 8), 1, (40, 70), False),
        (Window((3, 3), dilation=(1, 2)), (8, 8), 1, (40, 70), True),
        (Window((3, 3), dilation=(2, 1)), (8, 8), 1, (40, 32), False),
        (Window((3, 3), padding=((3, 0), (0, 0))), (8, 8), 1, (40, 32), False),
        (Window((3, 3), padding=((2, 2), (2, 2))), (8, 8), 1, (4, 32), True),
        (Window((3, 3), padding=((2, 2), (2, 2))), (8, 8), 1, (3, 32), False),
    ],
)
def test_it_is_the_way_for_many_filters_and_rows_one_by_one(window, shape, groups, size, suits):
    x, weight = np.empty((4, shape[1] * groups, *size), np.float32), np.empty((*shape, *window.kernel), np.float32)
    assert winograd.suits(x, weight, window, groups, window.output_size(*size)) == suits
