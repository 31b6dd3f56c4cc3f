"""ONNX files are valid, and onnxruntime gives the model's predictions."""

import errno
import json
import os
import re
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st

import xpcnn
from tests.models import Block
from xpcnn import layers
from xpcnn.cli import main
from xpcnn.data import Decoding, Preprocessing, load_digits
from xpcnn.extras import install_line
from xpcnn.formats import onnx as onnx_format
from xpcnn.formats.onnx_layers import LAYERS
from xpcnn.ops import activations

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

ACTIVATIONS = [*activations.ACTIVATIONS]


def runtime(path):
    """Check a file and open it in onnxruntime."""
    onnx.checker.check_model(str(path), full_check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def answers(session, x):
    """Return what onnxruntime gives for images."""
    (y,) = session.run(["probabilities"], {"images": x.astype(np.float32)})
    assert y.dtype == np.float32
    return y


def normalized(model, x):
    return x if model.preprocessing is None else model.preprocessing.normalize(x)


def compare(model, path, x, tolerance=1e-5):
    """Export a model, and compare its answers for one image and for all; values above 1 relatively."""
    onnx_format.export(model, path)
    session = runtime(path)
    expected = model.predict(normalized(model, x))
    assert np.isfinite(expected).all()
    scale = max(1.0, np.abs(expected).max())
    for rows in (slice(0, 1), slice(None)):
        y = answers(session, x[rows])
        assert y.shape == expected[rows].shape
        np.testing.assert_allclose(y / scale, expected[rows] / scale, rtol=0, atol=tolerance)
    return session


def filled(model, seed):
    """Give a model biases, scales and running statistics as if it had been trained."""
    rng = np.random.default_rng(seed)
    weights = model.get_weights()
    for name, value in weights.items():
        if name.endswith("running_var") or (value == 1).all():
            weights[name] = rng.uniform(0.5, 2, value.shape)
        elif value.ndim == 1:
            weights[name] = rng.normal(0, 0.3, value.shape)
    model.set_weights(weights)
    return model


def made(stack, shape=(2, 7, 6), seed=0, **attributes):
    """A model of these layers with weights of all kinds; attributes: temperature, class_names, preprocessing."""
    model = filled(xpcnn.Sequential(stack, shape, np, seed), seed)
    for name, value in attributes.items():
        setattr(model, name, value)
    return model


def classifier(outputs=4, activation="softmax", **attributes):
    """A small model that ends in probabilities."""
    return made([layers.Flatten(), layers.Dense(outputs, activation)], **attributes)


def images(shape=(2, 7, 6), n=3, seed=100):
    """Images that no weight of a model made above was drawn like."""
    return np.random.default_rng(seed).normal(0, 1, (n, *shape)).astype(np.float32)


# Random networks

sizes = st.integers(1, 3) | st.tuples(st.integers(1, 3), st.integers(1, 3))
paddings = st.sampled_from(["valid", "same"]) | st.integers(0, 2) | st.tuples(st.integers(0, 2), st.integers(0, 2))


@st.composite
def convolutions(draw, channels):
    groups = draw(st.sampled_from([n for n in range(1, channels + 1) if channels % n == 0]))
    return layers.Conv2D(
        groups * draw(st.integers(1, 3)),
        draw(sizes),
        draw(sizes),
        draw(paddings),
        draw(st.sampled_from(["zeros", "edge"])),
        draw(sizes),
        groups,
        draw(st.sampled_from([None, *ACTIVATIONS]) | st.builds(layers.LeakyReLU, st.floats(-0.5, 1.5))),
        draw(st.booleans()),
    )


@st.composite
def pools(draw):
    kind = draw(st.sampled_from([layers.MaxPool2D, layers.MinPool2D, layers.AveragePool2D]))
    size = draw(sizes)
    least = min(size if isinstance(size, tuple) else (size, size))
    padding = draw(st.sampled_from(["valid", "same"]) | st.integers(0, least - 1))
    return kind(size, draw(st.none() | sizes), padding)


def anywhere():
    """Layers that take any shape and keep it."""
    simple = [layers.ReLU, layers.Sigmoid, layers.Tanh, layers.Softmax, layers.LeakyReLU]
    return (
        st.sampled_from(simple).map(lambda kind: kind())
        | st.sampled_from(ACTIVATIONS).map(layers.Activation)
        | st.floats(0, 0.9).map(layers.Dropout)
    )


def normalizations():
    return st.floats(1e-6, 0.1).map(lambda epsilon: layers.BatchNorm(epsilon=epsilon))


@st.composite
def residuals(draw, shape, depth):
    """A stack that keeps the shape, perhaps with another inside."""
    inner = normalizations() | anywhere()
    if len(shape) == 3:
        mode = draw(st.sampled_from(["zeros", "edge"]))
        inner |= st.just(0).map(lambda _: layers.Conv2D(shape[0], 3, padding="same", padding_mode=mode))
        inner |= st.just(0).map(lambda _: layers.MaxPool2D(2, 1, "same"))
    else:
        inner |= st.just(0).map(lambda _: layers.Dense(shape[0]))
    if depth:
        inner |= st.deferred(lambda: residuals(shape, depth - 1))
    return layers.Residual(draw(st.lists(inner, min_size=1, max_size=3)))


def following(shape):
    """Layers that may follow an output of this shape; some do not fit, and are left out."""
    choices = anywhere() | st.just(0).map(lambda _: layers.Reshape((*shape[1:], shape[0])))
    if len(shape) in (1, 3):
        choices |= normalizations() | residuals(shape, 1)
    if len(shape) == 1:
        choices |= st.builds(layers.Dense, st.integers(1, 6), st.sampled_from(ACTIVATIONS), st.booleans())
    if len(shape) == 3:
        spatial = convolutions(shape[0]) | pools() | sizes.map(layers.Upsample2D)
        choices |= spatial | spatial  # twice as likely as others
        choices |= st.sampled_from([layers.GlobalAveragePool2D, layers.GlobalMaxPool2D]).map(lambda kind: kind())
    if len(shape) > 1:
        choices |= st.just(0).map(lambda _: layers.Flatten())
    return choices


@st.composite
def stacks(draw):
    """A random stack that fits its input shape, ending in classes, one class, or in whatever it ends."""
    shape = input_shape = draw(st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9)))
    stack = []
    for _ in range(draw(st.integers(0, 6))):
        layer = draw(following(shape))
        try:
            shape = layer.connect(shape)
        except ValueError:
            continue
        stack.append(layer)
    end = draw(st.sampled_from(["classes", "one", "several", "none"]))
    if end != "none" or not stack:
        units, activation = {"one": (1, "sigmoid"), "several": (3, "sigmoid")}.get(end, (4, "softmax"))
        stack += [layers.Flatten(), layers.Dense(units, activation)]
    return stack, input_shape


