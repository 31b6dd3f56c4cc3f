"""What all layers have in common, and what a custom layer needs."""

import numpy as np
import pytest

import xpcnn
from tests import strict
from tests.passes import check_dtypes, check_gradients, distinct
from xpcnn import backend, initializers, layers
from xpcnn.layers import Layer


class Scale(Layer):
    """The example in the docstring of Layer."""

    def build(self, input_shape):
        self.declare("weight", (input_shape[0],), initializers.Ones())
        return input_shape

    def forward(self, params, x, context):
        weight = params["weight"][:, None, None]

        def backward(dy, gradients):
            gradients["weight"][...] = (dy * x).sum(axis=(0, 2, 3))
            return dy * weight

        return x * weight, backward


def test_a_layer_of_ones_own_needs_build_and_forward(xp):
    check_gradients(Scale(), xp, distinct(2, 3, 2, 2))
    check_dtypes(Scale(), xp, (3, 2, 2))
    assert Scale.kind() == "scale"


def test_without_build_the_shape_stays_and_nothing_is_declared():
    layer = Layer()
    assert layer.connect((3, 4)) == layer.input_shape == layer.output_shape == (3, 4)
    assert layer.declarations == layer.buffers == ()
    with pytest.raises(NotImplementedError, match="Layer has no forward"):
        layer.forward({}, None, None)


@pytest.mark.parametrize(
    ("cls", "kind"),
    [
        (layers.Conv2D, "conv2d"),
        (layers.MaxPool2D, "max_pool2d"),
        (layers.GlobalAveragePool2D, "global_average_pool2d"),
        (layers.BatchNorm, "batch_norm"),
        (layers.LeakyReLU, "leaky_relu"),
        (layers.ReLU, "relu"),
    ],
)
def test_the_kind_is_the_class_in_snake_case(cls, kind):
    assert cls.kind() == kind


def test_connecting_again_declares_afresh():
    layer = layers.Dense(3)
    layer.connect((4,))
    layer.connect((7,))
    assert [(d.full_name, d.shape) for d in layer.declarations] == [("dense.weight", (3, 7)), ("dense.bias", (3,))]
    assert (layer.input_shape, layer.output_shape) == ((7,), (3,))


def test_arrays_are_declared_under_the_layers_name():
    layer = layers.BatchNorm(name="first")
    layer.connect((4,))
    assert [d.full_name for d in layer.declarations] == ["first.weight", "first.bias"]
    assert [d.full_name for d in layer.buffers] == ["first.running_mean", "first.running_var"]


def test_the_array_module_is_the_one_given_or_the_environments(monkeypatch):
    monkeypatch.setenv(backend.ENVIRONMENT_VARIABLE, "numpy")
    assert layers.Dense(1).xp is layers.Dense(1, xp="numpy").xp is np
    assert layers.Dense(1, xp=strict.xp).xp is strict.xp
    layer = layers.Dense(1, xp="numpy")
    layer.xp = strict.xp
    assert layer.xp is strict.xp
    monkeypatch.setenv(backend.ENVIRONMENT_VARIABLE, "torch")
    with pytest.raises(backend.BackendError, match="no backend 'torch'"):
        layers.Dense(1).xp  # noqa: B018


def test_the_module_of_the_environment_is_looked_up_when_it_is_needed(monkeypatch):
    monkeypatch.setenv(backend.ENVIRONMENT_VARIABLE, "torch")
    layer = layers.Conv2D(1, 3)
    assert layer.connect((1, 5, 5)) == (1, 3, 3)
    monkeypatch.setenv(backend.ENVIRONMENT_VARIABLE, "numpy")
    assert layer.xp is np


def test_config_holds_the_arguments_and_repr_those_that_are_not_the_defaults():
    layer = layers.MaxPool2D(2, padding="same", name="pool")
    assert layer.config() == {"pool_size": (2, 2), "strides": (2, 2), "padding": "same", "name": "pool"}
    assert repr(layer) == "MaxPool2D(strides=(2, 2), padding='same')"
    assert repr(layers.Conv2D(4, 3, (1, 2), kernel_initializer="zeros")) == (
        "Conv2D(filters=4, kernel_size=(3, 3), strides=(1, 2), kernel_initializer=Zeros())"
    )
    assert repr(layers.Residual([layers.ReLU()])) == "Residual(layers=(ReLU(),))"


