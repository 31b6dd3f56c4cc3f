"""Add, Average, Multiply and Concatenate in custom blocks, against central differences; matching shapes, and others."""

import numpy as np
import pytest

from tests.models import Block
from tests.reference import numerical_gradient
from xpcnn import layers, losses
from xpcnn.layers import (
    Add,
    Average,
    BatchNorm,
    Branches,
    Concatenate,
    Conv2D,
    Dense,
    Flatten,
    GlobalAveragePool2D,
    Multiply,
    SqueezeExcitation,
    Tanh,
)
from xpcnn.ops.workspace import Workspace
from xpcnn.program.execute import Executor, activations, infer
from xpcnn.program.network import Network
from xpcnn.training.engine.host import ShardedTraining

IMAGE = (2, 3, 3)


BLOCKS = {
    "three added": lambda: Block(Add(), [Conv2D(2, 1)], [Tanh()], []),
    "three averaged": lambda: Block(Average(), [Conv2D(2, 1)], [Tanh()], []),
    "averaged side by side": lambda: Branches([[Conv2D(2, 1), BatchNorm()], [Tanh()]], "average"),
    "the same twice": lambda: Block(Add(), [], []),
    "multiplied": lambda: Block(Multiply(), [Conv2D(2, 1)], [Tanh()]),
    "gated": lambda: Block(Multiply(), [], [GlobalAveragePool2D(), Dense(2, activation="sigmoid")]),
    "gated by a map of one cell": lambda: SqueezeExcitation([Conv2D(1, 1, activation="tanh"), Conv2D(2, 1)]),
    "concatenated": lambda: Block(Concatenate(), [Conv2D(1, 1), BatchNorm()], [Tanh()], [Conv2D(3, 3, padding=1)]),
    "side by side": lambda: Branches([[Conv2D(1, 1), BatchNorm()], [Tanh()]]),
    "nested": lambda: Block(Concatenate(), [Block(Add(), [Tanh()], [Conv2D(2, 1)])], []),
}


def evaluate(network, x, y, shards=1):
    loss = losses.get("mse")
    with Executor(network, len(x), shards, 1) as executor:
        sharded = ShardedTraining(executor, loss)
        result = sharded.train(x, loss.prepare(y, 3, dtype=np.float64), [], 0, 0)
        return result.loss, result.gradient


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("shards", [1, 3])
def test_gradients_are_numerical_ones(xp, host, block, shards):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(7, *IMAGE)), rng.normal(size=(7, 3))
    network = Network([Conv2D(2, 1), BLOCKS[block](), Flatten(), Dense(3)], IMAGE, np, dtype=np.float64)
    numerical = numerical_gradient(lambda _: evaluate(network, x, y)[0], network.parameters)
    network.to(xp)
    _, gradient = evaluate(network, x, y, shards)
    np.testing.assert_allclose(host(gradient), numerical, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("merge", "expected"),
    [
        (Add(), lambda x: x + np.tanh(x)),
        (Average(), lambda x: (x + np.tanh(x)) / 2),
        (Multiply(), lambda x: x * np.tanh(x)),
        (Concatenate(), lambda x: np.concatenate([x, np.tanh(x)], axis=1)),
    ],
)
def test_outputs_are_what_their_names_say(xp, host, merge, expected):
    x = np.random.default_rng(0).normal(size=(4, *IMAGE))
    network = Network([Block(merge, [], [Tanh()])], IMAGE, xp, dtype=np.float64)
    outputs = activations(network, xp.asarray(x), layers.Context(Workspace(xp)))
    np.testing.assert_allclose(host(outputs["block_1"]), expected(x), rtol=1e-14)


@pytest.mark.parametrize(
    ("merge", "shapes", "message"),
    [
        (Add(), [(2, 3, 3)], "it takes several inputs"),
        (Add(), [(2, 3, 3), (2, 3, 4)], r"\(2, 3, 3\) and \(2, 3, 4\) cannot be added"),
        (Multiply(), [(2, 3, 3), (3,)], r"cannot be multiplied by \(3,\). .* Use \(2, 3, 3\) or \(2,\) or \(2, 1, 1\)"),
        (Multiply(), [(2, 3, 3)] * 3, "cannot be multiplied by"),
        (Multiply(), [(8, 9), (8,)], r"cannot be multiplied by \(8,\). .* Use \(8, 9\)\.$"),
        (Multiply(), [(8,), (4,)], r"cannot be multiplied by \(4,\). .* Use \(8,\)\.$"),
        (Concatenate(), [(2, 3, 3), (2, 3, 4)], r"Make every branch return \(channels, 3, 3\)"),
    ],
)
def test_inputs_that_do_not_fit_are_refused_saying_what_would(merge, shapes, message):
    with pytest.raises(ValueError, match=message):
        merge.connect(*shapes)


def test_a_merge_has_no_place_in_a_stack():
    with pytest.raises(ValueError, match="Add 'add_1': it takes several inputs"):
        Network([Add()], IMAGE, np)


