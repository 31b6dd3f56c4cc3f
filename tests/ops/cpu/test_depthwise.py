"""Depthwise convolutions are computed from images as they lie, with the results of the textbook's."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("numba")
from tests import reference
from xpcnn.ops.convolution import convolution
from xpcnn.ops.cpu import depthwise
from xpcnn.ops.cpu.compiler import lanes
from xpcnn.ops.window import Window
from xpcnn.ops.workspace import Workspace
from xpcnn.precision import resolve

SAME = Window((3, 3), padding=((1, 1), (1, 1)))


def assert_plain(n, channels, size, window, dtype=np.float64, rtol=1e-10):
    xp, rng = resolve("numba"), np.random.default_rng(0)
    x, weight = rng.normal(size=(n, channels, *size)), rng.normal(size=(channels, 1, *window.kernel))
    bias, dy = rng.normal(size=channels), rng.normal(size=(n, channels, *window.output_size(*size)))
    ours = [array.astype(dtype) for array in (x, weight, bias, dy)]
    assert depthwise.suits(ours[0], ours[1], window, channels, window.output_size(*size))
    y, backward = convolution(xp, *ours[:3], window, Workspace(xp), groups=channels)
    dweight, dbias = np.full(weight.shape, np.nan, dtype), np.full(channels, np.nan, dtype)
    dx = backward(ours[3], dweight, dbias, True)
    options = {
        "stride": window.strides, "padding": window.padding, "dilation": window.dilation, "groups": channels
    }  # fmt: skip
    expected = (
        reference.conv2d(x, weight, **options) + bias[:, None, None],
        *reference.conv2d_gradients(dy, x, weight, **options),
    )
    for result, right in zip((y, dx, dweight, dbias), expected, strict=True):
        np.testing.assert_allclose(result, right, rtol=rtol, atol=rtol * np.abs(right).max())


@settings(max_examples=60)
@given(
    n=st.sampled_from([0, 1, 9]),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    padding=st.tuples(*[st.integers(0, 5)] * 4),
    size=st.tuples(st.integers(9, 11), st.integers(9, 12)),
)
def test_any_geometry_gives_the_textbooks_result(n, kernel, strides, dilation, padding, size):
    top, bottom, left, right = padding
    window = Window(kernel, strides, ((top, bottom), (left, right)), dilation)
    n += lanes(np.dtype(float)) if strides[1] > 1 else 1
    assert_plain(n, 2, size, window)


@pytest.mark.parametrize("n", [16, 17, 40])
@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("stride", [1, 2])
def test_in_single_precision_any_number_of_images_fills_vectors(n, kernel, stride):
    window = Window((kernel, kernel), (stride, stride), ((1, 2), (1, 2)))
    assert_plain(n, 3, (15, 14), window, np.float32, rtol=1e-5)


@pytest.mark.parametrize(
    ("window", "n", "shape", "groups", "suits"),
    [
        (SAME, 1, (4, 1), 4, True),
        (SAME, 1, (4, 2), 2, False),
        (SAME, 1, (8, 1), 4, False),
        (Window((3, 3), (2, 1)), 1, (4, 1), 4, True),
        (Window((3, 3), (1, 2)), 1, (4, 1), 4, False),
        (Window((3, 3), (1, 2)), 16, (4, 1), 4, True),
    ],
)
def test_it_is_the_way_for_one_filter_a_channel(window, n, shape, groups, suits):
    x, weight = np.empty((n, shape[1] * groups, 9, 9), np.float32), np.empty((*shape, *window.kernel), np.float32)
    assert depthwise.suits(x, weight, window, groups, window.output_size(9, 9)) == suits
