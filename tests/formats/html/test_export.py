"""The page as a file: what it holds, and which models it refuses."""

import base64
import json
import re

import numpy as np
import pytest

import xpcnn
from tests.report.conftest import HOSTILE
from xpcnn import layers
from xpcnn.data import Decoding, Preprocessing
from xpcnn.formats import html


class Doubled(layers.ReLU):
    def forward(self, params, x, context):
        return 2 * x, lambda dy, gradients: 2 * dy


def made(*stack, names=None, shape=(1, 6, 6)):
    model = xpcnn.Sequential([*stack, layers.Flatten(), layers.Dense(3, activation="softmax")], shape, xp="numpy")
    model.preprocessing = Preprocessing(Decoding(6, 6, 1), (0.0,), (1.0,))
    model.class_names = names
    return model


def content(model, path):
    """The page, and the data in it."""
    html.export(model, path / "page.html")
    page = (path / "page.html").read_text(encoding="utf-8")
    return page, json.loads(re.search(r'<script type="application/json" id="model">(.*)</script>\n<script>', page)[1])


def weights(data, node):
    """The 16-bit weights of a node times their scales."""
    integers = np.frombuffer(base64.b64decode(data["weights"]), "<i2")
    numbers = np.frombuffer(base64.b64decode(data["numbers"]), "<f4")
    (start, length), (first, count) = node["weight"], node["scales"]
    return integers[start : start + length].reshape(count, -1) * numbers[first : first + count, np.newaxis]


def test_weights_are_within_a_step_of_their_filter_s_scale(tmp_path):
    model = made(layers.Conv2D(4, 3))
    model.set_weights(model.get_weights() | {"conv2d_1.weight": 10.0 ** np.arange(-6, 30, 1).reshape(4, 1, 3, 3)})
    _, data = content(model, tmp_path)
    expected = model.get_weights()["conv2d_1.weight"].reshape(4, -1)
    apart = np.abs(weights(data, data["spec"]["nodes"][0]) - expected).max(axis=1)
    assert (apart <= np.abs(expected).max(axis=1) / 2**15).all()
    assert (apart > 0).all()


def test_a_filter_of_zeros_stays_one(tmp_path):
    model = made(layers.Conv2D(2, 3))
    model.set_weights(model.get_weights() | {"conv2d_1.weight": np.zeros((2, 1, 3, 3), np.float32)})
    _, data = content(model, tmp_path)
    assert not weights(data, data["spec"]["nodes"][0]).any()


def test_no_name_ends_the_data(tmp_path):
    page, data = content(made(names=("</script><script>alert(1)", "<!--", "\udc80 ")), tmp_path)
    assert data["names"] == ["</script><script>alert(1)", "<!--", "\udc80 "]
    assert page.count("<script") == page.count("</script>") == 2
    assert "<!--" not in page


def test_many_classes_are_counted(tmp_path):
    model = made(names=HOSTILE[:3])
    assert "Sorts pictures into 3 classes:" in content(model, tmp_path)[0]
    many = xpcnn.Sequential([layers.Flatten(), layers.Dense(100, activation="softmax")], (1, 6, 6), xp="numpy")
    many.preprocessing = model.preprocessing
    assert "<bdi>11</bdi> and 88 more." in content(many, tmp_path)[0]


def test_it_asks_for_nothing_outside(tmp_path):
    """No address, and nothing that loads one."""
    page, _ = content(made(), tmp_path)
    assert re.findall(r"https?:|//[a-z]+\.|@import|\bsrc=|\bhref=|url\(", page) == []


def refused(model, path, *words):
    (path / "page.html").write_text("earlier")
    with pytest.raises(ValueError) as error:  # noqa: PT011 (the words are compared)
        html.export(model, path / "page.html")
    assert all(word in str(error.value) for word in words), error.value
    assert (path / "page.html").read_text() == "earlier"


def test_a_subclass_of_a_layer_is_refused(tmp_path):
    refused(made(Doubled(name="twice")), tmp_path, "'twice'", "class Doubled", "custom layer")


def test_weights_that_are_no_numbers_are_refused(tmp_path):
    model = made()
    model.set_weights({name: np.full_like(value, np.nan) for name, value in model.get_weights().items()})
    refused(model, tmp_path, "NaN or infinite")


def test_a_folded_normalisation_that_overflows_is_refused(tmp_path):
    model = made(layers.Conv2D(2, 3), layers.BatchNorm(epsilon=1e-30))
    about = {"weight": 1e38, "running_var": 0.0}
    values = model.get_weights()
    model.set_weights(values | {f"batch_norm_1.{name}": np.full(2, value) for name, value in about.items()})
    refused(model, tmp_path, "too large for float32")


def test_outputs_that_are_no_vector_are_refused(tmp_path):
    model = xpcnn.Sequential([layers.Conv2D(1, 3)], (1, 6, 6), xp="numpy")
    model.preprocessing = made().preprocessing
    refused(model, tmp_path, "outputs (1, 4, 4)")


def test_a_preprocessing_of_other_images_is_refused(tmp_path):
    refused(made(shape=(1, 8, 8)), tmp_path, "(1, 8, 8)", "(1, 6, 6)")
