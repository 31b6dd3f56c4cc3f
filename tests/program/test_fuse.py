"""Fused nodes compute what their layers would one by one, and folded ones predict the same."""

import numpy as np
import pytest

import xpcnn
from xpcnn import layers, losses
from xpcnn.layers import BatchNorm, Context, Conv2D, Flatten, MaxPool2D, ReLU, ReLU6
from xpcnn.ops.workspace import Workspace
from xpcnn.program.execute import Executor, activations, infer
from xpcnn.program.fuse import fuse
from xpcnn.program.network import Network
from xpcnn.training.engine.host import ShardedTraining

STACKS = {
    "conv relu": lambda: [Conv2D(3, 3), ReLU()],
    "conv relu6": lambda: [Conv2D(3, 3), ReLU6(), layers.Residual([Conv2D(3, 1), BatchNorm(), ReLU6()]), ReLU6()],
    "conv relu pool": lambda: [Conv2D(3, 3, activation="relu"), MaxPool2D(2)],
    "conv pool relu": lambda: [Conv2D(3, 3), MaxPool2D(2), ReLU()],
    "conv pool": lambda: [Conv2D(3, 3, use_bias=False), MaxPool2D((2, 3))],
    "conv relu pool pool": lambda: [Conv2D(3, 3, padding=1), ReLU(), MaxPool2D(2), MaxPool2D(2)],
    "norm relu pool": lambda: [Conv2D(3, 3), BatchNorm(), ReLU(), MaxPool2D(2)],
    "norm relu": lambda: [BatchNorm(), ReLU()],
    "pool relu": lambda: [layers.Tanh(), MaxPool2D(2), ReLU()],
    "norm around and relu": lambda: [BatchNorm(), layers.Residual([ReLU(), BatchNorm()]), ReLU()],
    "relu6": lambda: [Conv2D(4, 3, activation="relu6"), Conv2D(4, 3, groups=4), ReLU6(), Conv2D(3, 1), ReLU6()],
    "twice": lambda: [Conv2D(3, 3, activation="relu"), Conv2D(2, 3, activation="relu"), MaxPool2D(3, 2)],
    "many filters": lambda: [Conv2D(40, 3, activation="relu"), MaxPool2D(2)],
    "dense relu": lambda: [Flatten(), layers.Dense(6, activation="relu"), layers.Dense(4), ReLU()],
    "branches": lambda: [Conv2D(2, 3), layers.Residual([ReLU(), Conv2D(2, 3, padding=1)], [BatchNorm()], "relu")],
    "inside a residual stack": lambda: [Conv2D(2, 3), layers.Residual([Conv2D(2, 3, padding=1), ReLU()]), ReLU()],
}


def kinds(stack):
    """Return what each node of the training program computes: "Conv2D pool relu", …."""
    nodes = Network(stack, (2, 9, 9), np).training_program(losses.get("mse")).nodes
    return [
        " ".join(
            [
                type(node.layer).__name__,
                *(
                    str(value) if option == "fused_activation" else option
                    for option, value in node.options.items()
                    if option != "input_gradient"
                ),
            ]
        )
        for node in nodes
    ]


def step(network, x, y):
    """Return loss and flat gradient of a batch, on the host."""
    loss = losses.get("mse")
    with Executor(network, len(x), 1) as executor:
        sharded = ShardedTraining(executor, loss)
        result = sharded.train(x, loss.prepare(y, 2, dtype=np.float64), [], 0, 0)
        return float(result.loss), np.array(result.gradient)


@pytest.mark.parametrize("stack", STACKS)
def test_fused_nodes_give_the_loss_and_gradients_of_the_layers_one_by_one(monkeypatch, stack):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(5, 2, 9, 9)), rng.normal(size=(5, 2))
    results, counts = [], []
    for fusing in (fuse, list):
        monkeypatch.setattr("xpcnn.program.network.fuse", fusing)
        network = Network([*STACKS[stack](), Flatten(), layers.Dense(2)], (2, 9, 9), np, dtype=np.float64)
        counts.append(sum(len(node.options) for node in network.training_program(losses.get("mse")).nodes))
        results.append(step(network, x, y))
    assert counts[0] > counts[1]
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-12)
    np.testing.assert_allclose(results[0][1], results[1][1], rtol=1e-9, atol=1e-12)


def test_pooling_is_moved_before_relu_and_both_are_fused_with_what_is_before_them():
    assert kinds([Conv2D(3, 3), ReLU(), MaxPool2D(2), Flatten()]) == ["Conv2D pool relu", "Flatten"]
    assert kinds([Conv2D(3, 3), MaxPool2D(2), ReLU(), ReLU()]) == ["Conv2D pool relu", "ReLU"]
    assert kinds([BatchNorm(), ReLU(), MaxPool2D(2)]) == ["BatchNorm pool relu"]
    assert kinds([BatchNorm(), MaxPool2D(2), MaxPool2D(2), ReLU()]) == ["BatchNorm pool", "MaxPool2D", "ReLU in_place"]


