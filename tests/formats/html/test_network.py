"""The network in the page gives what the model gives: every kind of layer, and where it looked."""

import json

import numpy as np
import pytest

import xpcnn
from tests.models import Block
from tests.report.devtools import CHROMIUM
from xpcnn import layers
from xpcnn.data import Decoding, Preprocessing
from xpcnn.formats import html
from xpcnn.layers import Conv2D, Dense, Flatten
from xpcnn.ops.activations import ACTIVATIONS
from xpcnn.program.program import INPUT
from xpcnn.report.explanation import explain, explained

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="there is no `chromium` on the PATH")]

SHAPE = (3, 9, 8)
END = [Flatten, lambda: Dense(4, activation="softmax")]

#: Layers between the image and the classes, by what they show.
STACKS = {
    "dense alone": list,
    "convolution": lambda: [Conv2D(8, 3)],
    "few filters, no bias": lambda: [Conv2D(3, 3, use_bias=False)],
    "strides, dilation, padding": lambda: [Conv2D(5, (3, 2), strides=(2, 1), padding=(2, 1), dilation=(1, 2))],
    "same": lambda: [Conv2D(8, (2, 3), padding="same", strides=2)],
    "edge": lambda: [Conv2D(4, 3, padding="same", padding_mode="edge")],
    "single cells": lambda: [Conv2D(8, 1), Conv2D(4, 1, strides=2)],
    "groups": lambda: [Conv2D(8, 3, padding=1), Conv2D(8, 3, groups=2), Conv2D(16, 3, groups=8)],
    "folded normalisation": lambda: [Conv2D(4, 3, padding=1), layers.BatchNorm(), layers.ReLU()],
    "normalisation": lambda: [layers.BatchNorm(), Conv2D(4, 3), layers.ReLU(), layers.BatchNorm(epsilon=0.1)],
    "normalised features": lambda: [Flatten(), Dense(6), layers.BatchNorm(), layers.ReLU(), layers.BatchNorm()],
    "max": lambda: [Conv2D(4, 3, padding=1), layers.MaxPool2D(3, 2, padding=1)],
    "pooled images": lambda: [layers.MaxPool2D(3, 2, padding=1), layers.MinPool2D(2, 1)],
    "min": lambda: [Conv2D(4, 3, padding=1), layers.MinPool2D((2, 3), padding="same")],
    "average": lambda: [Conv2D(4, 3, padding=1), layers.AveragePool2D(3, 2, padding=1)],
    "adaptive": lambda: [Conv2D(4, 3, padding=1), layers.AdaptiveAveragePool2D((4, 3))],
    "global average": lambda: [Conv2D(4, 3), layers.GlobalAveragePool2D()],
    "global max": lambda: [Conv2D(4, 3), layers.GlobalMaxPool2D()],
    "upsampling": lambda: [Conv2D(4, 3), layers.Upsample2D((2, 3))],
    "shapes": lambda: [Conv2D(4, 3), layers.Dropout(0.5), layers.Reshape((8, -1)), Flatten()],
    "leaky": lambda: [Conv2D(4, 3), layers.LeakyReLU(0.2)],
    "residual": lambda: [
        layers.Residual([Conv2D(3, 3, padding=1), layers.BatchNorm()], activation="relu"),
        layers.Residual([Conv2D(6, 3, padding=1)], shortcut=[Conv2D(6, 1)]),
    ],
    "branches": lambda: [layers.Branches([[Conv2D(4, 1)], [Conv2D(3, 3, padding=1), layers.ReLU()]])],
    "averaged branches": lambda: [layers.Branches([[Conv2D(3, 1)], [layers.Tanh()]], merge="average")],
    "squeeze and excitation": lambda: [
        Conv2D(4, 3),
        layers.SqueezeExcitation([Conv2D(2, 1, activation="silu"), Conv2D(4, 1, activation="sigmoid")]),
    ],
    "a gate in a residual block": lambda: [
        layers.Residual([Conv2D(3, 3, padding=1), layers.SqueezeExcitation([Conv2D(3, 1)])], activation="relu")
    ],
    "product": lambda: [Block(layers.Multiply(), [], [layers.GlobalAveragePool2D(), Dense(3, activation="sigmoid")])],
    "equal product": lambda: [Block(layers.Multiply(), [Conv2D(3, 1)], [Conv2D(3, 1, activation="tanh")])],
    "inner softmax": lambda: [Conv2D(4, 3), layers.Softmax(), layers.MaxPool2D(2)],
    **{f"{name} activation": lambda name=name: [Conv2D(4, 3, activation=name)] for name in ACTIVATIONS},
}


def made(stack, end=None, temperature=1.0, loss="cross_entropy"):
    """A model with random weights and statistics."""
    model = xpcnn.Sequential([*stack, *(make() for make in end or END)], SHAPE, xp="numpy", seed=1)
    model.compile(loss=loss)
    rng = np.random.default_rng(2)
    values = model.network.host_values()
    for name, value in values.items():
        if value.ndim == 1:
            values[name] = rng.uniform(0.5, 1.5, value.shape).astype(np.float32)
    model.network.set_values(values)
    model.preprocessing = Preprocessing(Decoding(*SHAPE[1:], SHAPE[0]), (100.0,) * 3, (50.0,) * 3)
    model.temperature = temperature
    return model


