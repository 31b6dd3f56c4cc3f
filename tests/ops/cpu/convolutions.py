"""Convolutions on the backend ``numba``, and whether they equal plain loops."""

import numpy as np

from tests import reference
from xpcnn.ops.convolution import convolution
from xpcnn.ops.workspace import Workspace
from xpcnn.precision import resolve


def convolve(x, weight, dy, window):
    """Return y, dx and dweight."""
    xp = resolve("numba")
    y, backward = convolution(xp, x, weight, None, window, Workspace(xp))
    dweight = np.full(weight.shape, np.nan, weight.dtype)
    dx = backward(dy, dweight, None, True)
    return y.copy(), dx, dweight


def drawn(window, n=2, channels=8, filters=8, size=(13, 17), dtype=np.float64):
    rng = np.random.default_rng(0)
    x, weight = rng.normal(size=(n, channels, *size)), rng.normal(size=(filters, channels, *window.kernel))
    dy = rng.normal(size=(n, filters, *window.output_size(*size)))
    return [array.astype(dtype) for array in (x, weight, dy)]


def assert_plain(results, x, weight, dy, window):
    options = {"stride": window.strides, "padding": window.padding, "dilation": window.dilation}
    dx, dweight, _ = reference.conv2d_gradients(dy, x, weight, **options)
    for result, right in zip(results, (reference.conv2d(x, weight, **options), dx, dweight), strict=True):
        np.testing.assert_allclose(result, right, rtol=1e-8, atol=1e-9)


def noted(monkeypatch, way):
    """Return a list that receives the windows for which a module is the way."""
    seen, suits = [], way.suits

    def note(x, weight, window, groups, output):
        suited = suits(x, weight, window, groups, output)
        seen.extend([window] if suited else [])
        return suited

    monkeypatch.setattr(way, "suits", note)
    return seen