def test_relu6_is_fused_with_a_convolution_that_is_not_pooled():
    assert kinds([Conv2D(3, 3), ReLU6(), MaxPool2D(2)]) == ["Conv2D relu6", "MaxPool2D"]
    assert kinds([Conv2D(3, 3), MaxPool2D(2), ReLU6()]) == ["Conv2D pool", "ReLU6"]
    assert kinds([Conv2D(3, 3), ReLU(), ReLU6()]) == ["Conv2D relu", "ReLU6"]


def test_relu_is_done_in_place_where_no_other_layer_needs_what_it_overwrites():
    assert kinds([BatchNorm(), ReLU(), ReLU()]) == ["BatchNorm relu", "ReLU"]
    assert kinds([BatchNorm(), ReLU6()]) == ["BatchNorm", "ReLU6 in_place"]
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


def test_an_activation_of_ones_own_is_neither_fused_nor_left_to_the_loss():
    class Clipped(ReLU):
        def forward(self, params, x, context):
            return np.clip(x, 0, 0.1), lambda dy, gradients: dy

    class Warm(layers.Softmax):
        def forward(self, params, x, context):
            return super().forward(params, x / 10, context)

    assert kinds([Conv2D(3, 3), Clipped()]) == ["Conv2D", "Clipped"]
    network = Network([Flatten(), layers.Dense(3), Warm()], (1, 2, 2), np)
    assert not network.program(losses.get("cross_entropy")).from_logits


def test_what_two_branches_read_is_neither_fused_nor_overwritten():
    block = layers.Residual([ReLU(), Conv2D(2, 3, padding=1)], activation="relu")
    assert kinds([Conv2D(2, 3), block]) == ["Conv2D", "ReLU", "Conv2D", "Add", "Activation in_place"]
    block = layers.Residual([ReLU(), Conv2D(2, 3, padding=1)], [layers.Tanh()])
    assert kinds([BatchNorm(), block]) == ["BatchNorm", "ReLU", "Conv2D", "Tanh", "Add"]


# BatchNorm folded into the layer before it

FOLDED = {
    "convolution": (lambda: [Conv2D(4, 3), BatchNorm(), ReLU(), MaxPool2D(2)], 1),
    "without bias": (lambda: [Conv2D(4, 3, use_bias=False), BatchNorm(), layers.Tanh()], 1),
    "groups and a border": (lambda: [Conv2D(4, 3, padding=1, padding_mode="edge", groups=2), BatchNorm()], 1),
    "dense": (lambda: [Flatten(), layers.Dense(6), BatchNorm(), ReLU()], 1),
    "twice": (lambda: [Conv2D(4, 3), BatchNorm(), BatchNorm(), layers.Dropout(0.1), BatchNorm()], 1),
    "residual": (
        lambda: [
            layers.Residual([Conv2D(4, 3, 2, 1), BatchNorm(), ReLU()], [Conv2D(4, 1, 2), BatchNorm()], "relu"),
            Conv2D(3, 1),
            BatchNorm(),
        ],
        3,
    ),
    "not after an activation": (lambda: [Conv2D(4, 3, activation="relu"), BatchNorm(), BatchNorm()], 0),
    "not where another reads it": (lambda: [Conv2D(4, 3), layers.Residual([BatchNorm(), ReLU()])], 0),
}


def drawn(network):
    """Give a network parameters and statistics that are far from those it begins with."""
    rng = np.random.default_rng(1)
    network.set_values({name: rng.uniform(0.5, 2, np.shape(value)) for name, value in network.host_values().items()})
    return network


@pytest.mark.parametrize("stack", FOLDED)
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-12), (np.float32, 1e-5)])
def test_predictions_with_batch_norm_folded_are_those_without(xp, host, stack, dtype, tolerance):
    build, count = FOLDED[stack]
    network = drawn(Network(build(), (2, 9, 9), xp, dtype=dtype))
    x = xp.asarray(np.random.default_rng(0).normal(size=(5, 2, 9, 9)).astype(dtype))
    kinds = [type(node.layer) for node in network.program().nodes]
    assert kinds.count(BatchNorm) == [type(node.layer) for node in network.nodes].count(BatchNorm) - count
    folded = host(infer(network, x, Context(Workspace(xp)), network.program()))
    plain = host([*activations(network, x, Context(Workspace(xp))).values()][-1])
    assert abs(folded - plain).max() <= tolerance * abs(plain).max()


def test_a_prediction_after_a_change_of_statistics_or_weights_is_that_of_the_new_ones():
    model = xpcnn.Sequential([Conv2D(4, 3), BatchNorm(), Flatten(), layers.Dense(2)], (2, 9, 9), np)
    x = np.random.default_rng(0).normal(size=(5, 2, 9, 9)).astype(np.float32)
    for number in range(5):
        model.set_weights({name: value + 0.1 * number for name, value in model.get_weights().items()})
        np.testing.assert_allclose(model.predict(x), model.activations(x)["dense_1"], rtol=1e-4, atol=1e-5)
    model.layers[1].epsilon = 5.0
    np.testing.assert_allclose(model.predict(x), model.activations(x)["dense_1"], rtol=1e-4, atol=1e-5)


def test_a_batch_norm_of_ones_own_is_not_folded():
    class Own(BatchNorm):
        pass

    network = Network([Conv2D(4, 3), Own()], (2, 9, 9), np)
    assert [type(node.layer) for node in network.program().nodes] == [Conv2D, Own]