@st.composite
def preprocessings(draw, shape):
    if shape[0] not in (1, 3) or draw(st.booleans()):
        return None
    numbers = st.lists(st.floats(20, 200, width=32), min_size=shape[0], max_size=shape[0]).map(tuple)
    decoding = Decoding(shape[1], shape[2], shape[0])
    return Preprocessing(decoding, draw(numbers), draw(numbers), draw(st.booleans()))


def temperatures(stack):
    """Temperatures of a stack that ends in several probabilities, and 1 for others: of one that rounds to 1, the model
    has no logit left to divide."""
    several = isinstance(stack[-1], layers.Dense) and stack[-1].activation in ("softmax", "sigmoid")
    return st.just(1.0) | st.floats(0.3, 5) if several and stack[-1].units > 1 else st.just(1.0)


def test_random_networks_give_their_answers_in_onnxruntime(tally, cases, seed, tmp_path):
    @seeded(seed)
    @settings(max_examples=cases(60), database=None)
    @given(st.data())
    def equal(data):
        stack, shape = data.draw(stacks())
        number = data.draw(st.integers(0, 2**20))
        preprocessing, temperature = data.draw(preprocessings(shape)), data.draw(temperatures(stack))
        model = made(stack, shape, number, preprocessing=preprocessing, temperature=temperature)
        x = images(shape, data.draw(st.integers(1, 4)), number + 1)
        x = x if model.preprocessing is None else np.clip(128 + 70 * x, 0, 255).astype(np.uint8)
        compare(model, tmp_path / "model.onnx", x)
        with tally.case("onnxruntime"):
            pass

    equal()