def test_a_custom_layer_may_write_into_its_gradient(xp, host):
    class Doubling(layers.Layer):
        def forward(self, params, x, context):
            def backward(dy, gradients):
                dy *= 2
                return dy

            return x * 2, backward

    network = Network([Conv2D(2, 1), Block(Add(), [Doubling()], []), Flatten(), Dense(3)], IMAGE, np, dtype=np.float64)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(5, *IMAGE)), rng.normal(size=(5, 3))
    numerical = numerical_gradient(lambda _: evaluate(network, x, y)[0], network.parameters)
    network.to(xp)
    np.testing.assert_allclose(host(evaluate(network, x, y)[1]), numerical, rtol=1e-6, atol=1e-8)


class InPlace(layers.Layer):
    """Doubles its input where it lies."""

    def forward(self, params, x, context):
        x *= 2
        return x, lambda dy, gradients: dy * 2


@pytest.mark.parametrize("merge", [Add, Average, Multiply, Concatenate])
@pytest.mark.parametrize("before", [lambda: Conv2D(2, 1), Tanh, BatchNorm])
def test_a_custom_layer_may_write_into_its_input(xp, host, merge, before):
    network = Network([before(), Block(merge(), [InPlace()], []), Flatten(), Dense(3)], IMAGE, xp, dtype=np.float64)
    x = np.random.default_rng(0).normal(size=(1, *IMAGE))
    given = xp.asarray(x)
    outputs = activations(network, given, layers.Context(Workspace(xp)))
    (first, *_), block = outputs.values(), outputs["block_1"]
    expected = {Add: lambda a: 3 * a, Average: lambda a: 3 * a / 2, Multiply: lambda a: 2 * a * a}.get(
        merge, lambda a: np.concatenate([2 * a, a], axis=1)
    )
    np.testing.assert_allclose(host(block), expected(host(first)), rtol=1e-14)
    y = np.random.default_rng(1).normal(size=(1, 3))
    network.to(np)
    numerical = numerical_gradient(lambda _: evaluate(network, x, y)[0], network.parameters)
    np.testing.assert_allclose(evaluate(network, x, y)[1], numerical, rtol=1e-6, atol=1e-8)


def test_a_custom_layer_does_not_write_into_the_users_images(xp, host):
    x = np.random.default_rng(0).normal(size=(1, *IMAGE))
    network, given = Network([InPlace(), Flatten()], IMAGE, xp, dtype=np.float64), xp.asarray(x)
    activations(network, given, layers.Context(Workspace(xp)))
    infer(network, given, layers.Context(Workspace(xp)), network.program())
    np.testing.assert_array_equal(host(given), x)


def test_a_branch_that_leads_nowhere_is_refused():
    class Lost(layers.Layer):
        def __init__(self):
            super().__init__()
            self.used, self.lost = Tanh(name="used"), Tanh(name="lost")

        def sublayers(self):
            return [self.used, self.lost]

        def expand(self, graph, x):
            y = graph.add(self.used, x)
            graph.add(self.lost, x)
            return y

    with pytest.raises(ValueError, match="The output of 'lost' is never used"):
        Network([Lost()], IMAGE, np)


def test_squeeze_and_excitation_scales_channels_by_its_gate(xp, host):
    x = np.random.default_rng(0).normal(size=(4, *IMAGE))
    network = Network([SqueezeExcitation([Tanh()])], IMAGE, xp, dtype=np.float64)
    y = host(infer(network, xp.asarray(x), layers.Context(Workspace(xp)), network.program()))
    np.testing.assert_allclose(y, x * np.tanh(x.mean(axis=(2, 3), keepdims=True)), rtol=1e-13)
    with pytest.raises(ValueError, match=r"cannot be multiplied by \(3, 1, 1\). .* Use .* or \(2, 1, 1\)"):
        Network([SqueezeExcitation([Conv2D(3, 1)])], IMAGE, np)
    with pytest.raises(ValueError, match=r"takes a list of at least one layer. Received: \[\]"):
        SqueezeExcitation([])


def test_branches_that_do_not_fit_or_are_none_are_refused():
    with pytest.raises(ValueError, match=r"channels of \(2, 3, 3\) and \(2, 2, 2\) cannot be concatenated"):
        Network([Branches([[Conv2D(2, 1)], [Conv2D(2, 2)]])], IMAGE, np)
    for few in ([], [[Tanh()]], None, "ab"):
        with pytest.raises(ValueError, match=r"Branches takes a list of at least two lists of layers\. Received"):
            Branches(few)
    with pytest.raises(ValueError, match=r"merge must be one of concatenate, average\. Received: 'add'"):
        Branches([[Tanh()], [Tanh()]], "add")
    with pytest.raises(ValueError, match=r"\(2, 3, 3\) and \(1, 3, 3\) cannot be added"):
        Network([Branches([[Tanh()], [Conv2D(1, 1)]], "average")], IMAGE, np)
    with pytest.raises(ValueError, match=r"Each branch must be a list of at least one layer. Received: \[\]"):
        Branches([[Tanh()], []])
