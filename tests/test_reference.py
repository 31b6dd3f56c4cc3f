"""The oracle is right: by hand on tiny cases, by numerical gradients, and against PyTorch's saved results."""

import math

import numpy as np
import pytest

from tests import cases, reference

ONE_TO_NINE = np.arange(1.0, 10.0).reshape(1, 1, 3, 3)


def draw(*shape):
    return np.random.default_rng(shape).normal(size=shape)


def image(*rows):
    return np.array(rows, dtype=float)[None, None]


def test_convolution_by_hand():
    weight = image([1, 0], [0, -2])
    np.testing.assert_array_equal(reference.conv2d(ONE_TO_NINE, weight, np.array([10.0])), image([1, 0], [-2, -3]))


def test_strided_convolution_starts_at_the_corner_and_leaves_the_ragged_edge():
    weight = image([1, 10])
    np.testing.assert_array_equal(reference.conv2d(ONE_TO_NINE, weight, stride=(2, 2)), image([21], [87]))


def test_zero_padding_may_differ_at_every_side():
    weight = image([1])
    padded = reference.conv2d(image([5, 6]), weight, padding=((1, 0), (0, 2)))
    np.testing.assert_array_equal(padded, image([0, 0, 0, 0], [5, 6, 0, 0]))


def test_edge_padding_repeats_the_border():
    padded = reference.conv2d(image([1, 2], [3, 4]), image([1]), padding=((1, 0), (0, 2)), padding_mode="edge")
    np.testing.assert_array_equal(padded, image([1, 2, 2, 2], [1, 2, 2, 2], [3, 4, 4, 4]))


def test_dilation_spreads_the_taps():
    weight = image([1, 10], [100, 1000])
    np.testing.assert_array_equal(reference.conv2d(ONE_TO_NINE, weight, dilation=(2, 2)), image([9731]))


def test_groups_see_their_own_channels():
    x, weight = np.array([[[[2.0]], [[3.0]]]]), np.array([[[[10.0]]], [[[100.0]]]])
    np.testing.assert_array_equal(reference.conv2d(x, weight, groups=2).ravel(), [20, 300])


def test_convolution_gradients_by_hand():
    dx, dweight, dbias = reference.conv2d_gradients(image([1, 0], [0, 1]), ONE_TO_NINE, image([1, 2], [3, 4]))
    np.testing.assert_array_equal(dx, image([1, 2, 0], [3, 5, 2], [0, 3, 4]))
    np.testing.assert_array_equal(dweight, image([6, 8], [12, 14]))
    np.testing.assert_array_equal(dbias, [2])


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("max", image([1, 3], [7, 9])), ("min", image([1, 2], [4, 5])), ("average", image([1, 2.5], [5.5, 7]))],
)
def test_pools_leave_padding_out(kind, expected):
    y = reference.pool2d(ONE_TO_NINE, kind, (2, 2), (2, 2), ((1, 0), (1, 0)))
    np.testing.assert_array_equal(y, expected)
    y = reference.pool2d(-ONE_TO_NINE, {"max": "min", "min": "max"}.get(kind, kind), (2, 2), (2, 2), ((1, 0), (1, 0)))
    np.testing.assert_array_equal(y, -expected)


@pytest.mark.parametrize("kind", ["max", "min"])
def test_the_first_of_equal_extremes_takes_the_gradient(kind):
    x = image([0, 0, 0], [0, 0, 0])
    dx = reference.pool2d_gradient(image([1, 10]), x, kind, (2, 2), (1, 1))
    np.testing.assert_array_equal(dx, image([1, 10, 0], [0, 0, 0]))


def test_average_pool_shares_the_gradient_among_the_cells_that_count():
    dx = reference.pool2d_gradient(
        image([4], [4]), image([0, 0], [0, 0], [0, 0]), "average", (2, 2), (2, 2), ((1, 0), (0, 0))
    )
    np.testing.assert_array_equal(dx, image([2, 2], [1, 1], [1, 1]))


def test_upsampling_repeats_cells_and_its_gradient_adds_them():
    y = reference.upsample2d(image([1, 2]), (2, 3))
    np.testing.assert_array_equal(y, image([1, 1, 1, 2, 2, 2], [1, 1, 1, 2, 2, 2]))
    np.testing.assert_array_equal(reference.upsample2d_gradient(y, (2, 3)), image([6, 12]))


def test_dense_by_hand():
    x, weight = np.array([[1.0, 2.0]]), np.array([[10.0, 100.0], [0.0, 1.0], [5.0, 5.0]])
    np.testing.assert_array_equal(reference.dense(x, weight, np.array([0.0, 1.0, 2.0])), [[210, 3, 17]])


def test_batch_norm_by_hand():
    y, mean, variance = reference.batch_norm(np.array([[1.0], [5.0]]), np.array([3.0]), np.array([1.0]), epsilon=0.0)
    np.testing.assert_array_equal(y, [[-2], [4]])
    assert (mean.tolist(), variance.tolist()) == ([3], [4])


def test_softmax_by_hand():
    np.testing.assert_allclose(reference.softmax(np.array([[800.0, 800.0 + math.log(3)]])), [[0.25, 0.75]])
    np.testing.assert_allclose(
        reference.softmax_gradient(np.array([[1.0, 0.0]]), np.array([[0.0, math.log(3)]])),
        [[0.1875, -0.1875]],
    )


def test_numerical_gradient_of_a_known_function():
    x = draw(2, 3)
    kept = x.copy()
    np.testing.assert_allclose(reference.numerical_gradient(lambda x: (x**3).sum(), x), 3 * kept**2, rtol=1e-7)
    np.testing.assert_array_equal(x, kept)


