"""The JSON of the article's CNN class: files by its formulas are read, and written ones predict the same."""

import json

import numpy as np
import pytest

from xpcnn import Sequential, layers
from xpcnn.formats import cnn_json

RNG = np.random.default_rng(0)


def entry(type_, **values):
    return {"type": type_, "name": "", "isbias": False, "activation": None, "parameters": 0, **values}


def described(padding=None):
    """Return a model as the article saves it: a convolution, pooling, dropout, flattening and two dense layers."""
    side = 8 if padding is None else 10
    pooled = (side - 2) // 2
    return {
        "model": "CNN",
        "Input Layer": entry(
            "Conv2d", isbias=True, activation="relu", filters=3, kernel_size=[3, 3, 2, 3], stride=[1, 1],
            padding=padding, input_shape=[8, 8, 2], output_shape=[side - 2, side - 2, 3],
            weights=RNG.normal(size=(3, 3, 2, 3)).tolist(), biases=RNG.normal(size=(3, 1)).tolist(),
        ),
        "Pool2d1": entry("Pool2d", kernel_size=[2, 2], stride=[2, 2], kind="max", weights=0.0),
        "Dropout2": entry("Dropout", prob=0.25, weights=0.0),
        "Flatten3": entry("Flatten", input_shape=[pooled, pooled, 3], weights=0.0),
        "FFL4": entry(
            "FFL", isbias=True, activation="tanh", neurons=5,
            weights=RNG.normal(size=(pooled * pooled * 3, 5)).tolist(), biases=RNG.normal(size=5).tolist(),
        ),
        "Out Layer(FFL)": entry(
            "FFL", activation="softmax", neurons=4, weights=RNG.normal(size=(5, 4)).tolist(), biases=0.0
        ),
    }  # fmt: skip


