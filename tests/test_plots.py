"""Plots: what they show is readable, for one class to a hundred, without a display."""

import io
import itertools
import re
import subprocess
import sys

import numpy as np
import pytest

from tests import strict
from tests.models import mixed, plain, samples
from xpcnn import plots
from xpcnn.extras import install_line

pytest.importorskip("matplotlib")

FIGURES = {
    "curves": lambda: plots.curves(
        {"loss": [2.0, 1.0], "val_loss": [2.1, 1.2], "accuracy": [0.4, 0.7]}, [3.0, 2, 1, 1]
    ),
    "samples": lambda: plots.samples(samples()[0][:, :1], list("abcdefgh") * 5),
    "filters": lambda: plots.filters(plain().parameters["conv2d_1.weight"]),
    "weights": lambda: plots.weights(plain().parameters["dense_1.weight"]),
    "feature maps": lambda: plots.feature_maps(mixed().activations(samples()[0][:2]), 1),
    "confusion": lambda: plots.confusion([[3, 1], [0, 2]], ["cat", "dog"]),
    "mistakes": lambda: plots.mistakes(np.zeros((2, 3, 4, 4)), [0, 1], [[0.1, 0.9], [0.2, 0.8]]),
}


def texts(figure):
    """Return everything that is written in a figure."""
    figure.canvas.draw()
    return [
        text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text")) if text.get_visible()
    ]


@pytest.mark.parametrize("figure", FIGURES.values(), ids=FIGURES)
def test_every_picture_can_be_saved(figure):
    file = io.BytesIO()
    figure().savefig(file)
    assert file.getvalue().startswith(b"\x89PNG")


def test_they_need_no_screen_and_change_no_setting():
    code = (
        "import sys, numpy as np\nfrom xpcnn import plots\n"
        "plots.confusion(np.eye(2)).savefig('/dev/null', format='png')\nassert 'matplotlib.pyplot' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], env={"MPLBACKEND": "TkAgg", "PYTHONPATH": ":".join(sys.path)})
    assert done.returncode == 0


def test_curves_show_training_validation_and_steps():
    figure = FIGURES["curves"]()
    loss, accuracy = figure.axes
    assert [line.get_label() for line in loss.lines] == ["each step", "training", "validation"]
    assert loss.lines[1].get_xydata().tolist() == [[1, 2.0], [2, 1.0]]
    assert loss.lines[0].get_xdata().tolist() == [0.5, 1.0, 1.5, 2.0], "the last step of an epoch ends it"
    assert [line.get_label() for line in accuracy.lines] == ["training"]
    assert (loss.get_xlabel(), loss.get_ylabel()) == ("epoch", "loss")
    assert [axes.get_ylabel() for axes in plots.curves({"loss": [1.0]}).axes] == ["loss"]
    (axes,) = plots.curves({"loss": [1.0, 0.5]}, [2, 1, 1, 0.5], [{"step": 2, "loss": 1.5}]).axes
    assert axes.lines[-1].get_xydata().tolist() == [[1.0, 1.5]]


def test_images_of_any_range_and_colour_are_shown():
    drawn = plots.samples(np.array([[[[-3.0, 5.0]]], [[[1.0, 1.0]]]])).axes
    assert drawn[0].images[0].get_array().tolist() == [[0.0, 1.0]]
    assert drawn[1].images[0].get_array().tolist() == [[0.0, 0.0]]
    colour = plots.samples(np.zeros((1, 3, 2, 5), np.uint8)).axes[0].images[0].get_array()
    assert colour.shape == (2, 5, 3)
    assert len(plots.samples(np.zeros((200, 1, 2, 2))).axes) == plots.MOST_PICTURES


def test_filters_share_one_scale_with_zero_in_the_middle():
    weight = np.zeros((2, 3, 2, 2))
    weight[1, 2] = -4.0
    figure = plots.filters(weight)
    assert len(figure.axes) == 6
    assert {(axes.images[0].norm.vmin, axes.images[0].norm.vmax) for axes in figure.axes} == {(-4.0, 4.0)}
    assert {"input channel", "filter"} <= set(texts(figure))
    assert len(plots.filters(np.zeros((100, 50, 3, 3))).axes) == 32 * 16


def test_every_layer_is_named_beside_its_maps():
    model = mixed()
    activations = model.activations(samples()[0][:1])
    assert set(activations) <= set(texts(plots.feature_maps(activations)))


def test_arrays_of_a_device_are_drawn_too():
    weight = strict.xp.asarray(np.ones((2, 1, 3, 3)))
    assert len(plots.filters(weight).axes) == 2


@pytest.mark.parametrize("classes", [1, 2, 8, 20, 21, 100])
def test_a_confusion_matrix_can_be_read_for_any_number_of_classes(classes):
    matrix = np.full((classes, classes), 1234)
    names = [f"class {number}" for number in range(classes)]
    figure = plots.confusion(matrix, names)
    written = texts(figure)
    assert written.count("1,234") == (classes**2 if classes <= plots.MOST_CLASSES_WRITTEN else 0)
    labels = [text for text in figure.axes[0].get_yticklabels() if text.get_text()]
    assert 1 <= len(labels) <= 25
    boxes = [label.get_window_extent() for label in labels]
    assert all(not a.overlaps(b) for a, b in itertools.pairwise(boxes))
    assert max(figure.get_size_inches()) <= 10


def test_rows_without_samples_are_empty():
    image = plots.confusion([[0, 0], [1, 3]]).axes[0].images[0].get_array()
    assert image.tolist() == [[0, 0], [0.25, 0.75]]


def test_mistakes_come_with_the_surest_first():
    probabilities = [[0.6, 0.4], [0.1, 0.9], [0.3, 0.7], [0.8, 0.2]]
    figure = plots.mistakes(np.zeros((4, 1, 3, 3)), [1, 0, 1, 0], probabilities, ["cat", "dog"])
    assert [axes.get_title() for axes in figure.axes] == ["cat\nas dog 90%", "dog\nas cat 60%"]
    assert plots.mistakes(np.zeros((1, 1, 3, 3)), [0], [[1.0, 0.0]]) is None


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plots.curves({"lr": [1.0]}), r"no epochs to draw. Received: \['lr'\]"),
        (lambda: plots.samples(np.zeros((2, 2, 3, 3))), r"Received: \(2, 2, 3, 3\)"),
        (lambda: plots.samples(np.zeros((0, 1, 3, 3))), r"Received: \(0, 1, 3, 3\)"),
        (lambda: plots.filters(np.zeros((3, 3))), r"\(filters, channels, rows, columns\). Received: \(3, 3\)"),
        (lambda: plots.weights(np.zeros(3)), r"\(units, features\). Received: \(3,\)"),
        (lambda: plots.feature_maps({}), "no activations"),
        (lambda: plots.confusion(np.zeros((2, 3))), r"square.* Received: a matrix of shape \(2, 3\)"),
        (lambda: plots.confusion(np.eye(2), ["one"]), "and 1 names"),
        (lambda: plots.mistakes(np.zeros((2, 1, 3, 3)), [0], [[1.0, 0.0]]), "2 images, 1 labels, 1 rows"),
    ],
)
def test_what_cannot_be_drawn_is_refused(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=f"^Plots need matplotlib .*{re.escape(install_line('plot'))}"):
        plots.confusion(np.eye(2))
