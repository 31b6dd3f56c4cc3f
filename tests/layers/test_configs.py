"""Layers to plain values and back: what a model file stores of them."""

import json

import numpy as np
import pytest

from xpcnn import initializers, layers
from xpcnn.layers import Layer
from xpcnn.layers.configs import from_plain, kinds, to_plain

EXAMPLES = [
    layers.Conv2D(6, (3, 5), 2, (1, 2), "edge", (1, 2), 3, "relu", False, "glorot_uniform", name="first"),
    layers.Conv2D(4, 3, padding="same", kernel_initializer=initializers.Constant(0.5)),
    layers.Dense(3, layers.LeakyReLU(0.3), bias_initializer="ones"),
    layers.MaxPool2D((2, 3), padding=1),
    layers.MinPool2D(3, 2),
    layers.AveragePool2D(2, padding="same"),
    layers.GlobalAveragePool2D(),
    layers.GlobalMaxPool2D(),
    layers.Upsample2D((1, 2)),
    layers.BatchNorm(0.2, 1e-3),
    layers.Dropout(0.25),
    layers.Flatten(),
    layers.Reshape((4, -1)),
    layers.Activation("tanh"),
    layers.ReLU(),
    layers.LeakyReLU(0.2),
    layers.Sigmoid(),
    layers.Softmax(),
    layers.Tanh(name="last"),
    layers.Residual([layers.Conv2D(2, 3, padding="same"), layers.Residual([layers.BatchNorm()]), layers.ReLU()]),
    layers.Residual([layers.Conv2D(4, 3, 2, 1)], [layers.Conv2D(4, 1, 2), layers.BatchNorm()], layers.LeakyReLU(0.1)),
    layers.Branches([[layers.Conv2D(2, 1, activation="silu")], [layers.MaxPool2D(3, 1, 1), layers.ReLU6()]]),
    layers.SqueezeExcitation([layers.Conv2D(1, 1, activation="relu"), layers.Conv2D(2, 1, activation="hard_sigmoid")]),
    layers.AdaptiveAveragePool2D((1, 2)),
    *(layers.ReLU6(), layers.ELU(), layers.GELU(), layers.SiLU(), layers.HardSwish(), layers.HardSigmoid()),
    layers.Branches([[layers.Flatten(), layers.Dense(2)], [layers.Flatten(), layers.Dense(2)]], "average"),
    layers.Add(),
    layers.Average(),
    layers.Multiply(),
    layers.Concatenate(),
]


class Shift(Layer):
    """A layer of one's own with an argument."""

    def __init__(self, by, *, name=None, xp=None):
        super().__init__(name=name, xp=xp)
        self.by = by


def through_json(layer, **custom_layers):
    return from_plain(json.loads(json.dumps(to_plain(layer))), kinds(custom_layers))


@pytest.mark.parametrize("layer", EXAMPLES, ids=lambda layer: layer.kind())
def test_a_layer_comes_back_with_all_its_arguments(layer):
    loaded = through_json(layer)
    assert type(loaded) is type(layer)
    assert loaded is not layer
    assert repr(loaded) == repr(layer)
    assert loaded.name == layer.name
    assert to_plain(loaded) == to_plain(layer)


def test_every_kind_of_layer_has_an_example():
    assert {layer.kind() for layer in EXAMPLES} == kinds().keys()


def test_frozen_layers_come_back_frozen_alone():
    inner, outer = layers.Dense(2), layers.Dense(2)
    block = layers.Residual([inner, outer])
    inner.trainable = False
    loaded = through_json(block)
    assert [loaded.trainable, *(layer.trainable for layer in loaded.layers)] == [True, False, True]


def test_sizes_and_rates_computed_with_numpy_are_saved():
    for layer in (
        layers.Conv2D(np.int64(2), 3, padding=np.int64(1)),
        layers.MaxPool2D(np.int64(2), padding=np.int64(1)),
        layers.Dropout(np.float32(0.5)),
        layers.LeakyReLU(np.float64(0.1)),
        layers.BatchNorm(np.float64(0.1)),
        layers.Reshape((np.int64(4),)),
    ):
        assert to_plain(through_json(layer)) == to_plain(layer)


def test_layers_of_ones_own_are_found_by_kind_and_by_the_name_given():
    assert through_json(Shift(3), Shift=Shift).by == 3
    assert through_json(Shift([1.5, None, "x"]), anything=Shift).by == [1.5, None, "x"]
    assert from_plain({"layer": "anything", "by": 1}, kinds({"anything": Shift})).by == 1


def test_a_layer_of_ones_own_may_hold_layers():
    loaded = through_json(Shift({"paths": [layers.Dense(2), 3]}), Shift=Shift)
    assert repr(loaded.by) == repr({"paths": [layers.Dense(2), 3]})


def test_numpys_numbers_and_arrays_are_saved_as_plain_ones():
    loaded = through_json(Shift([np.float32(0.5), np.arange(3)]), Shift=Shift)
    assert loaded.by == [0.5, [0, 1, 2]]


@pytest.mark.parametrize("custom_layers", [[Shift], {"Shift": "shift"}, {"Shift": Shift(1)}, {"Shift": int}, "Shift"])
def test_custom_layers_are_classes_by_name(custom_layers):
    with pytest.raises(TypeError, match=r"custom_layers must map names to layer classes.* Received: "):
        kinds(custom_layers)


@pytest.mark.parametrize("value", [object(), {1, 2}, 1j, b"bytes"])
def test_an_argument_that_json_cannot_hold_is_refused(value):
    with pytest.raises(TypeError, match=r"A layer's argument cannot be saved: .* Use numbers, text, lists or layers"):
        to_plain(Shift(value))


@pytest.mark.parametrize(
    ("plain", "message"),
    [
        ({"layer": "conv3d"}, "no layer of kind 'conv3d'. Use one of: activation, .*upsample2d; .*custom_layers"),
        ({"layer": "dense", "units": 3, "bias": True}, "'dense' takes activation, .*, use_bias. Received: bias"),
        ({"layer": "dense", "units": 3, "xp": "numpy"}, "Received: xp"),
        ({"layer": "dense"}, r"'dense' cannot be made from \{\}"),
        ({"layer": "dense", "units": "3"}, "units must be a whole number, at least 1. Received: '3'"),
        ({"layer": "residual", "layers": [{"layer": "conv3d"}]}, "no layer of kind 'conv3d'"),
    ],
)
def test_what_no_layer_can_be_made_of_is_refused(plain, message):
    with pytest.raises(ValueError, match=message):
        from_plain(plain, kinds())
