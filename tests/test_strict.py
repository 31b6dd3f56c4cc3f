"""The stand-in for CuPy computes as NumPy does, and refuses what a GPU refuses or does badly."""

import inspect
import threading

import numpy as np
import pytest

from tests import strict

xp = strict.xp


@pytest.fixture
def x():
    return xp.asarray(np.arange(12, dtype=np.float32).reshape(3, 4))


def test_it_computes_what_numpy_computes(x):
    host = np.arange(12, dtype=np.float32).reshape(3, 4)
    result = xp.maximum(2 * x - 5.0, x @ x.T @ x / 100).sum(axis=1, keepdims=True)
    expected = np.maximum(2 * host - 5.0, host @ host.T @ host / 100).sum(axis=1, keepdims=True)
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result.get(), expected)


@pytest.mark.parametrize(
    "convert",
    [
        np.asarray,
        np.array,
        memoryview,
        np.testing.assert_array_equal,
        lambda x: np.asarray([x, x]),
        lambda x: np.sum(x),
        lambda x: np.concatenate([x, x]),
        lambda x: np.zeros(3)[x],
        lambda x: range(x[0, 1]),
        lambda x: np.zeros((3, 4)).__setitem__(..., x),
    ],
)
def test_no_implicit_conversion_to_numpy(x, convert):
    with pytest.raises((TypeError, IndexError)):
        convert(x) if convert is not np.testing.assert_array_equal else convert(x, 0)


@pytest.mark.parametrize(
    "mix",
    [
        lambda x, host: x + host,
        lambda x, host: host + x,
        lambda x, host: host @ x.T,
        lambda x, host: x.__iadd__(host),
        lambda x, host: host.__iadd__(x),
        lambda x, host: xp.maximum(x, host),
        lambda x, host: xp.add(x, x, out=host),
        lambda x, host: xp.matmul(x, host.T),
        lambda x, host: xp.concatenate([x, host]),
        lambda x, host: xp.where(x > 0, x, host),
        lambda x, host: xp.copyto(x, host),
        lambda x, host: x.fill(host),
        lambda x, host: x.__setitem__(0, host[0]),
        lambda x, host: x.__setitem__(0, [1.0, 2.0, 3.0, 4.0]),
        lambda x, host: xp.maximum(x, [1.0, 2.0, 3.0, 4.0]),
    ],
)
def test_no_mixing_of_host_and_device(x, mix):
    with pytest.raises((TypeError, AttributeError)):
        mix(x, np.ones((3, 4), np.float32))


def test_scalars_promote_as_in_numpy_2(x):
    assert (x * 2.5).dtype == np.float32
    assert (2.5 * x).dtype == np.float32
    assert (x * np.float32(2.5)).dtype == np.float32
    assert (x * np.float64(2.5)).dtype == np.float64
    assert (np.float64(2.5) * x).dtype == np.float64


@pytest.mark.parametrize(
    "name",
    ["einsum", "einsum_path", "errstate", "insert", "block", "random", "nonzero", "unique", "vectorize"],
)
def test_no_names_that_cupy_lacks_or_that_are_slow_or_wait_there(name):
    assert not hasattr(xp, name)


def test_no_sliding_window_view_and_no_writeable_keyword(x):
    assert not hasattr(xp.lib.stride_tricks, "sliding_window_view")
    with pytest.raises(TypeError, match="writeable"):
        xp.lib.stride_tricks.as_strided(x, (3, 4), (16, 4), writeable=False)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: xp.maximum.reduce(x),
        lambda x: xp.logical_and.reduce(x),
        lambda x: xp.add.at(x, 0, 1.0),
        lambda x: xp.exp(x, where=x > 0),
        lambda x: xp.sum(x, where=x > 0),
        lambda x: x.max(axis=0, where=x > 0),
        lambda x: x.max(initial=0.0),
        lambda x: xp.argmax(x, 0, "int64"),
        lambda x: x.setflags(write=False),
        lambda x: x.flags.writeable,
        lambda x: xp.where(x),
    ],
)
def test_no_keywords_and_reductions_that_cupy_lacks(x, call):
    with pytest.raises((TypeError, AttributeError, NotImplementedError)):
        call(x)


def test_add_and_multiply_reduce(x):
    np.testing.assert_array_equal(xp.add.reduce(x).get(), [12, 15, 18, 21])
    np.testing.assert_array_equal(xp.multiply.reduce(x, axis=1).get(), [0, 840, 7920])


def test_ufuncs_and_reductions_write_into_out_and_return_it(x):
    out, sums = xp.empty_like(x), xp.empty((4,), dtype=xp.float32)
    assert xp.exp(x, out=out) is out
    assert xp.negative(x, out) is out
    assert x.sum(axis=0, out=sums) is sums
    np.testing.assert_array_equal(out.get(), -x.get())
    np.testing.assert_array_equal(sums.get(), [12, 15, 18, 21])


