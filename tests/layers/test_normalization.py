"""BatchNorm against PyTorch, the paper's formulas, central differences; in networks: tests/program/test_network.py."""

import numpy as np
import pytest

from tests import cases, reference
from tests.passes import check_against, check_dtypes, check_gradients, distinct, draw, run
from xpcnn.layers import BatchNorm, MaxPool2D, ReLU

SHAPES = pytest.mark.parametrize("shape", [(6, 4), (3, 2, 3, 4)])


@pytest.mark.parametrize("case", cases.load("batch_normalization"), ids=str)
def test_output_gradients_and_running_statistics_are_pytorchs(xp, case):
    layer = BatchNorm(case.geometry["momentum"], case.geometry["epsilon"])
    values = {name: case.arrays[name] for name in ("weight", "bias", "running_mean", "running_var")}
    result = run(layer, xp, case.x, case.dy, values, training=case.geometry["training"])
    check_against(result, case.y, case.dx, weight=case.dweight, bias=case.dbias)
    assert result.buffers.keys() == ({"running_mean", "running_var"} if case.geometry["training"] else set())
    for name, value in result.buffers.items():
        np.testing.assert_allclose(value, case.arrays[f"{name}_after"], rtol=1e-12)


@SHAPES
def test_training_is_the_papers_formula(xp, shape):
    x, dy, layer = distinct(*shape), distinct(*shape, seed=1), BatchNorm(epsilon=0.5)
    values = draw(layer, shape[1:])
    y, mean, variance = reference.batch_norm(x, values["weight"], values["bias"], 0.5)
    dx, dweight, dbias = reference.batch_norm_gradients(dy, x, values["weight"], 0.5)
    result = run(layer, xp, x, dy, values)
    check_against(result, y, dx, weight=dweight, bias=dbias)
    count = x.size / x.shape[1]
    moved = {"running_mean": mean, "running_var": variance * count / (count - 1)}
    for name, batch in moved.items():
        np.testing.assert_allclose(result.buffers[name], 0.9 * values[name] + 0.1 * batch, rtol=1e-12)


@SHAPES
@pytest.mark.parametrize("training", [True, False])
def test_gradients_are_numerical_ones_in_both_modes(xp, shape, training):
    check_gradients(BatchNorm(), xp, distinct(*shape), training=training)


@SHAPES
@pytest.mark.parametrize("training", [True, False])
def test_dtypes_are_kept_in_both_modes(xp, shape, training):
    check_dtypes(BatchNorm(), xp, shape[1:], training=training)
    check_dtypes(BatchNorm(np.float64(0.1), np.float64(1e-5)), xp, shape[1:], training=training)


def test_training_normalises_each_channel_even_far_from_zero(xp):
    x = (1e4 + distinct(8, 2, 4, 4) * [[[1.0]], [[10.0]]]).astype(np.float32)
    values = {"weight": np.ones(2), "bias": np.zeros(2), "running_mean": np.zeros(2), "running_var": np.ones(2)}
    y = run(BatchNorm(), xp, x, values={name: value.astype(np.float32) for name, value in values.items()}).y
    np.testing.assert_allclose(y.mean(axis=(0, 2, 3)), 0, atol=2e-3)
    np.testing.assert_allclose(y.std(axis=(0, 2, 3)), 1, rtol=2e-3)


WINDOWS = {
    "none": None,
    "every cell once": MaxPool2D(2),
    "a row and a column left over": MaxPool2D((3, 2)),
    "overlapping": MaxPool2D(3, 1),
    "padded": MaxPool2D(3, 2, padding=1),
    "of more cells than a byte numbers": MaxPool2D(17, 1, padding=16),
}


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("images", [2, 17])
def test_fused_with_pooling_and_relu_it_is_these_layers_one_by_one(xp, window, relu, training, images):
    pool, layer = WINDOWS[window], BatchNorm()
    x = distinct(images, 3, 4, 4)
    values = draw(layer, x.shape[1:]) | {"weight": np.array([0.5, -0.7, 0.0])}  # 0: the first cell gets the gradient
    normal = run(layer, xp, x, None, values, training=training)
    pooled = run(pool, xp, normal.y) if pool else normal
    y = run(ReLU(), xp, pooled.y).y if relu else pooled.y
    dy = distinct(*y.shape, seed=1) if y.size < 1000 else np.resize(distinct(997, seed=1), y.shape)
    spread = run(ReLU(), xp, pooled.y, dy).dx if relu else dy
    spread = run(pool, xp, normal.y, spread, backward=True).dx if pool else spread
    wanted = run(layer, xp, x, spread, values, training=training, backward=True)

    options = {"relu": relu} | ({"pool": pool.window} if pool else {})
    result = run(layer, xp, x, dy, values, options, training=training, backward=True)
    check_against(result, y, wanted.dx, **wanted.gradients)
    if not training:
        predicted = run(layer, xp, x, None, values, options, training=False)
        np.testing.assert_allclose(predicted.y, y, rtol=1e-12, atol=1e-14)


def test_one_value_a_channel_or_a_constant_channel_gives_the_bias(xp):
    values = {"weight": np.ones(3), "bias": np.array([1.0, 2.0, 3.0])}
    values |= {"running_mean": np.zeros(3), "running_var": np.ones(3)}
    for x in (distinct(1, 3), np.full((4, 3), 7.0)):
        result = run(BatchNorm(), xp, x, np.ones_like(x), values)
        np.testing.assert_allclose(result.y, np.broadcast_to(values["bias"], x.shape), atol=1e-12)
        np.testing.assert_allclose(result.dx, 0, atol=1e-9)
        # One value a channel has no variance: it moves nothing. Equal ones have the variance 0.
        assert result.buffers["running_var"].tolist() == pytest.approx([1.0 if len(x) == 1 else 0.9] * 3)
        assert len(x) > 1 or not result.buffers["running_mean"].any()


def test_it_begins_as_the_identity_and_nothing_of_it_decays():
    layer = BatchNorm()
    layer.connect((3, 8, 8))
    assert [(d.name, d.shape, d.decays) for d in layer.declarations] == [
        ("weight", (3,), False),
        ("bias", (3,), False),
    ]
    first = {d.name: d.initializer(np.random.default_rng(0), d.shape).tolist() for d in layer.declarations}
    assert first == {"weight": [1, 1, 1], "bias": [0, 0, 0]}
    kept = {d.name: d.initializer(np.random.default_rng(0), d.shape).tolist() for d in layer.buffers}
    assert kept == {"running_mean": [0, 0, 0], "running_var": [1, 1, 1]}


def test_inputs_that_are_neither_images_nor_flat_are_refused():
    with pytest.raises(ValueError, match=r"BatchNorm 'batch_norm': .* Received input shape \(4, 4\)\. Put Reshape or"):
        BatchNorm().connect((4, 4))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"momentum": -0.1}, r"momentum must be a number in \[0, 1\]\. Received: -0.1"),
        ({"momentum": "0.1"}, "momentum .* Received: '0.1'"),
        ({"epsilon": 0}, r"epsilon must be a number in \(0, inf\)\. Received: 0"),
    ],
)
def test_impossible_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        BatchNorm(**arguments)
