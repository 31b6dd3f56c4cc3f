import math

import numpy as np
import pytest

from xpcnn import initializers, random

KERNEL = (40, 30, 5, 3)  # fan-in 450, fan-out 600
DENSE = (500, 800)  # fan-in 800, fan-out 500


@pytest.mark.parametrize(
    ("name", "kernel_variance", "dense_variance"),
    [
        ("he", 2 / 450, 2 / 800),
        ("glorot", 2 / (450 + 600), 2 / (800 + 500)),
        ("lecun", 1 / 450, 1 / 800),
    ],
)
@pytest.mark.parametrize("distribution", ["normal", "uniform"])
def test_weights_have_the_variance_their_fans_ask_for(name, kernel_variance, dense_variance, distribution):
    initializer = initializers.get(f"{name}_{distribution}")
    for shape, variance in ((KERNEL, kernel_variance), (DENSE, dense_variance)):
        drawn = initializer(np.random.default_rng(0), shape)
        assert drawn.shape == shape
        assert drawn.dtype == np.float32
        deviation = math.sqrt(variance)
        assert drawn.mean() == pytest.approx(0, abs=6 * deviation / math.sqrt(drawn.size))
        assert drawn.std() == pytest.approx(deviation, rel=0.02)


def test_uniform_weights_fill_their_interval_and_normal_ones_do_not_end():
    uniform = initializers.HeUniform()(np.random.default_rng(0), DENSE)
    limit = math.sqrt(6 / 800)
    assert 0.99 * limit < abs(uniform).max() <= limit * (1 + 1e-6)
    normal = initializers.HeNormal()(np.random.default_rng(0), DENSE)
    assert abs(normal).max() > 4 * math.sqrt(2 / 800)


def test_fans_of_a_grouped_kernel_count_the_inputs_of_one_group():
    assert initializers.fans((8, 2, 3, 5)) == (2 * 15, 8 * 15)


@pytest.mark.parametrize(("name", "value"), [("zeros", 0.0), ("ones", 1.0), ({"name": "constant", "value": 0.5}, 0.5)])
def test_constants_take_any_shape(name, value):
    for shape in ((), (3,), (2, 3, 4)):
        drawn = initializers.get(name)(np.random.default_rng(0), shape)
        assert drawn.shape == shape
        assert drawn.dtype == np.float32
        assert (drawn == value).all()


def test_the_same_seed_gives_the_same_weights_in_either_precision():
    single, double = (
        initializers.HeNormal()(random.generator(3, "weights", 0), (4, 5), dtype) for dtype in (np.float32, np.float64)
    )
    assert double.dtype == np.float64
    np.testing.assert_array_equal(single, double.astype(np.float32))


@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 4), (0, 3)])
def test_shapes_without_fans_are_refused(shape):
    with pytest.raises(ValueError, match=r"Fans are defined for .* Received shape"):
        initializers.HeNormal()(np.random.default_rng(0), shape)


def test_a_function_of_ones_own_is_an_initializer():
    initializer = initializers.get(lambda generator, shape: generator.random(shape))
    drawn = initializer(np.random.default_rng(0), (2, 3))
    assert drawn.dtype == np.float32
    np.testing.assert_array_equal(drawn, np.random.default_rng(0).random((2, 3)).astype(np.float32))
    assert initializers.get(initializer) is initializer


def test_a_model_file_keeps_a_function_of_ones_own_as_zeros():
    assert initializers.get(lambda generator, shape: np.ones(shape)).config() == {"name": "zeros"}


@pytest.mark.parametrize("function", [lambda g, shape: np.ones(7), lambda g, shape: np.full(shape, np.nan)])
def test_a_function_that_gives_another_shape_or_nan_is_refused(function):
    with pytest.raises(ValueError, match=r"finite numbers of shape \(2, 3\). Received"):
        initializers.get(function)(np.random.default_rng(0), (2, 3))


def test_unknown_initializers_are_refused():
    with pytest.raises(ValueError, match="Use one of: he_normal"):
        initializers.get("he")
    with pytest.raises(TypeError, match="Received: <class"):
        initializers.get(initializers.HeNormal)
