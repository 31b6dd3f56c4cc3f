"""Convolutions of each channel by itself, and their gradients, are those of the generic code."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xpcnn.ops import convolution as generic
from xpcnn.ops.cuda import compiler, depthwise
from xpcnn.ops.cuda.conv_shape import ConvShape
from xpcnn.ops.cuda.convolution import convolution
from xpcnn.ops.window import Window
from xpcnn.ops.workspace import Workspace

WITH_KERNELS = pytest.mark.parametrize("device", ["kernels", "cupy"], indirect=True)
NAMES = ["depthwise", "depthwise_weight_gradient", "depthwise_input_gradient"]


@pytest.fixture
def launched(monkeypatch):
    """The names of the kernels that convolutions launched."""
    names = []

    def noted(xp, source, name, *arguments, **constants):
        names.append(name)
        return compiler.kernel(xp, source, name, *arguments, **constants)

    for module in ("depthwise", "correlation", "tiles", "pooling", "activations", "parts"):
        monkeypatch.setattr(f"xpcnn.ops.cuda.{module}.kernel", noted)
    return names


def window(size, padding=0, strides=1, dilation=1):
    return Window((size, size), (strides,) * 2, ((padding, padding),) * 2, (dilation,) * 2)


def results(compute, xp, host, arrays, seen, dtype=np.float64, **options):
    """Return y, dx, dweight and dbias on the host."""
    x, weight, bias, dy = (None if array is None else xp.asarray(array, dtype=dtype) for array in arrays)
    y, backward = compute(xp, x, weight, bias, seen, Workspace(xp), groups=x.shape[1], **options)
    dweight = xp.full(weight.shape, np.nan, dtype=dtype)
    dbias = None if bias is None else xp.full(bias.shape, np.nan, dtype=dtype)
    dx = backward(dy, dweight, dbias, True)
    return [host(array) for array in (y, dx, dweight, dbias) if array is not None]


def drawn(shape, multiplier, seen, with_bias=True):
    rng, filters = np.random.default_rng(0), shape[1] * multiplier
    y = (shape[0], filters, *seen.output_size(*shape[2:]))
    x, weight, bias, dy = (rng.normal(size=size) for size in (shape, (filters, 1, *seen.kernel), (filters,), y))
    return x, weight, 3 * bias if with_bias else None, dy


def check(device, host, shape, multiplier, seen, with_bias=True, **options):
    arrays = drawn(shape, multiplier, seen, with_bias)
    ours = results(convolution, device, host, arrays, seen, **options)
    right = results(generic.convolution.__wrapped__, np, np.asarray, arrays, seen, **options)
    for result, other in zip(ours, right, strict=True):
        np.testing.assert_allclose(result, other, rtol=1e-10, atol=1e-10)


@WITH_KERNELS
@pytest.mark.parametrize("activation", ["linear", "relu6"])
@pytest.mark.parametrize(
    ("shape", "multiplier", "seen"),
    [
        ((33, 3, 9, 7), 1, window(3, 1)),
        ((8, 3, 9, 7), 1, window(3, 1, strides=2)),
        ((1, 4, 10, 11), 1, window(3, 1, strides=2)),
        ((9, 2, 11, 9), 1, window(5, 2)),
        ((9, 2, 12, 9), 2, window(5, 2, strides=2)),
        ((3, 2, 8, 9), 2, Window((3, 3), (2, 2), ((0, 1), (0, 1)))),
        ((10, 2, 13, 12), 1, window(3, 2, dilation=2)),
        ((8, 2, 9, 12), 3, Window((3, 2), (1, 2), ((2, 0), (0, 1)), (1, 2))),
        ((8, 2, 9, 12), 1, Window((2, 3), (2, 3), ((3, 1), (4, 0)))),
    ],
    ids=str,
)
def test_they_compute_what_the_generic_code_does(device, host, launched, shape, multiplier, seen, activation):
    check(device, host, shape, multiplier, seen, activation=activation)
    launched = [name for name in launched if name not in ("add_parts", "activate_gradient")]
    assert launched == NAMES, "bias and activation come with the convolution"


@settings(max_examples=15)
@WITH_KERNELS
@given(
    n=st.sampled_from([1, 3, 8, 33]),
    multiplier=st.integers(1, 3),
    size=st.tuples(st.integers(6, 20), st.integers(6, 9)),
    padding=st.tuples(*[st.integers(0, 3)] * 4),
    strides=st.sampled_from([1, 2]),
    with_bias=st.booleans(),
)
def test_any_size_is_computed(device, host, n, multiplier, size, padding, strides, with_bias):
    seen = Window((3, 3), (strides, strides), (padding[:2], padding[2:]))
    check(device, host, (n, 2, *size), multiplier, seen, with_bias, padding_mode="zeros")


@WITH_KERNELS
def test_parts_are_added_in_order(device, host, launched):
    arrays = drawn((40, 2, 20, 20), 1, window(3, 1))
    first, second = (results(convolution, device, host, arrays, window(3, 1), dtype=np.float32) for _ in range(2))
    assert "add_parts" in launched
    for result, again in zip(first, second, strict=True):
        np.testing.assert_array_equal(result, again)


def test_what_suits():
    def suits(seen, groups=4, channels=1):
        return depthwise.suit(ConvShape(8, groups, channels, (9, 9), 1, (9, 9), (0, 0, 0, 0, 0)), seen)

    for seen in (window(3), window(5, strides=2), window(7), window(3, dilation=3)):
        assert suits(seen)
    assert not suits(window(3), channels=2)
    assert not suits(window(3), groups=1), "an image of one channel, whose filters share it"
    assert not suits(window(9)), "more cells than a thread can hold"
    assert not suits(window(3, strides=4)), "gaps between windows"


@pytest.mark.parametrize("n", [1, 8, 64])
@pytest.mark.parametrize(
    "seen", [window(3), window(5, strides=2), window(7), window(7, strides=2), window(3, dilation=3)], ids=str
)
def test_a_thread_holds_few_cells(n, seen):
    places = depthwise.places(n, seen)
    cells = seen.extent[0] * ((places - 1) * seen.strides[1] + seen.extent[1])
    assert places == 1 or (cells <= depthwise.MOST_CELLS and n >= depthwise.FEWEST_IMAGES)
    assert cells <= depthwise.LARGEST
