"""A workspace: the same memory after each reset, the layout of images, scratch memory."""

import numpy as np
import pytest

from tests import strict
from xpcnn.ops.workspace import CACHE_BYTES, COLUMN_BUDGET, Workspace, channel_rows, strided, to_batch_last


def test_after_a_reset_the_same_memory_is_handed_out_in_the_same_order():
    workspace = Workspace(np)
    first = [workspace.empty((4, 5), np.float32), workspace.batch_last((2, 3, 4, 4), np.float64)]
    addresses = [array.ctypes.data for array in first]
    workspace.reset()
    again = [workspace.empty((4, 5), np.float32), workspace.batch_last((2, 3, 4, 4), np.float64)]
    assert [array.ctypes.data for array in again] == addresses


def test_a_smaller_request_and_another_dtype_fit_the_same_memory_and_a_larger_one_gets_more():
    workspace = Workspace(np)
    first = workspace.empty((100,), np.float32)
    workspace.reset()
    smaller = workspace.empty((3, 7), np.float64)
    assert smaller.shape == (3, 7)
    assert smaller.dtype == np.float64
    assert np.shares_memory(smaller, first)
    workspace.reset()
    assert workspace.empty((101,), np.float32).shape == (101,)
    workspace.reset()
    assert workspace.empty((0, 3), np.float32).shape == (0, 3)


def test_arrays_between_two_resets_never_overlap(xp, host):
    workspace = Workspace(xp)
    for _ in range(2):
        arrays = [workspace.empty((n,), np.float32) for n in (5, 1000, 5, 1)]
        for number, array in enumerate(arrays):
            array.fill(number)
        assert [set(host(array).tolist()) for array in arrays] == [{0}, {1}, {2}, {3}]
        workspace.reset()


def test_what_is_reclaimed_is_given_to_the_next_that_fits():
    workspace, addresses = Workspace(np), []
    for _ in range(3):
        first, kept = workspace.empty((100,), np.float32), workspace.empty((50,), np.float32)
        workspace.reclaim([kept])
        small, again = workspace.empty((10,), np.float32), workspace.empty((90,), np.float32)
        assert np.shares_memory(again, first)
        assert not np.shares_memory(small, first), "less than half of it would be used"
        addresses.append([array.ctypes.data for array in (first, kept, small, again)])
        workspace.reset()
    assert addresses[0] == addresses[1] == addresses[2]


def test_what_a_live_view_shows_is_not_reclaimed():
    workspace = Workspace(np)
    first = workspace.batch_last((4, 3), np.float32)
    for live in (first.T[1:], strided(np, first[1:], (2,), (4,)), first.reshape(2, 2, 3)):
        workspace.reclaim([live, np.zeros(3)])
        assert not np.shares_memory(workspace.empty((12,), np.float32), first)


def test_the_first_requests_are_kept():
    workspace = Workspace(np)
    first = workspace.empty((8,), np.float32)
    requests = workspace.requests
    second = workspace.empty((8,), np.float32)
    workspace.reclaim([], requests)
    again, third = (workspace.empty((8,), np.float32) for _ in range(2))
    assert np.shares_memory(again, second)
    assert not np.shares_memory(third, first)


def test_two_workspaces_never_share_what_they_hand_out():
    one, other = Workspace(np).empty((9,), np.float32), Workspace(np).empty((9,), np.float32)
    assert not np.shares_memory(one, other)


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (6, 7), (2, 3, 4), (5,)])
def test_layers_pass_on_arrays_whose_memory_has_the_batch_last(xp, shape):
    array = Workspace(xp).batch_last(shape, np.float32)
    assert array.shape == shape
    assert array.transpose(*range(1, len(shape)), 0).flags.c_contiguous


def test_an_array_is_brought_to_that_layout_only_if_it_is_not_in_it(xp, host):
    workspace = Workspace(xp)
    x = xp.asarray(np.random.default_rng(0).normal(size=(2, 3, 4, 5)))
    moved = to_batch_last(x, workspace)
    assert moved is not x
    assert host(moved).tolist() == host(x).tolist()
    assert moved.transpose(1, 2, 3, 0).flags.c_contiguous
    assert to_batch_last(moved, workspace) is moved


def test_channel_rows_hold_each_channels_values_whatever_the_layout(xp, host):
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5))
    expected = [x[:, c].transpose(1, 2, 0).ravel().tolist() for c in range(3)]
    images = Workspace(xp).batch_last(x.shape, x.dtype)
    images[...] = xp.asarray(x)
    assert host(channel_rows(images)).tolist() == host(channel_rows(xp.asarray(x))).tolist() == expected
    assert host(channel_rows(xp.asarray(x[:, :, 0, 0]))).tolist() == x[:, :, 0, 0].T.tolist()


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (6, 7), (2, 3, 4)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_like_gives_shape_dtype_and_the_layers_layout(xp, shape, dtype):
    like = Workspace(xp).like(xp.ones(shape, dtype))
    assert like.shape == shape
    assert like.dtype == dtype
    assert like.transpose(*range(1, like.ndim), 0).flags.c_contiguous


def test_scratch_memory_is_used_again_for_the_same_use():
    workspace = Workspace(np)
    first = workspace.scratch((1000,), np.float32, "one")
    assert np.shares_memory(first, workspace.scratch((10, 10), np.float64, "one"))
    assert not np.shares_memory(first, workspace.scratch((10, 10), np.float64, "another"))
    assert not np.shares_memory(first, Workspace(np).scratch((10, 10), np.float64, "one"))


def test_workspaces_of_one_thread_share_their_scratch_memory_and_nothing_else():
    one = Workspace(np)
    other = Workspace(np, scratch_of=one)
    assert np.shares_memory(one.scratch((9,), np.float32, "one"), other.scratch((9,), np.float32, "one"))
    assert not np.shares_memory(one.empty((9,), np.float32), other.empty((9,), np.float32))


def test_on_a_device_its_memory_pool_hands_out_arrays():
    workspace = Workspace(strict.xp)
    first = workspace.empty((3,), np.float32)
    workspace.reset()
    assert not strict.xp.shares_memory(first, workspace.empty((3,), np.float32))
    scratch = [workspace.scratch((3,), np.float32, "one") for _ in range(2)]
    assert not strict.xp.shares_memory(*scratch)


def test_columns_take_a_caches_bytes_on_the_host_and_the_whole_budget_on_a_device():
    assert Workspace(np).column_bytes == CACHE_BYTES < COLUMN_BUDGET
    assert Workspace(np, 1000).column_bytes == 1000
    assert Workspace(strict.xp).column_bytes == COLUMN_BUDGET == 64 * 2**20
    assert Workspace(strict.xp, 1000).column_bytes == 1000