# Each layer


def conv(*arguments, **options):
    return [layers.Conv2D(*arguments, **options)]


SINGLE = {
    "strides": conv(3, 3, (2, 1)),
    "same, an odd row at the end": conv(3, (2, 4), padding="same"),
    "same with strides": conv(3, 3, 2, "same"),
    "a number of rows": conv(3, 3, padding=2),
    "more rows than the kernel has": conv(3, 1, padding=(3, 0)),
    "the edge repeated": conv(3, 3, padding=(2, 1), padding_mode="edge"),
    "the edge repeated beyond the image": conv(3, 3, padding=9, padding_mode="edge"),
    "the edge without padding": conv(3, 3, padding_mode="edge"),
    "dilation": conv(3, 2, padding="same", dilation=(3, 2)),
    "groups": conv(6, 3, groups=2),
    "without bias": conv(3, 3, use_bias=False),
    "largest": [layers.MaxPool2D(3, 2, "same")],
    "largest of negative numbers at the border": [layers.Sigmoid(), *conv(3, 1), layers.MaxPool2D(2, 1, 1)],
    "smallest": [layers.MinPool2D((2, 3), 1, 1)],
    "average without its border": [layers.AveragePool2D(3, 2, "same")],
    "average, padded on two sides": [layers.AveragePool2D(3, 1, (2, 1))],
    "ragged edge": [layers.AveragePool2D(4), layers.MaxPool2D((1, 1), 2)],
    "global average": [layers.GlobalAveragePool2D()],
    "global largest": [layers.GlobalMaxPool2D()],
    "repeated cells": [layers.Upsample2D((3, 2))],
    "normalised images": [layers.BatchNorm(epsilon=0.1)],
    "normalised features": [layers.Flatten(), layers.BatchNorm()],
    "dropout alone": [layers.Dropout(0.5)],
    "linear alone": [layers.Activation("linear")],
    "residual": [layers.Residual([*conv(2, 3, padding="same"), layers.Dropout(0.5)])],
    "residual of nothing": [layers.Residual([layers.Dropout(0.5)])],
    "residual in residual": [
        layers.Residual([layers.Tanh(), layers.Residual([layers.Softmax()]), layers.LeakyReLU(0.2)]),
    ],
    "projected residual": [
        layers.Residual([*conv(4, 3, 2, 1), layers.BatchNorm()], [*conv(4, 1, 2), layers.Tanh()], "relu"),
    ],
    "three branches added": [Block(layers.Add(), conv(4, 1), [layers.Tanh(), *conv(4, 1)], conv(4, 3, padding=1))],
    "a branch multiplied": [Block(layers.Multiply(), [layers.Tanh()], conv(2, 1))],
    "gated channels": [
        Block(layers.Multiply(), [], [layers.GlobalAveragePool2D(), layers.Dense(2, activation="sigmoid")]),
    ],
    "concatenated": [Block(layers.Concatenate(), conv(3, 1), [], [layers.Tanh()])],
    "leaky": [layers.LeakyReLU(0.3), layers.Activation("leaky_relu")],
    "slope below 0": [layers.LeakyReLU(-2)],
    "other shapes": [layers.Reshape((6, -1)), layers.Softmax(), layers.Flatten(), layers.Reshape((7, 3, 4))],
    "dense": [layers.Flatten(), layers.Dense(3), layers.Dense(5, layers.LeakyReLU(0.4), use_bias=False)],
    **{name: [layers.Activation(name)] for name in ACTIVATIONS},
    **{
        kind.__name__: [kind()]
        for kind in LAYERS
        if issubclass(kind, layers.Activation) and kind is not layers.Activation
    },
    "branches": [layers.Branches([conv(3, 1), [layers.MaxPool2D(3, 1, "same"), *conv(1, 1)]])],
    "averaged branches": [layers.Branches([conv(3, 1), [layers.Tanh(), *conv(3, 1)]], merge="average")],
    "squeezed": [layers.SqueezeExcitation([*conv(1, 1, activation="silu"), *conv(2, 1, activation="hard_sigmoid")])],
    "averaged to any size": [layers.AdaptiveAveragePool2D((2, 3))],
    "averaged to one": [layers.AdaptiveAveragePool2D(1)],
}


