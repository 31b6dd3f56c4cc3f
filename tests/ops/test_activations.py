"""The table of activation functions; for their values see tests/layers/test_activation.py."""

import numpy as np
import pytest

from tests import strict
from xpcnn.backend import choose
from xpcnn.ops import activations
from xpcnn.ops.workspace import Workspace

every_name = pytest.mark.parametrize("name", activations.ACTIVATIONS)


@every_name
@pytest.mark.parametrize("shape", [(4, 5), (2, 3, 4, 4)])
def test_nothing_waits_for_the_device_nor_copies_to_it(name, shape):
    xp = strict.xp
    x = xp.asarray(np.random.default_rng(0).normal(size=shape))
    with strict.forbid():
        y, backward = activations.get(name)(xp, x, Workspace(xp))
        backward(xp.ones_like(y))


@every_name
@pytest.mark.parametrize("shape", [(4, 5), (2, 3, 4, 4)])
def test_input_and_gradient_stay_as_they_were(xp, host, name, shape):
    x, dy = np.random.default_rng(0).normal(size=shape), np.random.default_rng(1).normal(size=shape)
    given = xp.asarray(x.copy()), xp.asarray(dy.copy())
    y, backward = activations.get(name)(xp, given[0], Workspace(xp))
    kept = host(y).copy()
    backward(given[1])
    np.testing.assert_array_equal(host(given[0]), x)
    np.testing.assert_array_equal(host(given[1]), dy)
    np.testing.assert_array_equal(host(y), kept)


@pytest.mark.parametrize("shape", [(3, 54), (54, 3)])
@pytest.mark.parametrize("in_place", [False, True])
def test_relu_passes_on_what_is_not_a_number(xp, host, shape, in_place):
    numbers = np.array([np.nan, -np.nan, np.inf, -np.inf, -1, 0, -0.0, 1, 2], np.float32)
    x, dy = np.resize(numbers, shape), np.resize(numbers.repeat(9), shape)
    given = Workspace(xp).like(xp.asarray(x))
    given[...] = xp.asarray(x)
    y, backward = activations.relu(xp, given, Workspace(xp), *[given][:in_place])
    np.testing.assert_array_equal(host(y), np.where(x < 0, 0, x))
    with np.errstate(invalid="ignore"):
        dx, expected = host(backward(xp.asarray(dy))), dy * (x > 0)
    np.testing.assert_array_equal(dx[x > 0], expected[x > 0])
    np.testing.assert_array_equal(dx[~(x > 0) & np.isfinite(dy)], 0)
    assert (y is given) == in_place


@pytest.mark.parametrize("in_place", [False, True])
def test_relu6_is_clipped_on_both_sides_and_its_gradient_is_0_there(xp, host, in_place):
    numbers = np.array([np.nan, -1, 0, 1, 5, 6, 7, np.inf], np.float32)
    given = Workspace(xp).like(xp.asarray(np.zeros((8, 3), np.float32)))
    given[...] = xp.asarray(numbers[:, None])
    y, backward = activations.relu6(xp, given, Workspace(xp), *[given][:in_place])
    np.testing.assert_array_equal(host(y)[:, 0], [np.nan, 0, 0, 1, 5, 6, 6, 6])
    np.testing.assert_array_equal(host(backward(xp.ones_like(y)))[1:, 0], [0, 0, 1, 1, 0, 0, 0])
    assert (y is given) == in_place


@pytest.mark.parametrize("column", ["numba"])
def test_compiled_relu_writes_to_memory_of_any_order(column):
    pytest.importorskip("numba")
    xp = choose("numba").xp
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 4))
    other, own = np.empty_like(x), x.copy()
    for y, source in ((other, x), (own, own)):
        assert activations.relu(xp, source, Workspace(xp), y)[0] is y
        np.testing.assert_array_equal(y, np.maximum(x, 0))


def test_names_are_those_of_the_architecture():
    names = "linear relu relu6 leaky_relu elu gelu silu hard_swish sigmoid hard_sigmoid tanh softmax"
    assert [*activations.ACTIVATIONS] == names.split()


@pytest.mark.parametrize("name", ["swish", None, ["relu"]])
def test_an_unknown_name_is_refused(name):
    with pytest.raises(ValueError, match=r"There is no activation .* Use one of: linear, relu"):
        activations.get(name)
