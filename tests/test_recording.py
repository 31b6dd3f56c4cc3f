"""Recordings: whatever NumPy does with a watched array is repeated on the same memory."""

import threading

import numpy as np
import pytest

from xpcnn.ops.workspace import strided
from xpcnn.recording import Recording, RecordingError, Watched, each_time, made_each_time, under_way, unwatched, watched

A = np.arange(12, dtype=np.float32).reshape(3, 4) - 5

#: What is done with one array, each giving an array.
OPERATIONS = {
    "operator": lambda x: 2 * x + 1,
    "operator with a scalar array": lambda x: x / np.float32(3),
    "comparison": lambda x: x > 0,
    "function": lambda x: np.exp(-np.abs(x)),
    "function into given memory": lambda x: np.multiply(x, x, out=watched(np.empty((3, 4), np.float32))),
    "function into plain memory": lambda x: np.multiply(x, x, out=np.empty((3, 4), np.float32)),
    "product": lambda x: x @ x.T,
    "method that reduces": lambda x: x.sum(axis=1),
    "method that reduces to one number": lambda x: x.sum() / -3.0,
    "maximum that keeps its axis": lambda x: x - x.max(axis=1, keepdims=True),
    "mean": lambda x: x.mean(axis=0),
    "place of the maximum": lambda x: x.argmax(axis=1) == np.arange(3),
    "other dtype": lambda x: x.astype(np.float64) * 2,
    "same dtype": lambda x: x.astype(np.float32, copy=False) * 2,
    "copy": lambda x: x.copy() + x,
    "view": lambda x: x.T[1:, ::-1],
    "view of a view": lambda x: x.reshape(2, 6)[:, None] * 1,
    "reshape that copies": lambda x: x.T.reshape(2, 6),
    "ravel that copies": lambda x: x.T.ravel() + 1,
    "one element": lambda x: x[1, 2] * 2,
    "chosen rows": lambda x: x[[2, 0]] + 1,
    "chosen elements": lambda x: np.where(x > 0, x, 0.1 * x),
    "stack": lambda x: np.stack([x.sum(axis=1), x.max(axis=1)]),
    "concatenation": lambda x: np.concatenate((1 - x, x), axis=1),
    "strides": lambda x: strided(np, x, (2, 2, 4), (16, 16, 4)).sum(axis=0),
    "clip": lambda x: x.clip(-1, 1),
    "two levels of lists": lambda x: np.block([[x, x], [x, x]]),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_replay_does_with_new_values_what_was_done_with_the_old_ones(name):
    x = A.copy()
    with Recording() as recording:
        result = OPERATIONS[name](watched(x))
    assert isinstance(result, Watched)
    result = unwatched(result)
    for new in (A, A[::-1] * 3 - 2):
        x[...] = new
        recording.replay()
        expected = OPERATIONS[name](x)
        assert result.dtype == expected.dtype
        np.testing.assert_array_equal(result, expected)


def in_place(x):
    x *= 2
    x[1] += 1
    x[:, 2] = x[:, 0]
    x[0, 0] = 7
    x[x > 9] = 9
    np.copyto(x[2], x[1])
    x.reshape(12)[3:5] = -1


def test_a_replay_changes_in_place_what_was_changed_in_place():
    x = A.copy()
    with Recording() as recording:
        in_place(watched(x))
    expected = A.copy()
    in_place(expected)
    np.testing.assert_array_equal(x, expected)
    x[...] = A * 3
    recording.replay()
    expected = A * 3
    in_place(expected)
    np.testing.assert_array_equal(x, expected)


@pytest.mark.parametrize("decide", [bool, float, int, lambda x: [0, 1][x], lambda x: 1 if x else 2])
def test_a_decision_by_values_cannot_be_recorded(decide):
    with Recording(), pytest.raises(RecordingError, match="control flow depends on the values"):
        decide(watched(np.ones((), np.int64)))


def test_what_gives_no_single_array_cannot_be_recorded():
    with Recording(), pytest.raises(RecordingError, match="did not return a single array"):
        np.divmod(watched(A), 2)


@pytest.mark.parametrize(
    "method", ["item", "tolist", "tobytes", "dot", "argsort", "sort", "trace", "compress", "cumsum"]
)
def test_a_method_that_would_escape_cannot_be_recorded(method):
    with Recording(), pytest.raises(RecordingError, match=f"{method}' cannot be recorded"):
        getattr(watched(A.copy()), method)()


def test_only_the_order_of_c_is_reshaped_to():
    with Recording(), pytest.raises(TypeError, match="order"):
        watched(A).reshape(12, order="F")


def test_an_operation_in_place_on_a_part_is_noted_once():
    x = A.copy()
    with Recording() as recording:
        y = watched(x)
        y[1:] += 1
    assert len(recording._calls) == 1
    recording.replay()
    np.testing.assert_array_equal(x[1:], A[1:] + 2)


def test_results_get_the_memory_that_the_recording_is_given_in_the_layout_they_had():
    given = []

    def empty(shape, dtype):
        given.append(np.empty(shape, dtype))
        return given[-1]

    with Recording() as recording:
        recording.empty = empty
        transposed = unwatched(np.exp(watched(A).T))
        copied = unwatched(watched(A).T.reshape(2, 6))
    assert [array.nbytes for array in given] == [48, 48]
    assert np.shares_memory(transposed, given[0])
    assert np.shares_memory(copied, given[1])
    assert transposed.T.flags.c_contiguous
    np.testing.assert_array_equal(transposed, np.exp(A.T))


def test_what_is_made_each_time_is_made_again_in_its_place():
    values, seen = iter(([1, 2], [3, 4], [5, 6])), []
    with Recording() as recording:
        array = made_each_time(lambda: np.array(next(values)))
        doubled = array * 2
        each_time(lambda: seen.append(unwatched(array).tolist()))
    for _ in range(2):
        recording.replay()
    assert unwatched(doubled).tolist() == [10, 12]
    assert seen == [[1, 2], [3, 4], [5, 6]]


def test_without_a_recording_nothing_is_watched():
    assert watched(A) is A
    assert type(made_each_time(lambda: A)) is np.ndarray
    seen = []
    each_time(lambda: seen.append(1))
    assert seen == [1]


def test_once_the_recording_is_over_an_array_is_like_any_other():
    with Recording() as recording:
        x = watched(A.copy())
    assert type(x + 1) is np.ndarray
    x[0] = 3
    recording.replay()


def test_a_recording_notes_its_own_thread_alone():
    others = []
    with Recording() as recording:
        thread = threading.Thread(target=lambda: others.append(under_way()))
        thread.start()
        thread.join()
        assert under_way() is recording
    assert others == [None]
    assert under_way() is None


def test_an_inner_recording_takes_over_and_gives_back():
    with Recording() as outer:
        with Recording() as inner:
            assert under_way() is inner
        assert under_way() is outer


def test_watched_arrays_are_found_in_lists_tuples_and_dicts():
    with Recording():
        x = watched(A)
        found = unwatched({"a": [x, (x, 1)], "b": None})
    assert type(found["a"][0]) is type(found["a"][1][0]) is np.ndarray
    assert found["b"] is None
