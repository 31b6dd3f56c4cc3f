import tracemalloc

import numpy as np
import pytest

from xpcnn.data.standardization import Standardization


@pytest.mark.parametrize("shape", [(50, 4), (50, 3, 5, 6), (1, 2), (3000, 2, 20, 20)])
def test_each_feature_or_channel_gets_mean_0_and_deviation_1(shape):
    rng = np.random.default_rng(0)
    along = (1, shape[1], *(1,) * (len(shape) - 2))
    x = rng.normal(size=shape) * rng.uniform(1, 1000, along) + rng.uniform(-1e5, 1e5, along)
    standardized = Standardization.measure(x)(x)
    axes = (0, *range(2, len(shape)))
    assert standardized.dtype == np.float32
    assert standardized.shape == shape
    np.testing.assert_allclose(standardized.mean(axis=axes, dtype=float), 0, atol=1e-5)
    np.testing.assert_allclose(standardized.std(axis=axes, dtype=float), 0 if len(x) == 1 else 1, rtol=1e-5)


def test_others_are_measured_by_the_first():
    standardization = Standardization.measure(np.array([[0.0], [2.0]]))
    assert standardization(np.array([[5.0]])).tolist() == [[4.0]]


@pytest.mark.parametrize("value", [0, 0.1, -1e30, 255])
def test_what_is_constant_becomes_0_and_is_not_divided(value):
    x = np.full((1001, 1), value)
    standardization = Standardization.measure(x)
    np.testing.assert_allclose(standardization(x), 0, atol=abs(value) * 1e-12)
    assert standardization.std.tolist() == [1.0]


def test_a_small_deviation_about_a_large_mean_is_not_lost():
    x = np.array([[1e8], [1e8 + 1], [1e8 + 2], [1e8 + 3]])
    np.testing.assert_allclose(Standardization.measure(x)(x)[:, 0], (np.arange(4) - 1.5) / np.sqrt(1.25), rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32, bool])
def test_every_kind_of_numbers_is_taken(dtype):
    x = np.array([[0, 1], [1, 0], [1, 1]], dtype)
    np.testing.assert_array_equal(Standardization.measure(x)(x), Standardization.measure(x * 1.0)(x * 1.0))


def test_values_whose_squares_overflow_are_refused_without_a_warning(recwarn):
    with pytest.raises(ValueError, match=r"too large to be standardised, up to 1e\+300"):
        Standardization.measure(np.array([[1e300], [-1e300]]))
    assert not recwarn.list


def test_bytes_are_never_held_in_float64():
    x = np.zeros((300, 3, 64, 64), np.uint8)
    tracemalloc.start()
    Standardization.measure(x)(x)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * x.size + 5 * 8 * 2**20
