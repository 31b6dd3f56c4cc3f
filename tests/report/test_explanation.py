"""Grad-CAM and the input's gradient: the bright regions are those that the score depends on."""

import numpy as np
import pytest

import xpcnn
from tests.models import Block
from xpcnn import layers
from xpcnn.report import explanation


def random(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def test_a_place_is_bright_where_it_speaks_for_the_class():
    model = xpcnn.Sequential(
        [layers.Conv2D(2, 1, activation="relu"), layers.GlobalAveragePool2D(), layers.Dense(2, activation="softmax")],
        (2, 3, 3), np,
    )  # fmt: skip
    names = {"conv2d_1.weight": np.eye(2).reshape(2, 2, 1, 1), "dense_1.weight": np.array([[1.0, -1.0], [-1.0, 1.0]])}
    model.set_weights({name: names.get(name, np.zeros_like(value)) for name, value in model.get_weights().items()})
    x = np.zeros((2, 2, 3, 3), dtype=np.float32)
    x[:, 0, 0, 0], x[:, 0, 1, 1], x[:, 1, 2, 2] = 4, 2, 3  # the first channel speaks for class 0, the other for 1
    first, second = explanation.explain(model.network, x, np.array([0, 1]))
    # the gradient of a score with respect to a place of its channel is a ninth, that of the average
    assert np.allclose(first, np.array([[4, 0, 0], [0, 2, 0], [0, 0, 0]]) / 9)
    assert np.allclose(second, np.array([[0, 0, 0], [0, 0, 0], [0, 0, 3]]) / 9)


@pytest.mark.parametrize("label", [0, 1, 2])
def test_without_a_convolution_it_is_the_gradient_of_the_input(label):
    stack = [layers.BatchNorm(), layers.LeakyReLU(), layers.Residual([layers.BatchNorm(), layers.Tanh()])]
    end = [layers.MaxPool2D(2), layers.Flatten(), layers.Dropout(0.5), layers.Dense(3, name="scores")]
    model = xpcnn.Sequential([*stack, *end, layers.Softmax()], (1, 4, 4), np)
    x = random(1, 1, 4, 4)

    def score(image):
        return model.activations(image)["scores"][0, label].astype(np.float64)

    slopes = np.zeros((4, 4))
    for place in np.ndindex(4, 4):
        step = np.zeros_like(x)
        step[(0, 0, *place)] = 1e-2
        slopes[place] = (score(x + step) - score(x - step)) / 2e-2
    (found,) = explanation.explain(model.network, x, np.array([label]))
    assert np.allclose(found, np.abs(slopes), atol=0.02 * np.abs(slopes).max())


def test_the_two_classes_of_one_output_are_opposite():
    model = xpcnn.Sequential(
        [layers.Conv2D(1, 1), layers.GlobalAveragePool2D(), layers.Dense(1, activation="sigmoid")], (1, 2, 2), np
    )
    model.set_weights({name: np.ones_like(value) for name, value in model.get_weights().items()})
    x = np.array([[[[3.0, 0.0], [0.0, 0.0]]]], dtype=np.float32).repeat(2, axis=0)
    against, speaks = explanation.explain(model.network, x, np.array([0, 1]))
    assert np.allclose(speaks, [[1, 0.25], [0.25, 0.25]])
    assert against.max() == 0


@pytest.mark.parametrize(
    ("stack", "ends"),
    [
        ([layers.Conv2D(4, 3, padding="same"), layers.BatchNorm(), layers.ReLU(), layers.MaxPool2D(2)], [3]),
        ([layers.Conv2D(4, 3, activation="relu"), layers.Conv2D(4, 3)], [2, 3]),
        ([layers.Conv2D(4, 1), layers.Residual([layers.Conv2D(4, 3, padding="same")]), layers.ReLU()], [1, 4]),
        (
            [layers.Residual([layers.Conv2D(4, 3, 2, 1)], [layers.Conv2D(4, 1, 2), layers.BatchNorm()], "relu")],
            [5, 5],
        ),
        ([], []),
    ],
    ids=["normalised", "two", "residual", "projected", "none"],
)  # fmt: skip
def test_a_block_ends_in_the_slot_after_a_convolution_and_what_follows_it(stack, ends):
    model = xpcnn.Sequential([*stack, layers.Flatten(), layers.Dense(2, activation="softmax")], (1, 8, 8), np)
    assert explanation.blocks(model.network) == ends
    maps = explanation.explain(model.network, random(3, 1, 8, 8), np.array([0, 1, 0]))
    assert maps.shape[0] == 3
    assert np.isfinite(maps).all()
    assert maps.min() >= 0


def inception():
    return Block(layers.Concatenate(), [layers.Conv2D(2, 1), layers.MaxPool2D(1)], [layers.Conv2D(2, 1)])


def flattened(*branch):
    return Block(layers.Concatenate(), [*branch, layers.Flatten()], [layers.Flatten()])


def gated(*gate):
    return Block(layers.Multiply(), [], [layers.Conv2D(4, 1, activation="relu"), *gate])


@pytest.mark.parametrize(
    ("stack", "slot"),
    [
        ([layers.Conv2D(4, 3), layers.BatchNorm(), layers.ReLU(), layers.MaxPool2D(2)], 3),
        ([inception()], 4),
        ([inception(), layers.BatchNorm(), layers.ReLU(), layers.MaxPool2D(2)], 6),
        ([layers.Conv2D(4, 3), gated()], 4),
        ([layers.Conv2D(4, 3), gated(layers.GlobalAveragePool2D())], 5),
        ([layers.Conv2D(4, 3), layers.Residual([layers.Tanh()])], 3),
        ([layers.Conv2D(4, 3), flattened(layers.Conv2D(2, 3))], 1),
        ([flattened(layers.Conv2D(2, 3))], 0),
        ([layers.Residual([layers.Tanh()]), layers.MaxPool2D(2)], 0),
    ],
    ids=["pooled", "branches", "branches normalised", "gated", "channels gated", "residual", "flat branches",
         "the images beside a branch", "no convolution"],
)  # fmt: skip
def test_maps_are_those_on_which_all_that_follows_depends(stack, slot):
    model = xpcnn.Sequential([*stack, layers.Flatten(), layers.Dense(2, activation="softmax")], (1, 8, 8), np)
    assert explanation.explained(model.network) == slot
    maps = explanation.explain(model.network, random(3, 1, 8, 8), np.array([0, 1, 0]))
    assert np.isfinite(maps).all()


def test_every_branch_counts():
    def bright(branch):
        branches = Block(layers.Concatenate(), [layers.Conv2D(1, 1)], [layers.Conv2D(1, 1)])
        stack = [branches, layers.GlobalAveragePool2D(), layers.Dense(2, activation="softmax")]
        model = xpcnn.Sequential(stack, (2, 3, 3), np)
        values = {name: np.zeros_like(value) for name, value in model.get_weights().items()}
        values[f"conv2d_{branch + 1}.weight"][0, branch] = 1  # each branch sees a channel
        values["dense_1.weight"][0, branch] = 1
        model.set_weights(values)
        x = np.zeros((1, 2, 3, 3), dtype=np.float32)
        x[0, 0, 0, 0] = x[0, 1, 2, 2] = 1
        (maps,) = explanation.explain(model.network, x, np.array([0]))
        return [tuple(place.tolist()) for place in np.argwhere(maps > 0)]

    assert bright(0) == [(0, 0)]
    assert bright(1) == [(2, 2)]


def test_a_custom_layer_may_write_into_its_gradient():
    class Scaled(layers.Layer):
        def __init__(self, in_place):
            super().__init__()
            self.in_place = in_place

        def forward(self, params, x, context):
            def backward(dy, gradients):
                return np.multiply(dy, -0.5, out=dy if self.in_place else None)

            return x * -0.5, backward

    maps = []
    for in_place in (True, False):
        stack = [layers.Conv2D(4, 3), layers.Residual([Scaled(in_place)]), layers.Flatten(), layers.Dense(3)]
        model = xpcnn.Sequential(stack, (1, 6, 6), np)
        maps.append(explanation.explain(model.network, random(3, 1, 6, 6), np.array([0, 1, 2])))
    np.testing.assert_array_equal(*maps)


def test_feature_maps_are_what_the_model_computes():
    model = xpcnn.Sequential(
        [layers.Conv2D(4, 3), layers.ReLU(name="ends"), layers.Flatten(), layers.Dense(2)], (1, 8, 8), np
    )
    x = random(1, 1, 8, 8)
    ((name, maps),) = explanation.feature_maps(model.network, x)
    assert name == "conv2d_1"
    assert np.allclose(maps, model.activations(x)["ends"][0], atol=1e-5)


def test_the_model_stays_as_it_is():
    model = xpcnn.Sequential(xpcnn.presets.small((1, 8, 8), 3), (1, 8, 8), np)
    before = model.get_weights()
    explanation.explain(model.network, random(4, 1, 8, 8), np.array([0, 1, 2, 0]))
    assert all(np.array_equal(before[name], value) for name, value in model.get_weights().items())
