"""The sample of the data, and the maps of where the network looked."""

import base64
import re

import numpy as np

import xpcnn
from xpcnn import layers
from xpcnn.data import Decoding, LabelledImages, Preprocessing
from xpcnn.data.opencv import load_opencv
from xpcnn.report import galleries
from xpcnn.report.results import Predictions

cv2 = load_opencv()


def brightness(element):
    """How bright the brightest place of a picture is."""
    content = base64.b64decode(re.search(r"base64,([^\"]*)", element)[1])
    return int(cv2.imdecode(np.frombuffer(content, dtype=np.uint8), cv2.IMREAD_COLOR).max())


def test_all_maps_have_one_scale():
    model = xpcnn.Sequential([layers.Conv2D(2, 1), layers.GlobalAveragePool2D(), layers.Dense(2)], (1, 8, 8), np)
    weights = {"conv2d_1.weight": [1, 0], "dense_1.weight": [[1, 1], [0, 0]]}
    model.set_weights(
        {name: np.reshape(weights.get(name, np.zeros(value.shape)), value.shape).astype(np.float32)
         for name, value in model.get_weights().items()}
    )  # fmt: skip
    x = np.zeros((2, 1, 8, 8), dtype=np.uint8)
    x[0, 0, 4, 4], x[1, 0, 4, 4] = 250, 25  # in the second, the evidence is a tenth of that in the first
    images = LabelledImages(x=x, y=np.array([0, 0]), classes=("a", "b"), paths=None)
    found = Predictions("test", np.arange(2), images.y, np.array([[0.9, 0.1], [0.9, 0.1]]))
    preprocessing = Preprocessing(Decoding(8, 8, 1), (0.0,), (255.0,))
    section = galleries.explanation_section(images, found, ["a", "b"], model.network, preprocessing)
    strong, weak = map(brightness, re.findall('<img[^>]*alt="evidence[^>]*>', section))
    assert strong > 200
    assert weak < 80
