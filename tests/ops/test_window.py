"""The geometry of a window: sizes, taps, padding and its gradient."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import reference
from xpcnn.ops.window import Window, check_padding, pad, pair, resolve_padding, unpad
from xpcnn.ops.workspace import Workspace

axis = st.integers(1, 4)
axes = st.tuples(axis, axis)
ends = st.tuples(st.integers(0, 3), st.integers(0, 3))


@settings(max_examples=200)
@given(
    kernel=axes, strides=axes, dilation=axes, padding=st.tuples(ends, ends), size=st.tuples(*[st.integers(1, 12)] * 2)
)
def test_the_output_counts_the_positions_where_a_whole_window_fits(kernel, strides, dilation, padding, size):
    window = Window(kernel, strides, padding, dilation)
    expected = []
    for k, s, d, (before, after), n in zip(kernel, strides, dilation, padding, size, strict=True):
        starts = range(0, n + before + after, s)
        expected.append(sum(start + (k - 1) * d < n + before + after for start in starts))
    assert tuple(max(0, outputs) for outputs in window.output_size(*size)) == tuple(expected)


@given(kernel=axes, strides=axes, dilation=axes, size=st.tuples(*[st.integers(1, 12)] * 2))
def test_same_padding_gives_ceil_of_size_by_stride_with_the_odd_one_at_the_end(kernel, strides, dilation, size):
    padding = resolve_padding("same", kernel, strides, dilation, size)
    assert Window(kernel, strides, padding, dilation).output_size(*size) == tuple(
        -(-n // s) for n, s in zip(size, strides, strict=True)
    )
    assert all(0 <= after - before <= 1 for before, after in padding)


def test_padding_is_none_or_equal_on_both_sides_where_it_is_given():
    assert resolve_padding("valid", (3, 3), (1, 1), (1, 1), (5, 5)) == ((0, 0), (0, 0))
    assert resolve_padding((1, 2), (3, 3), (1, 1), (1, 1), (5, 5)) == ((1, 1), (2, 2))
    assert [check_padding(p) for p in ("same", "valid", 2, [1, 0], np.int64(3))] == [
        "same",
        "valid",
        (2, 2),
        (1, 0),
        (3, 3),
    ]


def test_cells_along_an_axis_show_those_of_every_window_and_copy_nothing():
    window = Window((2, 3), (2, 1), dilation=(1, 2))
    assert window.extent == (2, 5)
    images = np.arange(2 * 5 * 8).reshape(1, 2, 5, 8)
    rows, columns = window.cells(images, 2), window.cells(images, 3)
    assert [cell.tolist() for cell in rows] == [images[:, :, [i, i + 2]].tolist() for i in (0, 1)]
    assert [cell.tolist() for cell in columns] == [images[..., i : i + 4].tolist() for i in (0, 2, 4)]
    assert all(np.shares_memory(cell, images) for cell in rows + columns)


@pytest.mark.parametrize("mode", [0.0, -float("inf"), "edge"])
@pytest.mark.parametrize("padding", [((0, 0), (0, 0)), ((1, 2), (0, 3)), ((0, 0), (2, 0)), ((4, 5), (6, 1))])
def test_padding_fills_or_repeats_the_border(xp, host, mode, padding):
    x = np.random.default_rng(0).normal(size=(2, 3, 3, 2))
    how = {"mode": "edge"} if mode == "edge" else {"mode": "constant", "constant_values": mode}
    expected = np.pad(x, ((0, 0), (0, 0), *padding), **how)
    np.testing.assert_array_equal(host(pad(xp, xp.asarray(x), padding, mode, Workspace(xp))), expected)


@pytest.mark.parametrize("mode", [0.0, "edge"])
@pytest.mark.parametrize("padding", [((0, 0), (0, 0)), ((1, 2), (0, 3)), ((0, 0), (2, 0)), ((4, 5), (6, 1))])
def test_a_padded_cells_gradient_goes_to_the_cell_it_repeats(xp, host, mode, padding):
    (top, bottom), (left, right) = padding
    dpadded = np.random.default_rng(0).normal(size=(2, 3, 3 + top + bottom, 2 + left + right))
    expected = np.zeros((2, 3, 3, 2))
    for n, c, i, j in reference.positions(*dpadded.shape):
        row = reference.source(i - top, 3, "edge" if mode == "edge" else "zeros")
        column = reference.source(j - left, 2, "edge" if mode == "edge" else "zeros")
        if row is not None and column is not None:
            expected[n, c, row, column] += dpadded[n, c, i, j]
    np.testing.assert_allclose(host(unpad(xp.asarray(dpadded), padding, mode)), expected, rtol=1e-12)


def test_without_padding_nothing_is_copied(xp):
    x = xp.ones((2, 1, 3, 3))
    assert pad(xp, x, ((0, 0), (0, 0)), 0.0, Workspace(xp)) is x
    assert not Window((2, 2)).is_padded
    assert Window((2, 2), padding=((0, 0), (0, 1))).is_padded


def test_a_number_stands_for_both_axes():
    assert pair(3, "size") == pair((3, 3), "size") == pair([3, np.int32(3)], "size") == (3, 3)
    assert pair(0, "padding", least=0) == (0, 0)


@pytest.mark.parametrize("value", [0, -1, 1.0, "3", True, None, (1,), (1, 2, 3), (1, 0), (2, None), ((1, 1), (1, 1))])
def test_other_sizes_are_refused(value):
    with pytest.raises(ValueError, match=r"size must be a whole number.* Received: "):
        pair(value, "size")


@pytest.mark.parametrize("value", ["full", "SAME", -1, (1, -1), None])
def test_other_paddings_are_refused(value):
    with pytest.raises(ValueError, match=r"padding must be .* Received: "):
        check_padding(value)
