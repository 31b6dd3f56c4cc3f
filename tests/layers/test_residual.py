"""Residual in a network: a block added to its input, or to the output of its shortcut."""

import functools

import numpy as np
import pytest

from tests import strict
from tests.reference import numerical_gradient
from xpcnn.layers import BatchNorm, Context, Conv2D, Dense, Dropout, Flatten, ReLU, Reshape, Residual, Tanh
from xpcnn.losses import MeanSquaredError
from xpcnn.ops.workspace import Workspace
from xpcnn.program.execute import Executor, infer
from xpcnn.program.network import Network
from xpcnn.training.engine.host import ShardedTraining

#: Stacks that end in (n, features), for images of 2 x 3 x 3.
STACKS = {
    "convolution": lambda: [Residual([Conv2D(2, 3, padding="same"), Tanh()])],
    "twice": lambda: [Residual([Conv2D(2, 3, padding="same")]), Tanh(), Residual([Conv2D(2, 1)])],
    "nested": lambda: [Residual([Conv2D(2, 1), Residual([Tanh(), Conv2D(2, 3, padding="same")]), Tanh()])],
    "normalised": lambda: [Residual([Conv2D(2, 3, padding="same"), BatchNorm(), Tanh(), Residual([BatchNorm()])])],
    "dropped": lambda: [Conv2D(2, 1), Residual([Dropout(0.5), Conv2D(2, 1)])],
    "nothing to learn inside": lambda: [Conv2D(2, 1), Residual([Tanh()])],
    "nothing to learn before": lambda: [Residual([Residual([Tanh()]), Conv2D(2, 1)])],
    "projected": lambda: [
        Residual([Conv2D(4, 3, 2, 1), BatchNorm()], [Conv2D(4, 1, 2), BatchNorm()], "relu"),
        Conv2D(2, 1),
    ],
    "an activation with a name": lambda: [Residual([Conv2D(2, 1)], activation=Tanh())],
    "nested in a shortcut": lambda: [Residual([Tanh()], [Residual([Conv2D(2, 1)], [BatchNorm()]), Tanh()], "sigmoid")],
    "nothing to learn around": lambda: [Residual([Conv2D(2, 1)], [Tanh()]), Residual([Tanh()], [Conv2D(2, 1)])],
    "flat": lambda: [Flatten(), Residual([Dense(3), Tanh(), Dense(18)]), Reshape((2, 3, 3))],
}


def build(stack, xp):
    return Network([*STACKS[stack](), Flatten(), Dense(3)], (2, 3, 3), xp, dtype=np.float64)


def evaluate(network, x, y, shards=1):
    """Return the loss and the flat gradient of a batch."""
    loss = MeanSquaredError()
    with Executor(network, len(x), shards, 1) as runner:
        sharded = ShardedTraining(runner, loss)
        result = sharded.train(x, loss.prepare(y, 3, dtype=np.float64), [], 0, 0)
        return result.loss, result.gradient


@functools.cache  # the same for every column and number of shards
def numerically(stack):
    """Return a batch for a stack, and the flat gradient by differences."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(7, 2, 3, 3)), rng.normal(size=(7, 3))
    network = build(stack, np)
    return x, y, numerical_gradient(lambda _: evaluate(network, x, y)[0], network.parameters)


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("shards", [1, 3])
def test_gradients_are_numerical_ones(xp, host, stack, shards):
    x, y, numerical = numerically(stack)
    network = build(stack, np)
    network.to(xp)
    _, gradient = evaluate(network, x, y, shards)
    np.testing.assert_allclose(host(gradient), numerical, rtol=1e-6, atol=1e-8)


def test_the_stack_is_added_to_its_input(xp, host):
    x = np.random.default_rng(0).normal(size=(2, 2, 3, 3))
    network = Network([Residual([ReLU(), Residual([ReLU()])])], (2, 3, 3), xp, dtype=np.float64)
    y = infer(network, xp.asarray(x), Context(Workspace(xp)), network.program())
    np.testing.assert_allclose(host(y), x + 2 * np.maximum(x, 0), rtol=1e-15)


def test_a_shortcut_and_an_activation_of_the_sum(xp, host):
    x = np.random.default_rng(0).normal(size=(2, 2, 3, 3))
    network = Network([Residual([Tanh()], [ReLU()], "relu")], (2, 3, 3), xp, dtype=np.float64)
    y = infer(network, xp.asarray(x), Context(Workspace(xp)), network.program())
    np.testing.assert_allclose(host(y), np.maximum(np.tanh(x) + np.maximum(x, 0), 0), rtol=1e-14)


def test_a_shortcut_of_another_shape_is_refused_saying_what_would_fit():
    block = Residual([Conv2D(4, 3, 2, 1)], [Conv2D(4, 1)], name="block")
    with pytest.raises(
        ValueError, match=r"its layers return \(4, 3, 3\), which .* its shortcut, which returns \(4, 6, 6\)"
    ):
        block.connect((2, 6, 6))
    with pytest.raises(ValueError, match="Residual 'block': its layers return"):
        Network([block], (2, 6, 6), np)


@pytest.mark.parametrize("shortcut", ["relu", [None], [ReLU(), 3], Conv2D(2, 1), 3])
def test_a_shortcut_of_anything_but_layers_is_refused(shortcut):
    with pytest.raises(ValueError, match=r"shortcut must be a list of layers\. Received: "):
        Residual([ReLU()], shortcut)


def test_a_stack_of_another_shape_is_refused_saying_what_would_fit():
    for stack, given in ([Conv2D(2, 3)], (2, 4, 4)), ([Conv2D(3, 3, padding="same")], (3, 6, 6)), ([Flatten()], (72,)):
        with pytest.raises(ValueError) as error:  # noqa: PT011
            Residual(stack, name="block").connect((2, 6, 6))
        assert str(error.value) == (
            f"Residual 'block': its layers return {given}, which cannot be added to its input. "
            'Received input shape (2, 6, 6). Make its last layer return (2, 6, 6), for instance with padding="same".'
        )


@pytest.mark.parametrize("stack", [[], ["relu"], [ReLU(), None], Conv2D(2, 1), None])
def test_anything_but_layers_is_refused(stack):
    with pytest.raises(ValueError, match=r"Residual takes a list of at least one layer\. Received: "):
        Residual(stack)


def test_the_shape_stays_and_the_arrays_are_those_of_the_layers_inside():
    block = Residual([Conv2D(2, 3, padding="same"), ReLU()])
    assert block.connect((2, 5, 5)) == (2, 5, 5)
    assert block.declarations == ()
    network = Network([block], (2, 5, 5), strict.xp)
    assert [d.full_name for d in network.layout.declarations] == ["conv2d_1.weight", "conv2d_1.bias"]
