"""ONNX files: valid, and in onnxruntime the answers that the model gives."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st

import xpcnn
from xpcnn import layers
from xpcnn.data import Decoding, Preprocessing
from xpcnn.formats import onnx as onnx_format

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

ACTIVATIONS = ["linear", "relu", "leaky_relu", "sigmoid", "tanh", "softmax"]


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


def images(shape=(2, 7, 6), n=3, seed=0):
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


def test_random_networks_give_their_answers_in_onnxruntime(tally, cases, seed, tmp_path):
    @seeded(seed)
    @settings(max_examples=cases(60), database=None)
    @given(st.data())
    def equal(data):
        stack, shape = data.draw(stacks())
        number = data.draw(st.integers(0, 2**20))
        model = made(stack, shape, number, preprocessing=data.draw(preprocessings(shape)))
        x = images(shape, data.draw(st.integers(1, 4)), number)
        x = x if model.preprocessing is None else np.clip(128 + 70 * x, 0, 255).astype(np.uint8)
        compare(model, tmp_path / "model.onnx", x)
        with tally.case("onnxruntime"):
            pass

    equal()