@pytest.mark.parametrize("stack", SINGLE.values(), ids=SINGLE)
def test_each_layer_gives_its_output(tally, tmp_path, stack):
    with tally.case("onnxruntime"):
        compare(made(stack), tmp_path / "model.onnx", 2 * images())


def test_every_kind_of_layer_has_a_form():
    kinds = {getattr(layers, name) for name in layers.__all__ if isinstance(getattr(layers, name), type)}
    kinds = {kind for kind in kinds if issubclass(kind, layers.Layer)}
    assert kinds - {layers.Layer, layers.Branches, layers.Residual, layers.SqueezeExcitation} - LAYERS.keys() == set()


class Doubled(layers.Layer):
    def forward(self, params, x, context):
        return 2 * x, lambda dy, gradients: 2 * dy


class Wider(layers.Dense):
    pass


@pytest.mark.parametrize(
    ("stack", "named"),
    [
        ([Doubled()], "'doubled_1' of the class Doubled"),
        ([layers.Residual([layers.Residual([Doubled(name="mine")])])], "'mine' of the class Doubled"),
        ([layers.Conv2D(2, 1, activation=Doubled())], "'doubled_1' of the class Doubled"),
        ([layers.Flatten(), Wider(2)], "'wider_1' of the class Wider"),
    ],
)
def test_a_layer_of_ones_own_is_refused_by_name_and_nothing_is_written(tmp_path, stack, named):
    with pytest.raises(ValueError, match=f"The layer {named} is a custom layer, .* Use layers of xpcnn.layers"):
        onnx_format.export(made(stack), tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_model_on_any_backend_is_written(xp, tmp_path):
    model = made([layers.Conv2D(3, 3), layers.BatchNorm(), layers.ReLU(), layers.Flatten(), layers.Dense(2)])
    x = images()
    expected = model.predict(x)
    onnx_format.export(model.to(xp), tmp_path / "model.onnx")
    np.testing.assert_allclose(answers(runtime(tmp_path / "model.onnx"), x), expected, rtol=0, atol=1e-5)


# Preprocessing

COLOUR = Preprocessing(Decoding(7, 6, 3), (120.5, 90.0, 30.25), (50.5, 60.0, 1.5))
GREY = Preprocessing(Decoding(7, 6, 1), (17.0,), (33.0,))


def test_values_of_more_than_8_bits_are_mapped_in_the_graph(tmp_path):
    decoding = Decoding(7, 6, 2, as_channels=True, range=((0, 4095), (-0.5, 2.5)))
    preprocessing = Preprocessing(decoding, (120.0, 90.0), (40.0, 60.0))
    model = classifier(shape=(2, 7, 6), preprocessing=preprocessing)
    onnx_format.export(model, tmp_path / "model.onnx")
    rng = np.random.default_rng(0)
    pixels = [
        np.dstack([rng.uniform(-9, 5000, (7, 6)), rng.uniform(-1, 3, (7, 6))]).astype(np.float32) for _ in range(5)
    ]
    x = np.stack([image.transpose(2, 0, 1) for image in pixels])
    y = answers(runtime(tmp_path / "model.onnx"), x)
    model.class_names = None
    np.testing.assert_allclose(y, model.predict_images(pixels).probabilities, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("preprocessing", [COLOUR, GREY], ids=["colour", "grey"])
def test_pixels_are_normalised_in_the_graph(tmp_path, preprocessing):
    shape = (preprocessing.decoding.channels, 7, 6)
    model = classifier(shape=shape, preprocessing=preprocessing)
    pixels = np.random.default_rng(0).integers(0, 256, (5, *shape), dtype=np.uint8)
    compare(model, tmp_path / "model.onnx", pixels)
    assert np.ptp(model.predict(preprocessing.normalize(pixels)), axis=0).max() > 0.1


@pytest.mark.parametrize("side", [7, 300])
def test_each_image_is_standardised_in_the_graph_and_a_constant_one_gives_zeros(tmp_path, side):
    shape = (3, side, side)
    preprocessing = Preprocessing(Decoding(side, side, 3), (0.0,) * 3, (1.0,) * 3, per_image=True)
    model = made([layers.Activation("linear")], shape, preprocessing=preprocessing)
    pixels = np.random.default_rng(0).integers(0, 256, (6, *shape)).astype(np.float32)
    pixels[1] = 101
    pixels[2] = 0
    pixels[3] = 250
    pixels[3, 0, 0, 0] = 251
    pixels[4] = 100 + pixels[4] / 1000
    session = compare(model, tmp_path / "model.onnx", pixels)
    y = answers(session, pixels)
    assert (y[1:3] == 0).all()
    assert y[0].std() == pytest.approx(1, rel=1e-4)
    assert y[3].max() > 10


def test_a_model_without_preprocessing_takes_images_as_it_was_trained_with(tmp_path):
    session = compare(classifier(), tmp_path / "model.onnx", images())
    assert "images" not in session.get_modelmeta().custom_metadata_map


# Calibrated probabilities


@pytest.mark.parametrize(
    "stack",
    [
        [layers.Flatten(), layers.Dense(4, "softmax")],
        [layers.Flatten(), layers.Dense(1, "sigmoid")],
        [layers.Flatten(), layers.Dense(3, "sigmoid")],
        [layers.Flatten(), layers.Dense(1, "softmax")],
        [layers.Flatten(), layers.Dense(1), layers.Sigmoid(), layers.Dropout(0.1)],
        [layers.Flatten(), layers.Dense(4), layers.Softmax(), layers.Reshape((4,))],
        [layers.Softmax()],
        [layers.Conv2D(1, 3, activation="sigmoid")],
    ],
    ids=["classes", "one", "several", "one of one", "one, dropped", "classes, reshaped", "images", "one in images"],
)
def test_probabilities_are_calibrated(tmp_path, stack):
    model, x = made(stack), images()
    first = model.predict(x)
    for model.temperature in (0.3, 1.7, 20.0):
        compare(model, tmp_path / "model.onnx", x)
    assert np.abs(model.predict(x) - first).max() > 1e-3


def test_probabilities_of_0_are_softened_as_by_the_model(tmp_path):
    model = made([layers.Flatten(), layers.Dense(4), layers.Softmax(), layers.Dropout(0.1)], temperature=9.0)
    x = 100 * images()
    assert (model.predict(x) > 1e-6).all()
    compare(model, tmp_path / "model.onnx", x)


def test_probabilities_near_0_of_several_outputs_keep_their_digits(tmp_path):
    model = made([layers.Flatten(), layers.Dense(3, "sigmoid")], (1, 1, 1), temperature=2.0)
    model.set_weights({"dense_1.weight": [[-19.0], [-1.0], [-300.0]], "dense_1.bias": [0.0] * 3})
    for model.temperature in (2.0, 20.0):
        compare(model, tmp_path / "model.onnx", np.array([1.0, -0.5, 0.3]).reshape(-1, 1, 1, 1))


def test_a_logit_is_divided_itself_where_its_probability_has_no_digits_left(tmp_path):
    model = made([layers.Flatten(), layers.Dense(1, "sigmoid")], (1, 1, 1), temperature=4.0)
    model.set_weights({"dense_1.weight": [[1.0]], "dense_1.bias": [0.0]})
    onnx_format.export(model, tmp_path / "model.onnx")
    x = np.array([-30.0, -17, 17, 30]).reshape(-1, 1, 1, 1)
    expected = 1 / (1 + np.exp(-x.reshape(-1, 1) / 4))
    np.testing.assert_allclose(answers(runtime(tmp_path / "model.onnx"), x), expected, rtol=0, atol=1e-6)


# What the file says


def test_the_metadata_say_how_images_are_made_and_what_the_classes_are(tmp_path):
    names = ("blue, round", 'a "b"', "細胞", "\udcff")
    model = classifier(shape=(3, 7, 6), preprocessing=COLOUR, class_names=names)
    onnx_format.export(model, tmp_path / "model.onnx")
    session = runtime(tmp_path / "model.onnx")
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["class_names"]) == list(names)
    assert json.loads(metadata["images"]) == {
        **COLOUR.decoding.to_json(), "colours": "RGB", "values": [0, 255],
        "shrinking": "area", "enlarging": "linear", "normalization": "in the graph",
    }  # fmt: skip
    assert session.get_modelmeta().producer_name == "xpcnn"


def test_grey_images_and_two_classes_of_one_output_are_told(tmp_path):
    model = classifier(1, "sigmoid", shape=(1, 7, 6), preprocessing=GREY, class_names=("no", "yes"))
    session = compare(model, tmp_path / "model.onnx", 100 + 30 * images((1, 7, 6)))
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["class_names"]) == ["no", "yes"]
    assert json.loads(metadata["images"])["colours"] == "grey"
    graph = onnx.load(tmp_path / "model.onnx").graph
    assert "probability of the second" in graph.output[0].doc_string
    assert "grey, values from 0 to 255" in graph.input[0].doc_string


