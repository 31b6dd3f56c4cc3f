"""The table of activation functions; for their values see tests/layers/test_activation.py."""

import numpy as np
import pytest

from tests import strict
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


def test_names_are_those_of_the_architecture():
    assert [*activations.ACTIVATIONS] == ["linear", "relu", "leaky_relu", "sigmoid", "tanh", "softmax"]


@pytest.mark.parametrize("name", ["swish", None, ["relu"]])
def test_an_unknown_name_is_refused(name):
    with pytest.raises(ValueError, match=r"There is no activation .* Use one of: linear, relu"):
        activations.get(name)