def test_copyto_takes_a_mask_and_does_not_wait(x):
    with strict.forbid():
        xp.copyto(x, -1.0, where=x > 2)
    np.testing.assert_array_equal(x.get(), [[0, 1, 2, -1], [-1, -1, -1, -1], [-1, -1, -1, -1]])


def test_slices_transposes_and_reshapes_are_views(x):
    x[1:, ::2] = 0.0
    x.T[3] -= 1.0
    x.reshape(12)[0] = 7.0
    row = x[2]
    row += 100.0
    np.testing.assert_array_equal(x.get(), [[7, 1, 2, 2], [0, 5, 0, 6], [100, 109, 100, 110]])


def test_layouts_are_those_of_cupy(x):
    assert x.T.strides == (4, 16)
    assert not x.T.flags.c_contiguous
    assert xp.empty_like(x.T).strides == (4, 16)
    assert x.T.astype(xp.float64).strides == (8, 32)
    for in_c_order in (
        x.T + 1,
        xp.exp(x.T),
        x.T.copy(),
        xp.where(x.T > 0, x.T, 0.0),
        x.T[xp.asarray([1, 0])],
    ):
        assert in_c_order.flags.c_contiguous
    assert xp.ascontiguousarray(x) is x


def test_one_element_is_an_array_that_views(x):
    element = x[1, 2]
    assert isinstance(element, xp.ndarray)
    assert element.shape == ()
    element += 1.0
    assert float(x[1, 2]) == 7.0


def test_reductions_to_one_number_stay_on_the_device(x):
    with strict.forbid():
        for number in (x.sum(), x.max(), x.mean(), x.argmax(), xp.any(x > 3), xp.count_nonzero(x)):
            assert isinstance(number, xp.ndarray)


def test_gathers_take_device_indices(x):
    rows, columns = xp.asarray([2, 0]), xp.asarray([1, 3])
    np.testing.assert_array_equal(x[rows, columns].get(), [9, 3])
    np.testing.assert_array_equal(x.take(rows, axis=0).get(), [[8, 9, 10, 11], [0, 1, 2, 3]])
    np.testing.assert_array_equal(xp.take_along_axis(x, xp.asarray([[3], [0], [1]]), 1).get(), [[3], [4], [9]])
    np.testing.assert_array_equal(x[x > 9].get(), [10, 11])


@pytest.mark.parametrize(
    "gather",
    [
        lambda x, i: x[i],
        lambda x, i: xp.take(x, i, axis=0),
        lambda x, i: xp.take_along_axis(x, i[:, None], 0),
        lambda x, i: x.__setitem__(i, 0.0),
    ],
)
def test_indices_out_of_range_are_refused_where_cupy_wraps_silently(x, gather):
    with pytest.raises(IndexError, match="out of bounds"):
        gather(x, xp.asarray([0, 3]))


def test_assignment_through_repeated_indices_is_refused(x):
    x[xp.asarray([0, 2])] = 1.0
    with pytest.raises(IndexError, match="repeated"):
        x[xp.asarray([0, 0])] = 1.0
    with pytest.raises(IndexError, match="repeated"):
        x[xp.asarray([0, -3])] += 1.0


def test_strided_windows_are_views_that_stay_in_the_array(x):
    windows = xp.lib.stride_tricks.as_strided(x, (3, 3, 2), (16, 4, 4))
    np.testing.assert_array_equal(windows.get()[1], [[4, 5], [5, 6], [6, 7]])
    np.testing.assert_array_equal(xp.lib.stride_tricks.as_strided(x[0, 3], (3,), (16,)).get(), [3, 7, 11])
    for view, shape, strides in [(x, (3, 5), (16, 4)), (x[1:], (3, 4), (16, 4)), (x, (4,), (-4,))]:
        with pytest.raises(ValueError, match="leaves"):
            xp.lib.stride_tricks.as_strided(view, shape, strides)


def test_overlapping_windows_cannot_be_written(x):
    apart = xp.lib.stride_tricks.as_strided(x, (3, 2, 2), (16, 8, 4))
    apart += 1.0
    for shape, strides in [((3, 3, 2), (16, 4, 4)), ((3, 4, 2), (16, 4, 0))]:
        overlapping = xp.lib.stride_tricks.as_strided(x, shape, strides)
        with pytest.raises(ValueError, match="read-only"):
            overlapping += 1.0
    np.testing.assert_array_equal(x.get(), np.arange(12).reshape(3, 4) + 1)


def test_matmul_refuses_an_out_that_cupy_would_copy(x):
    out = xp.empty((3, 3), dtype=xp.float32)
    assert xp.matmul(x, x.T, out=out) is out
    with pytest.raises(ValueError, match="C order"):
        xp.matmul(x, x.T, out=out.T)


def test_matmul_of_more_than_two_axes_is_counted_as_slow(x):
    with strict.counting() as counts:
        x @ x.T
        xp.tensordot(x, x, axes=((1,), (1,)))
        assert counts.slow_matmuls == 0
        x[None] @ x.T
        assert counts.slow_matmuls == 1