def test_input_and_output_are_float32_with_any_number_of_images(tmp_path):
    onnx_format.export(classifier(preprocessing=None), tmp_path / "model.onnx")
    session = runtime(tmp_path / "model.onnx")
    (x,), (y,) = session.get_inputs(), session.get_outputs()
    assert (x.name, x.type, x.shape) == ("images", "tensor(float)", ["batch", 2, 7, 6])
    assert (y.name, y.type, y.shape) == ("probabilities", "tensor(float)", ["batch", 4])
    for n in (0, 1, 100):
        assert answers(session, np.zeros((n, 2, 7, 6))).shape == (n, 4)


@pytest.mark.parametrize("per_image", [False, True])
def test_nothing_is_of_float64_and_operators_are_of_opset_17(tmp_path, per_image):
    preprocessing = Preprocessing(Decoding(7, 6, 1), (17.0,), (33.0,), per_image)
    model = classifier(shape=(1, 7, 6), preprocessing=preprocessing, temperature=2.0)
    onnx_format.export(model, tmp_path / "model.onnx")
    made_of = onnx.load(tmp_path / "model.onnx")
    assert [(one.domain, one.version) for one in made_of.opset_import] == [("", 17)]
    assert made_of.ir_version == 8
    types = {constant.data_type for constant in made_of.graph.initializer}
    assert types == {onnx.TensorProto.FLOAT, onnx.TensorProto.INT64}
    assert "Cast" not in {node.op_type for node in made_of.graph.node}