def predicted(model, image):
    """Return what the article's formulas give for one image (rows, columns, channels), softmax shifted."""
    first, _, _, _, dense, last = (value for name, value in model.items() if name != "model")
    kernels, biases = np.array(first["weights"]), np.array(first["biases"])
    if first["padding"] is not None:
        mode = {"zero": "constant", "same": "edge"}[first["padding"]]
        image = np.pad(image, ((1, 1), (1, 1), (0, 0)), mode=mode)
    rows, columns = image.shape[0] - 2, image.shape[1] - 2
    out = np.zeros((rows, columns, 3))
    for f in range(3):
        for r in range(rows):
            for c in range(columns):
                out[r, c, f] = (image[r : r + 3, c : c + 3] * kernels[:, :, :, f]).sum() + biases[f, 0]
    out = np.maximum(out, 0)
    out = out.reshape(rows // 2, 2, columns // 2, 2, 3).max((1, 3)).flatten()
    hidden = np.tanh(out @ np.array(dense["weights"]) + np.array(dense["biases"]))
    logits = hidden @ np.array(last["weights"])
    return np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()


@pytest.mark.parametrize("padding", [None, "zero", "same"])
def test_a_file_of_the_articles_formulas_is_read(tmp_path, padding):
    file = tmp_path / "model.json"
    file.write_text(json.dumps(described(padding)))
    model = cnn_json.load(file, "numpy")
    images = RNG.normal(size=(3, 8, 8, 2))
    expected = [predicted(json.loads(file.read_text()), image) for image in images]
    np.testing.assert_allclose(model.predict(images, data_format="channels_last"), expected, rtol=1e-4, atol=1e-6)
    assert [layer.rate for layer in model.layers if isinstance(layer, layers.Dropout)] == [0.25]


MODELS = {
    "convolutions": lambda: Sequential(
        [
            layers.Conv2D(4, 3, strides=2, padding=1, activation="relu"), layers.Upsample2D((1, 3)),
            layers.Conv2D(3, (3, 5), padding_mode="edge", use_bias=False), layers.AveragePool2D(2, strides=1),
            layers.MinPool2D((2, 1)), layers.Flatten(), layers.Dropout(0.1), layers.Dense(7),
            layers.Dense(4, activation="softmax", use_bias=False),
        ],
        (2, 9, 9), "numpy", seed=3,
    ),
    "flattened at once": lambda: Sequential(
        [layers.MaxPool2D(2), layers.Flatten(), layers.Dense(3, activation="sigmoid")], (2, 6, 4), "numpy"
    ),
    "flat": lambda: Sequential([layers.Dense(3, activation="relu"), layers.Dense(2)], (5,), "numpy"),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_what_is_written_is_read_back_to_the_bit(tmp_path, name):
    model = MODELS[name]()
    cnn_json.save(model, tmp_path / "model.json")
    again = cnn_json.load(tmp_path / "model.json", "numpy")
    x = RNG.normal(size=(4, *model.network.input_shape))
    if name == "convolutions":  # flattened, then dropout: the order of features is known all the same
        assert [type(layer) for layer in again.layers] == [type(layer) for layer in model.layers]
    np.testing.assert_array_equal(again.predict(x), model.predict(x))


def test_features_are_in_the_articles_order(tmp_path):
    model = MODELS["flattened at once"]()
    cnn_json.save(model, tmp_path / "model.json")
    written = np.array(json.loads((tmp_path / "model.json").read_text())["Out Layer(FFL)"]["weights"])
    x = RNG.normal(size=(1, 2, 6, 4))
    pooled = x[0].reshape(2, 3, 2, 2, 2).max((2, 4)).transpose(1, 2, 0).flatten()  # (rows, columns, channels)
    np.testing.assert_allclose(1 / (1 + np.exp(-(pooled @ written))), model.predict(x)[0], rtol=1e-5)


def changed(**changes):
    model = described()
    for path, value in changes.items():
        name, _, key = path.partition("__")
        layer = next(entry for entry in model if entry.startswith(name)) if key else name
        if key:
            model[layer][key] = value
        else:
            model[layer] = value
    return json.dumps(model)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("not JSON", "Expecting value"),
        ("[1, 2]", "it is not a dictionary"),
        ('{"model": "RNN", "a": {}}', 'with "model": "CNN"'),
        (json.dumps({"model": "CNN", "a": 3}), "in this format"),
        (changed(Input__type="LSTM"), "unknown layer type 'LSTM'"),
        (changed(Input__padding="reflect"), "unknown padding 'reflect'"),
        (changed(FFL4__activation="gelu"), "unknown activation 'gelu'"),
        (changed(FFL4__weights=[[1.0]]), "in this format"),
        (changed(FFL4__neurons=6), r"'dense.weight': expected shape \(6, 27\). Received: 135 weights"),
        (changed(Input__weights="many"), "in this format"),
        (changed(Input__weights=[float("nan")]), "in this format"),
        (changed(FFL4__weights=np.full((27, 5), float("nan")).tolist()), "'dense_1.weight' contains NaN or inf"),
        (changed(FFL4__weights=np.full((27, 5), 1e300).tolist()), "'dense_1.weight' contains NaN or infinite values"),
        (changed(FFL4__neurons=10**12), r"'dense.weight': expected shape \(1000000000000, 27\)"),
        (changed(FFL4__neurons=float("inf")), "infinity"),
        (changed(Dropout2__type="Upsample", Dropout2__kernel_size=[10**6, 10**6]), "in this format"),
        (changed(Pool2d1__kind="median"), "'median' is missing"),
        ("[" * 100_000, "in this format"),
    ],
)
def test_what_is_no_such_model_is_refused_in_one_line(tmp_path, content, message):
    file = tmp_path / "model.json"
    file.write_text(content)
    with pytest.raises(ValueError, match=message) as error:
        cnn_json.load(file)
    assert str(error.value).startswith(f"{str(file)!r} does not contain a model in this format: ")
    assert "\n" not in str(error.value)


def test_layers_that_the_format_lacks_are_refused(tmp_path):
    for layer, message in (
        (layers.BatchNorm(), "does not support BatchNorm"),
        (
            layers.Conv2D(2, 3, padding=2),
            r"padding of one cell on every side, or none. Received: \(\(2, 2\), \(2, 2\)\)",
        ),
        (layers.MaxPool2D(3, padding=1), "does not support padding in pooling layers"),
        (layers.Conv2D(2, 3, activation="leaky_relu"), "does not support the activation 'leaky_relu'"),
    ):
        with pytest.raises(ValueError, match=message):
            cnn_json.save(Sequential([layer], (2, 6, 6), "numpy"), tmp_path / "model.json")
    assert not (tmp_path / "model.json").exists()
