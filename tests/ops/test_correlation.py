"""Lowering in correlation: cut into blocks that stay within the budget, with the same result."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import reference, strict
from xpcnn.backend import to_host
from xpcnn.ops.correlation import correlation
from xpcnn.ops.window import Window
from xpcnn.ops.workspace import COLUMN_BUDGET, Workspace, channel_rows
from xpcnn.program.threads import MOST_THREADS


class Measured(Workspace):
    """A workspace that notes how many bytes are lowered at once."""

    def __init__(self, xp, *budget):
        super().__init__(xp, *budget)
        self.lowered = []

    def scratch(self, shape, dtype, use):
        array = super().scratch(shape, dtype, use)
        if use == "lowered":
            self.lowered.append(array.nbytes)
        return array


def arrays(n, channels, height, width, filters, window, groups=1, dtype=np.float64):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, channels, height, width)).astype(dtype)
    weight = rng.normal(size=(filters, channels // groups, *window.kernel)).astype(dtype)
    return x, weight, rng.normal(size=(n, filters, *window.output_size(height, width))).astype(dtype)


def convolve(xp, workspace, window, x, weight, dy, groups=1):
    """Return y, dweight and dx on the host."""
    y, backward = correlation(xp, xp.asarray(x), xp.asarray(weight), window, workspace, groups=groups)
    dweight = xp.full(weight.shape, np.nan, dtype=weight.dtype)
    dx = backward(xp.asarray(dy), dweight, True)
    return [to_host(array) for array in (y, dweight, dx)]


def assert_all_close(results, expected):
    for result, other in zip(results, expected, strict=True):
        np.testing.assert_allclose(result, other, rtol=1e-10, atol=1e-11)


@settings(max_examples=40)
@given(
    budget=st.integers(1, 40_000),
    n=st.integers(1, 5),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    padding=st.integers(0, 2),
    groups=st.sampled_from([1, 2]),
)
def test_every_budget_gives_the_textbooks_result(xp, budget, n, strides, dilation, padding, groups):
    window = Window((3, 2), strides, ((padding, padding), (0, padding)), dilation)
    x, weight, dy = arrays(n, 2, 7, 6, 2, window, groups)
    geometry = {"stride": strides, "padding": window.padding, "dilation": dilation, "groups": groups}
    y = reference.conv2d(x, weight, **geometry)
    dx, dweight, _ = reference.conv2d_gradients(dy, x, weight, **geometry)
    workspace = Measured(xp, budget)
    assert_all_close(convolve(xp, workspace, window, x, weight, dy, groups), (y, dweight, dx))
    a_row = 2 * 3 * 2 * max(dy.shape[3], 6 + 2 * padding) * 8
    assert max(workspace.lowered) <= max(budget, a_row)


@pytest.mark.parametrize("strides", [(1, 1), (2, 2)])
@pytest.mark.parametrize("n", [1, 8, 100])
def test_what_is_lowered_stays_within_the_budget_whatever_the_batch(xp, n, strides):
    window = Window((3, 3), strides)
    x, weight, dy = arrays(n, 4, 18, 18, 2, window, dtype=np.float32)
    a_row_of_an_image = 4 * 3 * 3 * 18 * 4
    for budget in (a_row_of_an_image, 10 * a_row_of_an_image, 100 * a_row_of_an_image):
        workspace = Measured(xp, budget)
        convolve(xp, workspace, window, x, weight, dy)
        assert max(workspace.lowered) <= budget


def test_rows_that_windows_share_are_lowered_once(xp):
    window = Window((5, 3))
    x, weight, _ = arrays(4, 3, 20, 12, 2, window, dtype=np.float32)
    workspace = Measured(xp)
    correlation(xp, xp.asarray(x), xp.asarray(weight), window, workspace)
    assert workspace.lowered == [4 * 3 * 3 * 20 * 10 * 4], "images, channels, kernel columns, rows, columns, bytes"


def test_one_huge_image_is_cut_into_rows(xp):
    window = Window((5, 5))
    x, weight, dy = arrays(1, 3, 404, 304, 2, window, dtype=np.float32)
    a_row = 3 * 5 * 304 * 4
    budget = 2**20
    workspace = Measured(xp, budget)
    convolve(xp, workspace, window, x, weight, dy)
    assert 404 * a_row > 7 * budget
    assert budget - a_row < max(workspace.lowered) <= budget


def test_a_budget_too_small_for_one_row_of_output_takes_a_row_at_a_time(xp):
    window = Window((3, 3), (2, 2), ((1, 1), (1, 1)))
    x, weight, dy = arrays(2, 3, 9, 11, 4, window)
    workspace = Measured(xp, 1)
    results = convolve(xp, workspace, window, x, weight, dy)
    assert set(workspace.lowered) == {3 * 9 * 6 * 8}
    assert len(workspace.lowered) == 3 * 2 * 5, "forward, for the weight and for the input; images; rows"
    assert_all_close(results, convolve(xp, Workspace(xp), window, x, weight, dy))


def test_all_threads_together_stay_within_the_budget_stated():
    assert COLUMN_BUDGET == 64 * 2**20
    assert MOST_THREADS * Workspace(np).column_bytes <= COLUMN_BUDGET
    window, first = Window((3, 3)), Workspace(np)
    x, weight, dy = arrays(40, 8, 34, 34, 2, window, dtype=np.float32)
    for _ in range(3):  # a run in three pieces on one thread, each with a workspace of its own
        convolve(np, Workspace(np, scratch_of=first), window, x, weight, dy)
    assert first.scratch((1,), np.uint8, "lowered").base.nbytes <= COLUMN_BUDGET / MOST_THREADS


def test_a_second_pass_takes_no_new_memory():
    window = Window((3, 3), padding=((1, 1), (1, 1)))
    x, weight, dy = arrays(6, 4, 12, 12, 5, window)
    workspace = Workspace(np)
    first = convolve(np, workspace, window, x, weight, dy)
    workspace.reset()
    second = convolve(np, workspace, window, x + 1, weight, dy)
    assert np.shares_memory(first[0], second[0])
    assert np.shares_memory(first[2], second[2])


def test_the_output_lies_in_memory_one_channel_after_the_other(xp):
    window = Window((3, 3))
    x, weight, _ = arrays(3, 2, 6, 6, 4, window)
    y, _ = correlation(xp, xp.asarray(x), xp.asarray(weight), window, Workspace(xp))
    assert xp.shares_memory(channel_rows(y), y)


def test_nothing_waits_for_the_device():
    window = Window((3, 3), padding=((1, 1), (1, 1)))
    x, weight, dy = map(strict.xp.asarray, arrays(4, 3, 8, 8, 5, window))
    dweight = strict.xp.empty(weight.shape)
    for budget in (COLUMN_BUDGET, 10_000):
        with strict.forbid():
            _, backward = correlation(strict.xp, x, weight, window, Workspace(strict.xp, budget))
            backward(dy, dweight, True)


def test_the_input_gradient_is_only_computed_where_it_is_asked_for(xp, host):
    window = Window((2, 2))
    x, weight, dy = arrays(2, 2, 5, 5, 3, window)
    expected = convolve(xp, Workspace(xp), window, x, weight, dy)[1]
    _, backward = correlation(xp, xp.asarray(x), xp.asarray(weight), window, Workspace(xp))
    dweight = xp.empty(weight.shape)
    assert backward(xp.asarray(dy), dweight, False) is None
    np.testing.assert_array_equal(host(dweight), expected)