@pytest.mark.parametrize(
    ("layer", "name", "value"),
    [
        (layers.Residual([layers.ReLU()]), "layers", [layers.Tanh()]),
        (layers.Residual([layers.ReLU()]), "shortcut", [layers.Tanh()]),
        (layers.Residual([layers.ReLU()]), "activation", "tanh"),
        (layers.Conv2D(2, 1), "activation", "tanh"),
        (layers.Dense(2), "activation", "tanh"),
        (layers.Activation("relu"), "activation", "tanh"),
        (layers.ReLU(), "activation", "tanh"),
    ],
)
def test_what_a_layer_is_made_of_is_chosen_once(layer, name, value):
    before = layer.config()
    with pytest.raises(AttributeError, match=f"{name} is chosen when the layer is made"):
        setattr(layer, name, value)
    assert layer.config() == before


@pytest.mark.parametrize(
    ("layer", "name", "value"),
    [
        (layers.Conv2D(2, 1), "filters", 3),
        (layers.Conv2D(2, 1), "strides", (2, 2)),
        (layers.Dense(2), "units", 3),
        (layers.MaxPool2D(2), "pool_size", (1, 1)),
        (layers.AdaptiveAveragePool2D(2), "output_size", (1, 1)),
        (layers.Upsample2D(2), "size", (1, 1)),
        (layers.Reshape((1, 4, 4)), "shape", (4, 4)),
        (layers.ReLU(), "name", "mine"),
    ],
)
def test_what_shapes_a_model_stays_as_it_is_once_the_model_is_built(layer, name, value):
    setattr(layer, name, getattr(layer, name))  # before, it may be set
    stack = [layers.Flatten(), layer] if isinstance(layer, layers.Dense) else [layer]
    model = xpcnn.Sequential(stack, input_shape=(1, 4, 4))
    before = layer.config()
    with pytest.raises(AttributeError, match=f"{name} can't be changed once the layer is in a built model"):
        setattr(layer, name, value)
    assert layer.config() == before
    assert model.add(layers.Activation("relu")) is None  # builds again


def test_a_layer_may_shape_itself_when_it_is_built_and_built_again():
    class Whole(layers.MaxPool2D):
        def build(self, input_shape):
            self.pool_size = self.strides = input_shape[1:]
            return super().build(input_shape)

    model = xpcnn.Sequential([Whole(2), layers.Flatten()], input_shape=(1, 8, 8))
    model.add(layers.Dense(2))
    model.build()
    assert model.predict(np.zeros((1, 1, 8, 8))).shape == (1, 2)


def test_what_a_step_reads_may_be_changed_in_a_model():
    layer = layers.Dropout(0.5)
    model = xpcnn.Sequential([layer], input_shape=(1, 4, 4))
    model.layers[0].rate = 0.2
    assert layer.rate == 0.2


def test_the_layers_inside_a_block_are_a_tuple():
    block = layers.Residual([layers.ReLU()], [layers.Tanh()])
    assert [type(layer).__name__ for layer in (*block.layers, *block.shortcut)] == ["ReLU", "Tanh"]
    with pytest.raises(AttributeError):
        block.layers.append(layers.ReLU())


def test_every_layer_is_documented_and_exported():
    exported = [getattr(layers, name) for name in layers.__all__]
    assert {cls for cls in _subclasses(Layer) if cls.__module__.startswith("xpcnn.layers.")} - set(exported) == {
        layers.MaxPool2D.__base__,
        layers.Add.__base__,
    }
    assert all(cls.__doc__ for cls in exported)


def _subclasses(cls):
    return {cls_ for one in cls.__subclasses__() for cls_ in {one, *_subclasses(one)}}


def test_a_layer_of_ones_own_may_call_its_arguments_as_it_likes():
    class Own(layers.Layer):
        def __init__(self, changes, *, name=None, xp=None):
            super().__init__(name=name, xp=xp)
            self.changes = changes

    assert Own((1, 2)).config()["changes"] == (1, 2)
