"""Which mistakes are shown, and how they are filtered."""

import re

import numpy as np

from tests.report.test_results import predictions
from xpcnn.data import LabelledImages
from xpcnn.report import mistakes


def section_of(found, classes):
    x = np.zeros((len(found.labels), 1, 2, 2), dtype=np.uint8)
    images = LabelledImages(x=x, y=found.labels, classes=tuple(classes), paths=None)
    return mistakes.mistakes_section(images, found, classes)


def wrong(*counts):
    """Predictions that are all wrong, this many of each class, the first classes with the most confidence."""
    labels = np.repeat(np.arange(len(counts)), counts)
    found = predictions(labels, (labels + 1) % len(counts), len(counts))
    found.probabilities += np.linspace(0.01, 0, len(labels))[:, np.newaxis]
    return found


def test_the_most_confident_come_first_and_then_some_of_each_class():
    places = mistakes.shown(wrong(20, 3, 10))
    assert places == [*range(12), 20, 21, 22, *range(23, 31)]


def test_of_very_many_classes_not_all_are_shown():
    assert len(mistakes.shown(wrong(*[5] * 100))) == mistakes.MOST


def test_of_every_class_with_mistakes_some_are_shown():
    for counts in ([8] * 7, [5] * 30):
        found = wrong(*counts)
        assert set(found.labels[mistakes.shown(found)]) == set(range(len(counts)))


def test_every_class_with_mistakes_can_be_chosen_and_says_how_many_it_has():
    section = section_of(wrong(20, 0, 3), ["cat", "dog", "<b>"])
    choices = re.findall(r'<input [^>]*value="(\w+)"( checked)?>(.*?) <span class="soft">(\d+)<', section)
    assert choices == [
        ("all", " checked", "all", "23"), ("0", "", "<bdi>cat</bdi>", "20"), ("2", "", "<bdi>&lt;b&gt;</bdi>", "3")
    ]  # fmt: skip
    assert re.findall(r'li:not\(\[data-class="(\d)"\]\)', section) == ["0", "2"]
    cards = re.findall(r'<li data-class="(\d)"( class="later")?>', section)
    assert cards == [("0", "")] * 12 + [("2", ' class="later"')] * 3


def test_of_mistakes_of_one_class_there_is_no_choice():
    section = section_of(predictions([0] * 20, [1] * 20, 2), ["cat", "dog"])
    assert "<fieldset" not in section
    assert "hoose" not in section
    assert "There are 20." in section


def test_without_mistakes_the_section_says_so():
    assert "There are none: the whole test part is right." in section_of(predictions([0, 1], [0, 1], 2), ["a", "b"])
