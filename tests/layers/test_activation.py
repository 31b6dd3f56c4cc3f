"""Activation layers, each by its class and by its name."""

import numpy as np
import pytest

from tests import cases, reference
from tests.passes import check_against, check_dtypes, check_gradients, distinct, run
from xpcnn import layers
from xpcnn.layers import Activation, LeakyReLU, ReLU, Sigmoid, Softmax
from xpcnn.ops.activations import ACTIVATIONS

CLASSES = {
    "relu": ReLU,
    "relu6": layers.ReLU6,
    "leaky_relu": LeakyReLU,
    "elu": layers.ELU,
    "gelu": layers.GELU,
    "silu": layers.SiLU,
    "hard_swish": layers.HardSwish,
    "sigmoid": Sigmoid,
    "hard_sigmoid": layers.HardSigmoid,
    "tanh": layers.Tanh,
    "softmax": Softmax,
}

every_name = pytest.mark.parametrize("name", ACTIVATIONS)


@pytest.mark.parametrize("case", cases.load("activations"), ids=str)
def test_output_and_gradient_are_pytorchs_by_class_and_by_name(xp, case):
    name = case.geometry["activation"]
    check_against(run(CLASSES[name](), xp, case.x, case.dy), case.y, case.dx)
    check_against(run(Activation(name), xp, case.x, case.dy), case.y, case.dx)


@every_name
@pytest.mark.parametrize("shape", [(4, 5), (2, 3, 2, 4)])
def test_gradients_are_numerical_ones(xp, name, shape):
    check_gradients(Activation(name), xp, distinct(*shape))


@every_name
@pytest.mark.parametrize("shape", [(5,), (3, 4, 4)])
def test_dtypes_and_shapes_are_kept(xp, name, shape):
    check_dtypes(Activation(name), xp, shape)


@pytest.mark.parametrize("shape", [(4, 5), (2, 3, 2, 4)])
def test_softmax_has_the_textbooks_full_jacobian(xp, shape):
    x, dy = distinct(*shape), distinct(*shape, seed=1)
    result = run(Softmax(), xp, x, dy)
    check_against(result, reference.softmax(x), reference.softmax_gradient(dy, x))
    np.testing.assert_allclose(result.y.sum(axis=1), 1.0, rtol=1e-12)
    np.testing.assert_allclose(result.dx.sum(axis=1), 0.0, atol=1e-12)


@every_name
@pytest.mark.parametrize("largest", [100, 1e4, 1e30])
def test_extreme_values_give_finite_outputs_and_gradients(xp, name, largest):
    x = np.array([[largest, -largest, 0.0], [-largest, -largest, -largest], [largest, 1.0, largest]], np.float32)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        result = run(Activation(name), xp, x, np.ones_like(x))
    assert np.isfinite(result.y).all()
    assert np.isfinite(result.dx).all()


def test_extremes_of_sigmoid_and_softmax_are_zeros_and_ones(xp):
    x = np.array([[1e30, -1e30]], np.float32)
    assert run(Sigmoid(), xp, x).y.tolist() == run(Softmax(), xp, x).y.tolist() == [[1, 0]]


def test_small_probabilities_keep_their_digits(xp):
    x = np.array([[-5.0, -20.0, -60.0]], np.float32)
    expected = np.exp(x.astype(np.float64)) / (1 + np.exp(x.astype(np.float64)))
    np.testing.assert_allclose(run(Sigmoid(), xp, x).y, expected, rtol=1e-6)


def test_the_derivative_of_relu_at_zero_is_zero(xp):
    result = run(ReLU(), xp, np.zeros((1, 2)), np.ones((1, 2)))
    assert result.y.tolist() == result.dx.tolist() == [[0, 0]]


def test_leaky_relu_takes_its_slope_and_stays_float32(xp):
    x = np.array([[-2.0, 3.0]], np.float32)
    result = run(LeakyReLU(np.float64(0.25)), xp, x, np.ones_like(x))
    assert result.y.tolist() == [[-0.5, 3.0]]
    assert result.dx.tolist() == [[0.25, 1.0]]
    assert result.y.dtype == result.dx.dtype == np.float32
    check_gradients(LeakyReLU(0.25), xp, distinct(3, 4))
    with pytest.raises(ValueError, match=r"slope must be a number.* Received: '0.1'"):
        LeakyReLU("0.1")


@pytest.mark.parametrize("name", ["rely", "", None, ["relu"]])
def test_an_unknown_name_is_refused_listing_those_that_exist(name):
    with pytest.raises(
        ValueError, match=r"There is no activation .* Use one of: linear, relu, relu6, leaky_relu, elu,"
    ):
        Activation(name)
