"""The plan: a network computes the same as its layers one by one, in fewer steps."""

import numpy as np
import pytest

from xpcnn import layers, losses
from xpcnn.layers import Conv2D, Flatten, MaxPool2D, ReLU
from xpcnn.network import Network
from xpcnn.plan import Joined, join
from xpcnn.training.shards import Runner

STACKS = {
    "conv relu": lambda: [Conv2D(3, 3), ReLU()],
    "conv relu pool": lambda: [Conv2D(3, 3, activation="relu"), MaxPool2D(2)],
    "conv pool relu": lambda: [Conv2D(3, 3), MaxPool2D(2), ReLU()],
    "conv pool": lambda: [Conv2D(3, 3, use_bias=False), MaxPool2D((2, 3))],
    "conv relu pool pool": lambda: [Conv2D(3, 3, padding=1), ReLU(), MaxPool2D(2), MaxPool2D(2)],
    "norm relu pool": lambda: [Conv2D(3, 3), layers.BatchNorm(), ReLU(), MaxPool2D(2)],
    "norm relu": lambda: [layers.BatchNorm(), ReLU()],
    "pool relu": lambda: [layers.Tanh(), MaxPool2D(2), ReLU()],
    "norm around and relu": lambda: [layers.BatchNorm(), layers.Residual([ReLU(), layers.BatchNorm()]), ReLU()],
    "twice": lambda: [Conv2D(3, 3, activation="relu"), Conv2D(2, 3, activation="relu"), MaxPool2D(3, 2)],
    "many filters": lambda: [Conv2D(40, 3, activation="relu"), MaxPool2D(2)],
    "dense relu": lambda: [Flatten(), layers.Dense(6, activation="relu"), layers.Dense(4), ReLU()],
    "inside a residual stack": lambda: [Conv2D(2, 3), layers.Residual([Conv2D(2, 3, padding=1), ReLU()]), ReLU()],
}


def kinds(stack):
    return [type(layer).__name__ for layer in join(Network(stack, (2, 9, 9), np).layers)]


def step(network, x, y):
    """Return loss and flat gradient of a batch, on the host."""
    loss = losses.get("mse")
    with Runner(network, len(x), 1) as runner:
        runner.prepare_training(loss)
        result = runner.train(x, loss.prepare(y, 2, dtype=np.float64), [], 0, 0)
        return float(result.loss), np.array(result.gradient)


@pytest.mark.parametrize("stack", STACKS)
def test_joined_steps_give_the_loss_and_gradients_of_the_layers_one_by_one(monkeypatch, stack):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(5, 2, 9, 9)), rng.normal(size=(5, 2))
    results = []
    for joining in (join, tuple):
        monkeypatch.setattr("xpcnn.network.join", joining)
        network = Network([*STACKS[stack](), Flatten(), layers.Dense(2)], (2, 9, 9), np, dtype=np.float64)
        joined = any(isinstance(layer, Joined) for layer in network.program().layers)
        assert joined == (joining is join and "norm" not in stack and stack != "pool relu")
        results.append(step(network, x, y))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-12)
    np.testing.assert_allclose(results[0][1], results[1][1], rtol=1e-9, atol=1e-12)


def test_pooling_is_moved_before_relu_and_both_are_joined_to_the_convolution():
    assert kinds([Conv2D(3, 3), ReLU(), MaxPool2D(2), Flatten()]) == ["Joined", "Flatten"]
    assert kinds([Conv2D(3, 3), MaxPool2D(2), ReLU(), ReLU()]) == ["Joined", "ReLU"]
    assert kinds([layers.BatchNorm(), ReLU(), MaxPool2D(2)]) == ["BatchNorm", "MaxPool2D", "ReLUInPlace"]


def test_relu_is_done_in_place_where_no_other_layer_needs_what_it_overwrites():
    assert kinds([layers.BatchNorm(), ReLU(), ReLU()]) == ["BatchNorm", "ReLUInPlace", "ReLU"]
    assert kinds([layers.Tanh(), ReLU()]) == ["Tanh", "ReLU"]
    assert kinds([layers.AveragePool2D(2), ReLU()]) == ["AveragePool2D", "ReLU"]


def test_what_does_not_commute_stays_where_it_is():
    assert kinds([Conv2D(3, 3), layers.Tanh(), MaxPool2D(2)]) == ["Conv2D", "Tanh", "MaxPool2D"]
    assert kinds([Conv2D(3, 3), layers.MinPool2D(2), ReLU()]) == ["Conv2D", "MinPool2D", "ReLU"]
    assert kinds([Conv2D(3, 3), layers.Dropout(0.1), ReLU()]) == ["Conv2D", "Dropout", "ReLU"]


def test_a_convolution_of_ones_own_is_left_alone():
    class Doubled(Conv2D):
        def forward(self, params, x, context):
            y, backward = super().forward(params, x, context)
            return 2 * y, lambda dy, gradients: backward(2 * dy, gradients)

    assert kinds([Doubled(3, 3), ReLU()]) == ["Doubled", "ReLU"]


def test_an_activation_of_ones_own_is_neither_joined_nor_left_to_the_loss():
    class Clipped(ReLU):
        def forward(self, params, x, context):
            return np.clip(x, 0, 0.1), lambda dy, gradients: dy

    class Warm(layers.Softmax):
        def forward(self, params, x, context):
            return super().forward(params, x / 10, context)

    assert kinds([Conv2D(3, 3), Clipped()]) == ["Conv2D", "Clipped"]
    network = Network([Flatten(), layers.Dense(3), Warm()], (1, 2, 2), np)
    assert not network.program(losses.get("cross_entropy")).from_logits
