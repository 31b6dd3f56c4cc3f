"""Convolutions with filters of one cell are products, with the results of direct sums."""

import numpy as np
import pytest

pytest.importorskip("numba")
from tests import reference
from xpcnn.ops.convolution import convolution
from xpcnn.ops.cpu import pointwise
from xpcnn.ops.window import Window
from xpcnn.ops.workspace import Workspace
from xpcnn.precision import resolve

WINDOW = Window((1, 1))


@pytest.mark.parametrize("activation", ["linear", "relu", "relu6"])
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize(("channels", "n"), [(8, 3), (8, 40), (pointwise.FEW, 40)])
def test_a_product_gives_output_and_gradients(channels, n, activation, with_bias):
    xp, rng = resolve("numba"), np.random.default_rng(0)
    shapes = (n, channels, 5, 7), (9, channels, 1, 1), (n, 9, 5, 7)
    x, weight, dy = (rng.normal(size=shape) for shape in shapes)
    bias = rng.normal(size=9) if with_bias else None
    assert pointwise.suits(x, weight, WINDOW, 1, (5, 7))
    y, backward = convolution(xp, x, weight, bias, WINDOW, Workspace(xp), activation=activation)
    dweight, dbias = np.full(weight.shape, np.nan), np.full(9, np.nan)
    dx = backward(dy, dweight, dbias, True)
    expected = reference.conv2d(x, weight) + (0 if bias is None else bias[:, None, None])
    low, high = {"linear": (-np.inf, np.inf), "relu": (0, np.inf), "relu6": (0, 6)}[activation]
    np.testing.assert_allclose(y, expected.clip(low, high), rtol=1e-10, atol=1e-12)
    masked = dy * ((expected > low) & (expected < high))
    for result, right in zip((dx, dweight, dbias), reference.conv2d_gradients(masked, x, weight), strict=True):
        np.testing.assert_allclose(result, right, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("window", "shape", "groups", "suits"),
    [
        (WINDOW, (8, 8), 1, True),
        (Window((1, 1), dilation=(2, 2)), (8, 8), 1, True),
        (WINDOW, (7, 8), 1, False),
        (WINDOW, (8, 7), 1, False),
        (WINDOW, (8, 8), 2, False),
        (Window((1, 1), (2, 2)), (8, 8), 1, False),
        (Window((1, 1), padding=((1, 1), (0, 0))), (8, 8), 1, False),
        (Window((1, 2)), (8, 8), 1, False),
    ],
)
def test_it_is_the_way_for_many_filters_of_one_cell(window, shape, groups, suits):
    x, weight = np.empty((2, shape[1] * groups, 5, 7)), np.empty((*shape, *window.kernel))
    assert pointwise.suits(x, weight, window, groups, window.output_size(5, 7)) == suits
