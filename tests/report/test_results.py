"""Figures of the predictions: in words, in colours, in tables of any size."""

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from xpcnn.report import results
from xpcnn.report.results import Predictions
from xpcnn.report.run import Run


def predictions(labels, answers, classes, confidence=0.9):
    probabilities = np.full((len(labels), classes), (1 - confidence) / (classes - 1))
    probabilities[np.arange(len(labels)), answers] = confidence
    return Predictions("test", np.arange(len(labels)), np.asarray(labels), probabilities)


def run_of(*classes):
    return Run(Path("run"), {}, [*classes], Counter(), [], 0)


def test_the_surest_of_the_wrong_come_first():
    found = predictions([0, 1, 1, 0], [0, 0, 0, 1], 2)
    found.probabilities[2] = [0.99, 0.01]
    assert found.wrong.tolist() == [2, 1, 3]


def test_rows_are_what_is_true_and_columns_what_was_answered():
    section = results.classes_section(predictions([0, 0, 0, 1], [0, 0, 1, 1], 2), run_of("cat", "dog"))
    cat, dog = re.findall(r'<tr><th scope="row">(.*?)</tr>', section)
    assert re.findall(r">(\d*)</td>", cat) == ["2", "1"]
    assert re.findall(r">(\d*)</td>", dog) == ["", "1"]
    assert "3 of 4 images of the test part are right, 75.0&nbsp;%" in section


@pytest.mark.parametrize(("classes", "listed", "drawn"), [(20, False, True), (60, True, True), (101, True, False)])
def test_of_many_classes_the_most_confused_pairs_are_listed(classes, listed, drawn):
    labels = np.arange(classes).repeat(2)
    run = run_of(*(f"c{n}" for n in range(classes)))
    section = results.classes_section(predictions(labels, labels // 2, classes), run)
    assert ("most confused pairs" in section) == listed
    assert ('<div class="scroll matrix' in section) == drawn


def test_the_most_frequent_confusion_is_named():
    section = results.classes_section(predictions([0, 0, 0, 1], [1, 1, 0, 1], 2), run_of("cat", "dog"))
    assert "<bdi>cat</bdi>, predicted as <bdi>dog</bdi> (2 images, 66.7&nbsp;% of the class)" in section
    section = results.classes_section(predictions([0, 1], [0, 1], 2), run_of("cat", "dog"))
    assert "confusion" not in section


def test_precision_and_recall_stand_beside_the_class():
    section = results.classes_section(predictions([0, 0, 0, 1], [0, 0, 1, 1], 2), run_of("cat", "dog"))
    cat, dog = re.findall(r'<tr><th scope="row" class="words">(.*?)</tr>', section)
    assert re.findall(r"\d\.\d\d", cat) == ["1.00", "0.67", "0.21", "0.94", "0.80"]  # the interval of 2 of 3
    assert re.findall(r"\d\.\d\d", dog) == ["0.50", "1.00", "0.21", "1.00", "0.67"]


def test_calibration_is_drawn_and_its_figures_told_where_they_were_measured():
    found = predictions([0, 1], [0, 0], 2)
    section = results.calibration_section(found, None, None)
    assert "<svg" in section
    assert "<figcaption>" not in section
    section = results.calibration_section(found, 0.0321, 1.25)
    assert "<figcaption>calibration error 3.2&nbsp;%, temperature 1.25</figcaption>" in section
