"""Contrast and brightness, changed relative to each image's own."""

import numpy as np
import pytest

from tests import strict
from xpcnn.data.contrast_brightness import adjust_contrast_brightness

CHANGES = np.array([[0, 0], [0.1, 0], [0, 0.1], [-0.1, -0.05]], np.float32)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_contrast_stretches_about_the_mean_and_brightness_moves_by_standard_deviations(xp, host, dtype):
    x = np.random.default_rng(0).normal(3, 2, (4, 3, 5, 6)).astype(dtype)
    y = host(adjust_contrast_brightness(xp, xp.asarray(x), xp.asarray(CHANGES)))
    assert y.dtype == dtype
    for before, after, (contrast, brightness) in zip(x, y, CHANGES, strict=True):
        mean, std = before.mean(), before.std()
        expected = (1 + contrast) * (before - mean) + mean + brightness * std
        np.testing.assert_allclose(after, expected, rtol=1e-4, atol=1e-5)


def test_bytes_stay_bytes_and_within_their_range():
    x = np.random.default_rng(0).integers(0, 256, (4, 1, 9, 9)).astype(np.uint8)
    y = adjust_contrast_brightness(np, x, CHANGES)
    assert y.dtype == np.uint8
    np.testing.assert_array_equal(y[0], x[0])
    assert y[1].max() == 255
    assert y[1].min() == 0


def test_constant_images_stay_and_no_images_are_none(xp, host):
    x = xp.asarray(np.full((4, 1, 3, 3), 7, np.float32))
    np.testing.assert_array_equal(host(adjust_contrast_brightness(xp, x, xp.asarray(CHANGES))), host(x))
    assert adjust_contrast_brightness(xp, x[:0], xp.asarray(CHANGES[:0])).shape == (0, 1, 3, 3)


def test_nothing_waits_for_the_device():
    x, changes = strict.xp.asarray(np.ones((4, 1, 3, 3), np.float32)), strict.xp.asarray(CHANGES)
    with strict.forbid():
        adjust_contrast_brightness(strict.xp, x, changes)