def test_numerical_gradient_refuses_float32():
    with pytest.raises(AssertionError, match="float64"):
        reference.numerical_gradient(np.sum, np.ones(3, np.float32))


def check_gradients(function, gradients, *inputs):
    """Compare ``gradients(dy, *inputs)`` with central differences of sum(function(*inputs) * dy)."""
    dy = draw(*function(*inputs).shape)
    for position, gradient in enumerate(gradients(dy)):
        numerical = reference.numerical_gradient(lambda _: (function(*inputs) * dy).sum(), inputs[position])
        np.testing.assert_allclose(gradient, numerical, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    "geometry",
    [
        {},
        {"stride": (2, 1), "padding": ((0, 1), (2, 0))},
        {"padding": ((1, 2), (1, 1)), "padding_mode": "edge", "dilation": (1, 2)},
    ],
)
def test_convolution_gradients_numerically(geometry):
    x, weight, bias = draw(2, 2, 4, 5), draw(4, 1, 2, 3), draw(4)
    check_gradients(
        lambda x, weight, bias: reference.conv2d(x, weight, bias, groups=2, **geometry),
        lambda dy: reference.conv2d_gradients(dy, x, weight, groups=2, **geometry),
        x,
        weight,
        bias,
    )


@pytest.mark.parametrize("kind", ["max", "min", "average"])
def test_pool_gradients_numerically(kind):
    x, window = draw(2, 2, 4, 5), ((3, 2), (2, 1), ((1, 0), (0, 1)))
    check_gradients(
        lambda x: reference.pool2d(x, kind, *window),
        lambda dy: [reference.pool2d_gradient(dy, x, kind, *window)],
        x,
    )


def test_upsampling_gradient_numerically():
    x = draw(2, 2, 2, 3)
    check_gradients(
        lambda x: reference.upsample2d(x, (2, 3)), lambda dy: [reference.upsample2d_gradient(dy, (2, 3))], x
    )


def test_dense_gradients_numerically():
    x, weight, bias = draw(3, 4), draw(2, 4), draw(2)
    check_gradients(reference.dense, lambda dy: reference.dense_gradients(dy, x, weight), x, weight, bias)


@pytest.mark.parametrize("shape", [(5, 3), (2, 3, 2, 2)])
def test_batch_norm_gradients_numerically(shape):
    x, weight, bias = draw(*shape), draw(3), draw(3)
    check_gradients(
        lambda *inputs: reference.batch_norm(*inputs)[0],
        lambda dy: reference.batch_norm_gradients(dy, x, weight),
        x,
        weight,
        bias,
    )


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 2, 2)])
def test_softmax_gradient_numerically(shape):
    x = draw(*shape)
    check_gradients(reference.softmax, lambda dy: [reference.softmax_gradient(dy, x)], x)


def agree(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("case", cases.load("convolution"), ids=str)
def test_convolution_agrees_with_pytorch(case):
    g = case.geometry
    geometry = {
        "stride": g["strides"],
        "padding": g["pad_pairs"],
        "padding_mode": g["padding_mode"],
        "dilation": g["dilation"],
        "groups": g["groups"],
    }
    bias = case.bias if g["use_bias"] else None
    agree(reference.conv2d(case.x, case.weight, bias, **geometry), case.y)
    dx, dweight, dbias = reference.conv2d_gradients(case.dy, case.x, case.weight, **geometry)
    agree(dx, case.dx)
    agree(dweight, case.dweight)
    if g["use_bias"]:
        agree(dbias, case.dbias)


@pytest.mark.parametrize("case", cases.load("pooling"), ids=str)
def test_pools_agree_with_pytorch(case):
    window = [case.geometry[key] for key in ("kind", "pool_size", "strides", "pad_pairs")]
    agree(reference.pool2d(case.x, *window), case.y)
    agree(reference.pool2d_gradient(case.dy, case.x, *window), case.dx)


@pytest.mark.parametrize("case", cases.load("upsampling"), ids=str)
def test_upsampling_agrees_with_pytorch(case):
    agree(reference.upsample2d(case.x, case.geometry["size"]), case.y)
    agree(reference.upsample2d_gradient(case.dy, case.geometry["size"]), case.dx)


@pytest.mark.parametrize("case", [c for c in cases.load("batch_normalization") if c.geometry["training"]], ids=str)
def test_batch_norm_agrees_with_pytorch(case):
    epsilon, momentum = case.geometry["epsilon"], case.geometry["momentum"]
    y, mean, variance = reference.batch_norm(case.x, case.weight, case.bias, epsilon)
    agree(y, case.y)
    for gradient, expected in zip(
        reference.batch_norm_gradients(case.dy, case.x, case.weight, epsilon),
        (case.dx, case.dweight, case.dbias),
        strict=True,
    ):
        np.testing.assert_allclose(gradient, expected, rtol=1e-9, atol=1e-9)
    cells = case.x.size // len(mean)
    agree((1 - momentum) * case.running_mean + momentum * mean, case.running_mean_after)
    agree((1 - momentum) * case.running_var + momentum * variance * cells / (cells - 1), case.running_var_after)


@pytest.mark.parametrize(
    "case", [c for c in cases.load("activations") if c.geometry["activation"] == "softmax"], ids=str
)
def test_softmax_agrees_with_pytorch(case):
    agree(reference.softmax(case.x), case.y)
    agree(reference.softmax_gradient(case.dy, case.x), case.dx)
