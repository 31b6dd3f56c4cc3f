"""Layers inside a custom block: each is built with all its parts, once, under its name."""

import numpy as np
import pytest

from tests.models import Block
from xpcnn import layers
from xpcnn.layers import Add, Concatenate, Context, Conv2D, Dense, Multiply, ReLU, Residual, Tanh
from xpcnn.ops.workspace import Workspace
from xpcnn.program.execute import activations, infer
from xpcnn.program.network import Network

IMAGE = (2, 3, 3)


class Wired(layers.Layer):
    """A block that lists some layers and adds others."""

    def __init__(self, listed, expand):
        super().__init__()
        self.listed, self.wire = listed, expand

    def sublayers(self):
        return self.listed

    def expand(self, graph, x):
        return self.wire(graph, x)


def build(listed, expand):
    return Network([Wired(listed, expand)], IMAGE, np, dtype=np.float64)


def predict(network):
    x = np.random.default_rng(0).normal(size=(4, *IMAGE))
    return infer(network, x, Context(Workspace(np)), network.program())


@pytest.mark.parametrize(
    "layer",
    [
        lambda: Conv2D(2, 1, activation="tanh"),
        lambda: Conv2D(2, 1, activation=Tanh(name="tanh")),
        lambda: Residual([Conv2D(2, 1)], activation="tanh"),
    ],
    ids=["by name", "a layer", "a block"],
)
def test_a_layer_is_added_with_those_inside_it(layer):
    added, chained, alone = layer(), layer(), layer()
    expected = predict(Network([alone], IMAGE, np, dtype=np.float64))
    for inner, expand in ((added, lambda g, x: g.add(added, x)), (chained, lambda g, x: g.chain([chained], x))):
        np.testing.assert_array_equal(predict(build([inner], expand)), expected)


def test_a_merge_is_followed_by_the_layers_inside_it():
    class AddReLU(Add):
        def __init__(self):
            super().__init__()
            self.relu = ReLU()

        def sublayers(self):
            return [self.relu]

    plain = predict(Network([Block(Add(), [Tanh()], [])], IMAGE, np, dtype=np.float64))
    cut = predict(Network([Block(AddReLU(), [Tanh()], [])], IMAGE, np, dtype=np.float64))
    np.testing.assert_array_equal(cut, np.maximum(plain, 0))


def test_a_layer_that_is_added_but_not_listed_is_refused():
    convolution = Conv2D(2, 1)
    with pytest.raises(ValueError, match=r"^Wired 'wired_1': expand adds a Conv2D, which sublayers\(\) does not list"):
        build([], lambda graph, x: graph.add(convolution, x))


def test_a_layer_that_is_listed_but_not_added_is_refused():
    used, left = Conv2D(2, 1), Conv2D(2, 1)
    with pytest.raises(ValueError, match=r"sublayers\(\) lists 'conv2d_2', which expand does not add\."):
        build([used, left], lambda graph, x: graph.add(used, x))


def test_a_layer_that_is_added_twice_is_refused():
    convolution = Conv2D(2, 1)
    with pytest.raises(ValueError, match="expand adds 'conv2d_1' more than once"):
        build([convolution], lambda graph, x: graph.chain([convolution, convolution], x))


@pytest.mark.parametrize("merge", [Add, Multiply, Concatenate])
def test_activations_hold_a_merge_under_its_name(merge):
    network = Network([Block(merge(), [Tanh()], []), layers.Flatten(), Dense(3)], IMAGE, np)
    outputs = activations(network, np.ones((1, *IMAGE), np.float32), Context(Workspace(np)))
    assert [*outputs] == ["tanh_1", f"{merge.kind()}_1", "block_1", "flatten_1", "dense_1"]
    np.testing.assert_array_equal(outputs[f"{merge.kind()}_1"], outputs["block_1"])
