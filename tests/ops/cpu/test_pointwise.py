"""Convolutions with filters of one cell are products, with the results of direct sums."""

import numpy as np
import pytest

pytest.importorskip("numba")
from tests import reference
from xpcnn.backend import resolve
from xpcnn.ops.convolution import convolution
from xpcnn.ops.cpu import pointwise
from xpcnn.ops.window import Window
from xpcnn.ops.workspace import Workspace

WINDOW = Window((1, 1))


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("with_bias", [False, True])
def test_a_product_gives_output_and_gradients(relu, with_bias):
    xp, rng = resolve("numba"), np.random.default_rng(0)
    x, weight, dy = (rng.normal(size=shape) for shape in ((3, 8, 5, 7), (9, 8, 1, 1), (3, 9, 5, 7)))
    bias = rng.normal(size=9) if with_bias else None
    assert pointwise.suits(x, weight, WINDOW, 1, (5, 7))
    y, backward = convolution(xp, x, weight, bias, WINDOW, Workspace(xp), relu=relu)
    dweight, dbias = np.full(weight.shape, np.nan), np.full(9, np.nan)
    dx = backward(dy, dweight, dbias, True)
    expected = reference.conv2d(x, weight) + (0 if bias is None else bias[:, None, None])
    np.testing.assert_allclose(y, np.maximum(expected, 0) if relu else expected, rtol=1e-10, atol=1e-12)
    masked = dy * (expected > 0) if relu else dy
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