def test_nodes_and_weights_have_the_names_of_their_layers(tmp_path):
    stack = [layers.Conv2D(2, 3, activation="relu", name="first"), layers.Flatten(), layers.Dense(2)]
    onnx_format.export(made(stack), tmp_path / "model.onnx")
    graph = onnx.load(tmp_path / "model.onnx").graph
    assert [node.name for node in graph.node] == ["first/Conv", "first/Relu", "flatten_1/Reshape", "dense_1/Gemm"]
    weights = {constant.name for constant in graph.initializer}
    assert {"first.weight", "first.bias", "dense_1.weight", "dense_1.bias"} <= weights


@pytest.mark.parametrize(
    "names", [("images", "probabilities"), ("a/Conv", "a"), ("preprocessing", "\udcff\n"), ("b", "b/Conv_2")]
)
def test_any_name_of_a_layer_will_do(tmp_path, names):
    first, second = names
    stack = [
        layers.Conv2D(2, 1, name=first),
        layers.Conv2D(2, 1, name=second, activation="relu"),
        layers.Conv2D(2, 1, name=f"{first}/pads", padding=1, padding_mode="edge"),
        layers.Flatten(),
        layers.Dense(2, name=f"{second}.weight"),
    ]
    preprocessing = Preprocessing(Decoding(7, 6, 1), (1.0,), (2.0,))
    compare(made(stack, (1, 7, 6), preprocessing=preprocessing), tmp_path / "model.onnx", images((1, 7, 6)))


