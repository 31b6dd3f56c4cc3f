"""Winograd's convolution in two dimensions equals the direct one, for every size of filter, tile and block."""

import numpy as np
import pytest

pytest.importorskip("numba")
from tests.ops.cpu.convolutions import assert_plain, convolve, drawn, noted
from xpcnn.ops.cpu import winograd2d
from xpcnn.ops.cpu.compiler import lanes
from xpcnn.ops.window import Window

#: As many images as fill a vector in double precision, and in single precision.
IMAGES, SINGLES = lanes(np.dtype(np.float64)), lanes(np.dtype(np.float32))
WINDOWS = {
    "3 x 3": Window((3, 3)),
    "padded": Window((3, 3), padding=((1, 1), (1, 1))),
    "padded unevenly": Window((5, 4), padding=((2, 0), (0, 3))),
}


def pictures(window, **sizes):
    return drawn(window, **({"n": IMAGES, "channels": 16, "filters": 16, "size": (10, 13)} | sizes))


@pytest.fixture
def used(monkeypatch):
    """The windows for which it was the way."""
    return noted(monkeypatch, winograd2d)


@pytest.mark.parametrize("window", WINDOWS)
def test_it_is_the_plain_convolution(used, window):
    arrays = pictures(WINDOWS[window])
    assert_plain(convolve(*arrays, WINDOWS[window]), *arrays, WINDOWS[window])
    assert used


@pytest.mark.parametrize("limit", ["CORRELATION_BYTES", "GRADIENT_BYTES", "FILTERS_AT_ONCE"])
def test_it_is_the_same_in_small_blocks(used, monkeypatch, limit):
    monkeypatch.setattr(winograd2d, limit, 1)
    window = WINDOWS["padded"]
    arrays = pictures(window, size=(9, 11))
    assert_plain(convolve(*arrays, window), *arrays, window)
    assert used


@pytest.mark.parametrize(("filters", "channels"), [(17, 16), (16, 19), (30, 33)])
def test_filters_and_channels_that_do_not_fill_the_last_tile_are_there_too(used, filters, channels):
    window = Window((3, 3))
    arrays = pictures(window, filters=filters, channels=channels, size=(6, 6))
    assert_plain(convolve(*arrays, window), *arrays, window)
    assert used


@pytest.mark.parametrize("n", [2 * IMAGES, IMAGES * 3 // 2])
def test_images_that_do_not_fill_the_last_vector_are_there_too(used, n):
    window = WINDOWS["padded"]
    arrays = pictures(window, n=n, size=(5, 9))
    assert_plain(convolve(*arrays, window), *arrays, window)
    assert used


@pytest.mark.parametrize("size", [(4, 4), (5, 6), (6, 7), (7, 5), (8, 9)])
def test_rows_and_columns_beyond_the_last_whole_tile_are_there_too(used, size):
    window = WINDOWS["padded"]
    arrays = pictures(window, size=size)
    assert_plain(convolve(*arrays, window), *arrays, window)
    assert used


@pytest.mark.parametrize("taps", [3, 5])
def test_in_single_precision_rounding_stays_small(used, taps):
    window = Window((taps, taps))
    sizes = {"channels": 32, "filters": 32, "n": SINGLES, "size": (15, 15)}
    exact = convolve(*pictures(window, **sizes), window)
    rounded = convolve(*pictures(window, **sizes, dtype=np.float32), window)
    for single, double in zip(rounded, exact, strict=True):
        assert single.dtype == np.float32
        assert np.abs(single - double).max() < 2e-5 * np.abs(double).max()
    assert len(used) == 2


@pytest.mark.parametrize(
    ("window", "shape", "groups", "size", "n", "suits"),
    [
        (Window((3, 3)), (16, 16), 1, (6, 6), SINGLES, True),
        (Window((3, 3)), (16, 15), 1, (6, 6), SINGLES, False),
        (Window((3, 3)), (15, 16), 1, (6, 6), SINGLES, False),
        (Window((3, 3)), (16, 16), 2, (6, 6), SINGLES, False),
        (Window((3, 3)), (16, 16), 1, (5, 6), SINGLES, False),
        (Window((3, 3)), (16, 16), 1, (6, 5), SINGLES, False),
        (Window((5, 4)), (16, 16), 1, (8, 7), SINGLES, True),
        (Window((3, 6)), (16, 16), 1, (40, 40), SINGLES, False),
        (Window((3, 2)), (16, 16), 1, (9, 9), SINGLES, False),
        (Window((3, 8)), (16, 16), 1, (40, 40), SINGLES, False),
        (Window((3, 3), (1, 2)), (16, 16), 1, (40, 40), SINGLES, False),
        (Window((3, 3), dilation=(1, 2)), (16, 16), 1, (40, 40), SINGLES, False),
        (Window((3, 3), padding=((3, 0), (0, 0))), (16, 16), 1, (40, 40), SINGLES, False),
        (Window((3, 3), padding=((2, 2), (2, 2))), (16, 16), 1, (4, 4), SINGLES, True),
        (Window((3, 3), padding=((2, 2), (2, 2))), (16, 16), 1, (4, 3), SINGLES, False),
        (Window((3, 3)), (16, 16), 1, (6, 6), SINGLES - 1, False),
        (Window((3, 3)), (16, 16), 1, (6, 6), SINGLES + 1, False),
        (Window((3, 3)), (16, 16), 1, (6, 6), SINGLES * 3 // 2, True),
    ],
)
def test_it_is_the_way_for_many_filters_and_images_that_fill_vectors(window, shape, groups, size, n, suits):
    x, weight = np.empty((n, shape[1] * groups, *size), np.float32), np.empty((*shape, *window.kernel), np.float32)
    assert winograd2d.suits(x, weight, window, groups, window.output_size(*size)) == suits