def test_asarray_copies_host_data_and_keeps_device_arrays(x):
    host = np.zeros(3)
    with strict.counting() as counts:
        device = xp.asarray(host)
        device += 1.0
        assert xp.asarray(device) is device
        assert xp.asarray(device, dtype=xp.float32).dtype == np.float32
    assert host.tolist() == [0, 0, 0]
    assert counts.transfers == 1


WAITS = {
    "float": lambda x: float(x[0, 0]),
    "int": lambda x: int(x[0, 0]),
    "bool": lambda x: bool(x[0, 0]),
    "if": lambda x: 1 if x.sum() > 3 else 2,
    "item": lambda x: x[0, 0].item(),
    "get": lambda x: x.get(),
    "str": str,
    "repr": repr,
    "format": lambda x: f"{x}",
    "in": lambda x: 0.0 in x[0],
    "boolean index": lambda x: x[x > 3],
    "boolean assignment": lambda x: x.__setitem__(x > 3, 0.0),
}
TRANSFERS = {
    "asarray": lambda x: xp.asarray(np.ones(3)),
    "asarray of a number": lambda x: xp.asarray(1.0),
    "array": lambda x: xp.array([1.0]),
    "index by a list": lambda x: x[[0, 1]],
    "index by a NumPy array": lambda x: x[np.array([0, 1])],
}


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS)
def test_waits_are_counted_and_can_be_forbidden(x, wait):
    with strict.counting() as counts:
        wait(x)
    assert counts.waits == 1
    with strict.forbid(), pytest.raises(strict.ForbiddenError):
        wait(x)
    wait(x)


@pytest.mark.parametrize("transfer", TRANSFERS.values(), ids=TRANSFERS)
def test_transfers_are_counted_and_can_be_forbidden(x, transfer):
    with strict.counting() as counts:
        transfer(x)
    assert (counts.transfers, counts.waits) == (1, 0)
    with strict.forbid(), pytest.raises(strict.ForbiddenError):
        transfer(x)


def test_memory_is_counted_while_something_refers_to_it():
    with strict.counting() as counts:
        one, two = xp.empty((100,), dtype=np.float32), xp.zeros(50, dtype=np.float16)
        view = one[10:]
        del one, two
        assert (counts.bytes, counts.most_bytes) == (400, 500)
        view += 1
        del view
    assert (counts.bytes, counts.most_bytes) == (0, 500)


def test_counts_nest_and_end(x):
    with strict.counting() as outer:
        with strict.counting() as inner:
            x.get()
        x.get()
    x.get()
    assert (outer.waits, inner.waits) == (2, 1)


def test_device_work_may_go_on_where_waiting_is_forbidden(x):
    with strict.forbid():
        y = xp.zeros_like(x)
        y[1:] += xp.exp(-x[1:]) @ xp.eye(4, dtype=xp.float32)
        xp.copyto(y[:1], x[:1])
        y[xp.arange(2)] = 0.0
        y -= y.max(axis=1, keepdims=True)
        assert len(y) == 3
        assert y.shape == (3, 4)


def test_a_capture_takes_back_its_own_work_and_not_that_of_other_threads():
    mine, theirs = xp.zeros(2), xp.zeros(2)
    stream = xp.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        mine[...] = 1
        other = threading.Thread(target=theirs.fill, args=(1,))
        other.start()
        other.join()
        graph = stream.end_capture()
        assert (mine.get().tolist(), theirs.get().tolist()) == ([0, 0], [1, 1])
        graph.launch(stream)
    assert mine.get().tolist() == [1, 1]


def test_floating_point_errors_are_silent_as_on_a_gpu(recwarn):
    zero = xp.zeros((2,), dtype=xp.float32)
    assert np.isnan((zero / zero).get()).all()
    assert np.isneginf(xp.log(zero).get()).all()
    assert not recwarn.list


def test_it_is_a_module_that_can_key_a_cache():
    assert xp.__name__ == "strict"
    assert {xp: 1}[xp] == 1


def test_cupy_has_every_name_and_parameter_that_is_offered():
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed: its names are not compared")
    offered = {name for name in vars(xp) if not name.startswith("__")}
    assert {name for name in offered if not hasattr(cupy, name)} == set()
    assert {name for name in vars(xp.ndarray) if not hasattr(cupy.ndarray, name)} <= {"_array", "_host", "_index"}
    for offers, theirs in ((strict.Stream, cupy.cuda.Stream), (strict.Graph, cupy.cuda.Graph)):
        assert {name for name in vars(offers) if not name.startswith("_")} <= {*dir(theirs)}
    assert {*vars(xp.cuda)} <= {*dir(cupy.cuda)}
    for parameters, names in strict._FUNCTIONS.items():
        positional, _, by_keyword = parameters.partition("*")
        for name in names.split():
            theirs = inspect.signature(getattr(cupy, name)).parameters
            assert [*theirs][: len(positional.split())] == positional.split(), name
            assert {*by_keyword.split()} <= {*theirs, "constant_values"}, name
