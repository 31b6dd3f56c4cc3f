"""Convolutions and gradients in tiles equal those of the generic code, wherever they are used."""

import math

import numpy as np
import pytest

from tests import kernels
from xpcnn.ops import convolution as generic
from xpcnn.ops.cuda import tiles
from xpcnn.ops.cuda.compiler import SHARED_BYTES
from xpcnn.ops.cuda.conv_shape import ConvShape
from xpcnn.ops.cuda.convolution import convolution
from xpcnn.ops.window import Window
from xpcnn.ops.workspace import Workspace

WITH_KERNELS = pytest.mark.parametrize("device", ["kernels", "cupy"], indirect=True)
SQUARES = Window((2, 2), (2, 2))


@pytest.fixture
def launched(monkeypatch):
    """The names of the kernels of tiles.py that were launched, on a card so small that any tiles fill it."""
    names, kernel = [], tiles._kernel

    def noted(xp, name, *arguments):
        names.append(name)
        return kernel(xp, name, *arguments)

    monkeypatch.setattr(tiles, "_kernel", noted)
    monkeypatch.setattr("xpcnn.ops.cuda.compiler.count_multiprocessors", lambda xp, device: 1)
    return names


def window(size, padding):
    return Window((size, size), padding=((padding, padding),) * 2)


# n images, channels, rows, columns; filters; groups.
@WITH_KERNELS
@pytest.mark.parametrize(
    ("shape", "filters", "groups", "seen", "pool", "relu", "bias"),
    [
        ((32, 3, 9, 7), 10, 1, window(3, 1), None, False, True),
        ((36, 10, 9, 7), 32, 1, window(3, 1), SQUARES, True, True),
        ((28, 16, 6, 6), 40, 2, window(3, 0), None, True, False),
        ((24, 2, 10, 12), 10, 1, window(5, 0), SQUARES, True, True),
        ((32, 12, 5, 5), 16, 1, window(5, 2), None, False, True),
        ((64, 5, 8, 8), 64, 1, window(3, 1), SQUARES, False, True),
        ((32, 4, 6, 8), 7, 1, Window((3, 3), padding=((0, 2), (1, 0))), None, False, True),
        ((32, 4, 5, 5), 4, 1, window(3, 1), Window((3, 3), (1, 1)), True, True),
    ],
)
def test_they_compute_what_the_generic_code_does(
    device, host, launched, shape, filters, groups, seen, pool, relu, bias
):
    rng = np.random.default_rng(0)
    x = rng.normal(size=shape)
    weight, shift = rng.normal(size=(filters, shape[1] // groups, *seen.kernel)), rng.normal(size=filters)
    arguments = {"groups": groups, "pool": pool, "activation": "relu" if relu else "linear"}

    def results(compute, xp, dtype):
        workspace = Workspace(xp)
        images, numbers = xp.asarray(x, dtype=dtype), xp.asarray(weight, dtype=dtype)
        added = xp.asarray(shift, dtype=dtype) if bias else None
        y, backward = compute(xp, images, numbers, added, seen, workspace, **arguments)
        dy = np.random.default_rng(1).normal(size=y.shape)
        dweight, dbias = xp.full(weight.shape, np.nan, dtype=dtype), xp.full(filters, np.nan, dtype=dtype)
        dx = backward(xp.asarray(dy, dtype=dtype), dweight, dbias if bias else None, True)
        return [host(array) for array in (y, dx, dweight, *([dbias] if bias else []))]

    expected = results(generic.convolution.__wrapped__, np, np.float64)
    for result, right in zip(results(convolution, device, np.float32), expected, strict=True):
        np.testing.assert_allclose(result, right, rtol=1e-4, atol=1e-4 * np.abs(right).max())
    assert launched == ["correlate_tiles", "weight_gradient_tiles", "correlate_tiles"]


def sides(n=32, channels=4, size=(8, 8), filters=8, places=(6, 6)):
    return ConvShape(n, 1, channels, size, filters, places, (0, 0, 0, 0, 0))


def test_windows_must_lie_side_by_side_and_batches_fill_warps():
    assert tiles.suit_gradient(sides(), window(3, 0), np.float32)
    assert tiles.suit_gradient(sides(n=60), window(5, 2), np.float32)
    assert not tiles.suit_gradient(sides(n=20), window(3, 0), np.float32), "warps with few images"
    assert not tiles.suit_gradient(sides(n=33), window(3, 0), np.float32), "images that cannot be read four at a time"
    assert not tiles.suit_gradient(sides(channels=1), window(3, 0), np.float32)
    assert not tiles.suit_gradient(sides(), window(3, 0), np.float64)
    assert not tiles.suit_gradient(sides(), window(7, 3), np.float32)
    assert not tiles.suit_gradient(sides(), Window((3, 3), (2, 2)), np.float32)
    assert not tiles.suit_gradient(sides(), Window((3, 3), dilation=(2, 2)), np.float32)


def test_a_convolution_must_fill_most_of_the_card(monkeypatch):
    monkeypatch.setattr("xpcnn.ops.cuda.compiler.count_multiprocessors", lambda xp, device: 132)

    def suits(n, pooled=None, spread=(1, 1)):
        of = sides(n=n, size=(32, 32), filters=32, places=(32, 32))  # 64 tiles of 4 x 4 places
        return tiles.suit(kernels.xp, of, window(3, 1), spread, pooled, np.float32)

    assert [suits(n) for n in (32, 64)] == [False, True]
    assert [suits(n, pooled=(16, 16)) for n in (32, 36)] == [False, True]
    assert not suits(64, spread=(2, 2)), "the input's gradient of a stride"


@pytest.mark.parametrize("filters", [1, 4, 10, 16, 17, 32, 48, 64, 100, 500])
@pytest.mark.parametrize("channels", [1, 3, 16, 500])
@pytest.mark.parametrize("size", [3, 5])
def test_every_cut_fits_a_block(filters, channels, size):
    of = sides(channels=channels, filters=filters)
    for pooled in (None, (3, 3)):
        cut = tiles.correlation_cut(of, window(size, 0), pooled)
        rows = cut["PLACES_DOWN"] * cut["STRIPS_DOWN"] + size - 1
        columns = cut["PLACES_RIGHT"] * cut["STRIPS_RIGHT"] + size - 1
        filters_at_once = cut["FILTERS"] * cut["FILTER_WARPS"]
        assert 4 * cut["CHANNELS"] * (rows * columns * 32 + size * size * filters_at_once) <= SHARED_BYTES
        assert cut["STRIPS_DOWN"] * cut["STRIPS_RIGHT"] * cut["FILTER_WARPS"] == tiles.WARPS
        assert filters_at_once * math.ceil(filters / filters_at_once) < filters + 16
    cut = tiles.gradient_cut(of, window(size, 0))
    lanes = cut["FILTER_LANES"] * cut["CHANNEL_LANES"]
    assert 32 * tiles.WARPS % lanes == 0
    assert 32 * tiles.WARPS // lanes <= 32, "as many as there are images to share"
    assert cut["FILTERS"] * cut["FILTER_LANES"] % 16 == 0
