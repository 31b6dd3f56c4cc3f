"""The page in a real browser: its answers are those of predict_images, and it survives whatever it is given."""

import csv
import io

import numpy as np
import pytest

import xpcnn
from tests.cli.conftest import picture, save
from tests.report.conftest import HOSTILE
from tests.report.devtools import CHROMIUM
from xpcnn import layers
from xpcnn.data import Decoding, Preprocessing
from xpcnn.data.opencv import load_opencv
from xpcnn.formats import html

cv2 = load_opencv()

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="there is no `chromium` on the PATH")]


def made(channels=3, size=(24, 20), names=HOSTILE, resizing="stretch", per_image=False, seed=0):
    """A model that tells pictures apart by much."""
    model = xpcnn.Sequential(
        [
            layers.Conv2D(8, 3, padding="same"),
            layers.BatchNorm(),
            layers.ReLU(),
            layers.MaxPool2D(2),
            layers.Flatten(),
            layers.Dense(len(names), activation="softmax"),
        ],
        (channels, *size),
        xp="numpy",
        seed=seed,
    )
    model.compile()
    model.class_names, model.temperature = tuple(names), 1.5
    decoding = Decoding(*size, channels, resizing=resizing)
    model.preprocessing = Preprocessing(decoding, (90.0,) * channels, (55.0,) * channels, per_image)
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pictures of many kinds: formats, sizes, grey, transparency, palettes."""
    place, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for number, (name, height, width, colour) in enumerate(
        [
            ("colour.png", 90, 70, True),
            ("grey.png", 61, 83, False),
            ("colour.jpg", 120, 97, True),
            ("grey.jpg", 64, 64, False),
            ("small.png", 9, 11, True),
            ("wide.png", 10, 300, True),
            ("half.png", 48, 40, True),
            ("exact.bmp", 24, 20, True),
            ("large.jpg", 2300, 2100, True),
            ("lossy.webp", 80, 60, True),
        ]
    ):
        save(place / name, picture(("left", "centre", "right")[number % 3], height, width, colour, number))
    colours = picture("left", 50, 40, True, 20)
    alpha = rng.integers(0, 256, (50, 40, 1)).astype(np.uint8) * (rng.random((50, 40, 1)) < 0.5)
    save(place / "alpha.png", np.concatenate((colours, alpha.astype(np.uint8)), axis=2))
    return place


def answers(browser, page, *paths):
    """Open a page, choose files and return the rows of its table by file name."""
    browser.show(page)
    browser.choose("#files", *paths)
    browser.wait("document.getElementById('bar').hidden && document.querySelectorAll('#list li').length > 0", 120)
    return browser


def table(browser):
    """The rows of the CSV that the page would save."""
    browser.value(
        "(() => { const make = URL.createObjectURL;"
        "URL.createObjectURL = blob => { window.saved = blob; URL.createObjectURL = make; return make(blob); }; })()"
    )
    browser.value("document.getElementById('save').click()")
    return list(csv.DictReader(io.StringIO(browser.value("window.saved.text()"), newline="")))


@pytest.mark.parametrize(
    ("channels", "resizing", "per_image"), [(3, "stretch", False), (1, "crop", True), (3, "pad", False)]
)
def test_its_answers_are_those_of_the_command(browser, folder, tmp_path, channels, resizing, per_image):
    model = made(channels, resizing=resizing, per_image=per_image)
    html.export(model, tmp_path / "cells.html")
    paths = sorted(folder.iterdir())
    answers(browser, tmp_path / "cells.html", *paths)
    rows = table(browser)
    expected = model.predict_images(paths)
    assert [row["path"] for row in rows] == [path.name for path in paths]
    assert [row["error"] for row in rows] == [""] * len(paths)
    found = np.array([[float(row[f"p:{name}"]) for name in HOSTILE] for row in rows])
    assert np.abs(found - expected.probabilities).max() < 0.01
    assert np.ptp(expected.probabilities, axis=0).max() > 0.1
    assert browser.complaints == []
    allowed = ("blob:", "data:", (tmp_path / "cells.html").resolve().as_uri())
    assert [url for url in browser.requests if not url.startswith(allowed)] == []
