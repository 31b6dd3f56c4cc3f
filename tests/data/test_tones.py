"""Contrast and brightness, each image in the measure of its own."""

import numpy as np
import pytest

from tests import strict
from xpcnn.data.tones import toned

TONES = np.array([[0, 0], [0.1, 0], [0, 0.1], [-0.1, -0.05]], np.float32)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_contrast_stretches_about_the_mean_and_brightness_moves_by_deviations(xp, host, dtype):
    x = np.random.default_rng(0).normal(3, 2, (4, 3, 5, 6)).astype(dtype)
    y = host(toned(xp, xp.asarray(x), xp.asarray(TONES)))
    assert y.dtype == dtype
    for before, after, (contrast, brightness) in zip(x, y, TONES, strict=True):
        mean, deviation = before.mean(), before.std()
        expected = (1 + contrast) * (before - mean) + mean + brightness * deviation
        np.testing.assert_allclose(after, expected, rtol=1e-4, atol=1e-5)


def test_bytes_stay_bytes_and_within_their_range():
    x = np.random.default_rng(0).integers(0, 256, (4, 1, 9, 9)).astype(np.uint8)
    y = toned(np, x, TONES)
    assert y.dtype == np.uint8
    np.testing.assert_array_equal(y[0], x[0])
    assert y[1].max() == 255
    assert y[1].min() == 0


def test_constant_images_stay_and_no_images_are_none(xp, host):
    x = xp.asarray(np.full((4, 1, 3, 3), 7, np.float32))
    np.testing.assert_array_equal(host(toned(xp, x, xp.asarray(TONES))), host(x))
    assert toned(xp, x[:0], xp.asarray(TONES[:0])).shape == (0, 1, 3, 3)


def test_nothing_waits_for_the_device():
    x, tones = strict.xp.asarray(np.ones((4, 1, 3, 3), np.float32)), strict.xp.asarray(TONES)
    with strict.forbid():
        toned(strict.xp, x, tones)