def asked(browser, model, path, question, x):
    """What the network of a model's page answers."""
    html.export(model, path / "page.html")
    browser.show(path / "page.html")
    build = (
        "const m = JSON.parse(document.getElementById('model').textContent);"
        "const weights = unpackedArray(m.weights, Int16Array), numbers = unpackedArray(m.numbers, Float32Array);"
        "const network = new Network(m.spec, weights, numbers);"
    )
    return json.loads(
        browser.value(
            f"(() => {{ {build} return JSON.stringify({json.dumps(x.tolist())}.map(one => {{"
            f"const x = Float32Array.from(one.flat(2)); return {question}; }})); }})()"
        )
    )


def pictures(n=4):
    """Normalised images, of so few levels that neighbours are often equal."""
    return ((60 * np.random.default_rng(0).integers(0, 5, (n, *SHAPE)) - 100) / 50).astype(np.float32)


def test_every_kind_of_layer_is_here():
    inside = {type(node.layer) for stack in STACKS.values() for node in made(stack()).network.nodes}
    blocks = {layers.Residual, layers.Branches, layers.SqueezeExcitation}
    public = {getattr(layers, name) for name in layers.__all__ if name not in ("Context", "Layer")}
    activations = {one for one in public if issubclass(one, layers.Activation)}  # made by their names above
    assert inside | blocks | activations == public


@pytest.mark.parametrize("stack", STACKS)
def test_its_probabilities_are_those_of_predict(browser, tmp_path, stack):
    model, x = made(STACKS[stack]()), pictures()
    found = np.array(asked(browser, model, tmp_path, "network.probabilities(x)", x))
    assert np.abs(found - model.predict(x)).max() < 1e-3
    assert np.ptp(model.predict(x), axis=0).max() > 0.01


def in_its_own_scale(model, x, label):
    """What the report would show of each image alone: its evidence as a fraction of the largest."""
    evidence = explain(model.network, x, np.full(len(x), label))
    return evidence / np.maximum(evidence.max(axis=(1, 2), keepdims=True), 1e-30)


@pytest.mark.parametrize("stack", STACKS)
def test_it_looks_where_the_report_looks(browser, tmp_path, stack):
    model, x = made(STACKS[stack]()), pictures()
    expected = in_its_own_scale(model, x, 2)
    maps = asked(browser, model, tmp_path, "(m => [m.rows, m.columns, ...m.values])(network.explain(x, 2))", x)
    for (rows, columns, *values), one in zip(maps, expected, strict=True):
        assert (rows, columns) == one.shape
        assert np.abs(np.reshape(values, one.shape) - one).max() < 0.02


@pytest.mark.parametrize("stack", STACKS)
def test_its_gradients_reach_the_image(browser, tmp_path, stack):
    """Two branches that meet as features are explained by the gradient of the image."""
    layer = STACKS[stack]()
    for pooled in ([], [layers.GlobalAveragePool2D()]):
        try:
            model = made([Block(layers.Concatenate(), [*layer, *pooled], [Conv2D(2, 3), layers.GlobalAveragePool2D()])])
            break
        except ValueError:  # maps, which are not concatenated with features
            layer = STACKS[stack]()
    assert explained(model.network) == INPUT
    x = pictures()
    expected = in_its_own_scale(model, x, 1)
    maps = np.array(asked(browser, model, tmp_path, "[...network.explain(x, 1).values]", x))
    assert np.abs(maps.reshape(expected.shape) - expected).max() < 0.005


@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize(
    ("end", "loss"),
    [
        ([Flatten, lambda: Dense(1, activation="sigmoid")], "binary_cross_entropy"),
        ([Flatten, lambda: Dense(1, activation="sigmoid")], "mse"),
        ([Flatten, lambda: Dense(3, activation="sigmoid")], "binary_cross_entropy"),
        ([Flatten, lambda: Dense(3, activation="sigmoid")], "mse"),
        ([Flatten, lambda: Dense(3, activation="softmax")], "mse"),
        ([Flatten, lambda: Dense(3, activation="hard_sigmoid")], "mse"),
        ([Flatten, lambda: Dense(3), layers.Softmax], "cross_entropy"),
    ],
)
def test_every_end_is_calibrated_as_in_predict(browser, tmp_path, end, loss, temperature):
    model, x = made([Conv2D(4, 3)], end, temperature, loss), pictures()
    expected = model.predict(x)
    expected = np.concatenate((1 - expected, expected), axis=1) if expected.shape[1] == 1 else expected
    found = np.array(asked(browser, model, tmp_path, "network.probabilities(x)", x))
    assert np.abs(found - expected).max() < 1e-3


def test_a_class_of_two_is_explained_by_its_own_gradient(browser, tmp_path):
    model, x = made([Conv2D(4, 3), layers.ReLU()], [Flatten, lambda: Dense(1, activation="sigmoid")]), pictures(2)
    for label in (0, 1):
        maps = asked(browser, model, tmp_path, f"[...network.explain(x, {label}).values]", x)
        assert np.abs(np.array(maps) - in_its_own_scale(model, x, label).reshape(2, -1)).max() < 0.02
