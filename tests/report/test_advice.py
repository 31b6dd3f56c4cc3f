"""Advice on a finished run."""

import math
from collections import Counter
from pathlib import Path

import pytest

from xpcnn.report import advice
from xpcnn.report.run import Epochs, Run


def advised(training=0.9, validation=0.9, images=100, best=8, **arguments):
    """The advice on a run whose eighth epoch, of the epochs 7 and 8, had these accuracies."""
    epochs = Epochs({"loss": [1.0, 0.5], "accuracy": [0.5, training], "val_accuracy": [0.5, validation]}, first=7)
    counts = Counter({("cat", "validation"): images, ("cat", "train"): 7})
    return advice.of_run(Run(Path("run"), arguments, ["cat"], counts, [], 0), epochs, best)


def test_a_good_run_needs_none():
    assert advised() == []


@pytest.mark.parametrize(("images", "said"), [(0, False), (1, True), (99, True), (100, False)])
def test_few_validation_images_are_said_to_be_few(images, said):
    assert [text.startswith(f"few validation images: {images},") for text in advised(images=images)] == [True] * said


@pytest.mark.parametrize(("validation", "said"), [(0.74, True), (0.76, False), (1.0, False), (math.nan, False)])
def test_accuracies_more_than_15_points_apart_are_named_as_overfitting(validation, said):
    assert ["overfitting" in text for text in advised(validation=validation)] == [True] * said


def test_overfitting_is_judged_at_the_best_epoch():
    assert advised(1.0, 0.5, best=7) == []
    assert len(advised(1.0, 0.5, best=8)) == 1


def test_without_validation_images_nobody_can_tell():
    run = Run(Path("run"), {}, ["cat"], Counter(), [], 0)
    assert advice.of_run(run, Epochs({"loss": [1.0], "accuracy": [1.0]}), 1) == []
    assert advice.of_run(run, Epochs(), 1) == []


@pytest.mark.parametrize(
    ("arguments", "suggested"),
    [
        ({"augment": "shift"}, ["--augment microscopy", "--from efficientnet-lite0"]),
        ({"augment": "microscopy"}, ["--from efficientnet-lite0"]),
        ({"augment": "light", "start": "efficientnet-lite0"}, ["--augment microscopy"]),
        ({"augment": "microscopy", "start": "model.safetensors"}, []),
    ],
)
def test_only_remedies_that_the_run_did_not_use_are_suggested(arguments, suggested):
    (text,) = advised(1.0, 0.5, **arguments)
    assert "more images" in text
    assert [remedy for remedy in ("--augment microscopy", "--from efficientnet-lite0") if remedy in text] == suggested