# What is refused


def refused(model, path, message, error=ValueError):
    """Assert that a model is not exported, and that what was there stays."""
    path.write_bytes(b"earlier")
    with pytest.raises(error, match=message):
        onnx_format.export(model, path)
    assert [one.name for one in path.parent.iterdir()] == [path.name]
    assert path.read_bytes() == b"earlier"


def test_weights_that_are_not_finite_are_refused(tmp_path):
    model = classifier()
    model.parameters["dense_1.bias"][1] = np.nan
    refused(model, tmp_path / "model.onnx", "'dense_1.bias' contains NaN or infinite values")


def test_a_preprocessing_that_makes_other_images_is_refused(tmp_path):
    model = classifier(shape=(3, 8, 6), preprocessing=COLOUR)
    refused(model, tmp_path / "model.onnx", r"images of shape \(3, 8, 6\), but its preprocessing produces \(3, 7, 6\)")


def test_class_names_of_another_number_are_refused(tmp_path):
    refused(classifier(class_names=("a", "b")), tmp_path / "model.onnx", "one string for each of 4 classes")


def test_more_weights_than_a_file_holds_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_format, "MOST_BYTES", 1000)
    refused(classifier(), tmp_path / "model.onnx", r"at most 1,000 bytes of weights\. Received: 1,360\.")


def test_without_onnx_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    refused(
        classifier(), tmp_path / "model.onnx", f"ONNX files need onnx .*{re.escape(install_line('onnx'))}", ImportError
    )


def test_a_path_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere.model\.onnx"):
        onnx_format.export(classifier(), tmp_path / "nowhere" / "model.onnx")


def test_a_file_that_cannot_be_finished_leaves_the_earlier_one(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    refused(classifier(), tmp_path / "model.onnx", r"No space left.*model\.onnx", OSError)


def test_an_earlier_file_is_replaced(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"earlier")
    compare(classifier(), tmp_path / "model.onnx", images())


# A trained network


def test_digits_that_the_command_learned_are_answered_the_same(tally, tmp_path, capsys):
    run, file = tmp_path / "run", tmp_path / "digits.onnx"
    options = ["--model", "small", "--epochs", "2", "--no-plots", "--backend", "numpy", "--out", str(run)]
    assert main(["train", "digits", *options]) == 0
    assert main(["export", str(run / "best.safetensors"), str(file)]) == 0
    digits, model, session = load_digits(), xpcnn.load(run / "best.safetensors"), runtime(file)
    assert model.temperature != 1
    with tally.case("onnxruntime", "digits"):
        expected = model.predict(model.preprocessing.normalize(digits.x))
        y = answers(session, digits.x)
        np.testing.assert_allclose(y, expected, rtol=0, atol=1e-5)
        assert (y.argmax(axis=1) == expected.argmax(axis=1)).all()
        assert (y.argmax(axis=1) == digits.y).mean() > 0.8
    assert json.loads(session.get_modelmeta().custom_metadata_map["class_names"]) == list("0123456789")


@pytest.mark.parametrize(
    "name", ["small", "resnet-18", "mobilenet-v3-small", "efficientnet-b0", "efficientnet-lite0", "squeezenet"]
)
def test_preset_networks_give_their_outputs(tally, tmp_path, name):
    model = xpcnn.Sequential(xpcnn.presets.get(name)((3, 64, 64), 5), (3, 64, 64), "numpy")
    x = np.random.default_rng(0).normal(size=(3, 3, 64, 64)).astype(np.float32)
    with tally.case("onnxruntime"):
        compare(model, tmp_path / "model.onnx", x)
