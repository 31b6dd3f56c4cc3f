"""The small sections of the page, from runs of all kinds and sizes."""

import re
from collections import Counter
from pathlib import Path

import pytest

from xpcnn.report import sections
from xpcnn.report.run import Epochs, Run


def a_run(counts=None, skipped=0, listed=0, **arguments):
    """A run of two classes, of whose skipped files some are listed."""
    files = [(f"{number}.png", "no image") for number in range(listed)]
    return Run(Path("run"), arguments, ["cat", "dog"], Counter(counts or {}), files, skipped)


def test_the_accuracy_at_the_top_is_that_of_metrics_or_of_the_last_epoch_before_there_are_any():
    counts = {("cat", "train"): 3, ("dog", "train"): 1}
    epochs = Epochs({"loss": [1.0, 0.5], "val_accuracy": [0.5, 0.6]})
    measured, running = (sections.tiles(a_run(counts), epochs, of) for of in ({"test": {"accuracy": 0.9}}, {}))
    assert re.findall(r"\d+\.\d(?=&nbsp;%)", measured) == ["90.0", "75.0"]
    assert re.findall(r"\d+\.\d(?=&nbsp;%)", running) == ["60.0", "75.0"]


def test_an_accuracy_has_its_interval_beside_it_unless_it_cannot_be_one():
    run = a_run({("cat", "test"): 10})
    assert "test accuracy (95&nbsp;%: 59.6&nbsp;% to 98.2&nbsp;%)" in tiles_of(run, 0.9)
    assert "95&nbsp;%" not in tiles_of(run, 9.0) + tiles_of(a_run(), 0.9)
    running = sections.tiles(a_run({("cat", "validation"): 10}), Epochs({"loss": [1.0], "val_accuracy": [0.9]}), {})
    assert "validation accuracy (95&nbsp;%: 59.6&nbsp;% to 98.2&nbsp;%)" in running


def test_of_several_labels_macro_f1_stands_first():
    run = a_run(several_labels=True)
    told = sections.tiles(run, Epochs(), {"test": {"f1": 0.5303, "accuracy": 0.1875}})
    assert told.index("0.530") < told.index("test macro F1") < told.index("test images with all labels right")
    assert "test accuracy" not in told
    epochs = Epochs({"loss": [1.0, 0.5], "multilabel_f1": [0.1, 0.2], "val_multilabel_f1": [0.3, 0.4]})
    told = sections.tiles(run, epochs, {})
    assert "0.400" in told
    assert "validation macro F1" in told
    drawn = sections.curves_section(epochs, None)
    assert "Loss should fall and macro F1 rise." in drawn
    assert "macro F1 by epoch" in drawn


def tiles_of(run, accuracy):
    return sections.tiles(run, Epochs(), {"test": {"accuracy": accuracy}})


def test_without_advice_there_is_no_section_of_it():
    assert sections.advice_section([]) == ""
    assert "<p>a &lt; b</p>" in sections.advice_section(["a < b"])


def test_of_no_images_at_all_no_class_is_the_largest():
    assert "largest class" not in sections.tiles(a_run(), Epochs(), {})


def test_of_very_many_epochs_the_last_stand_in_the_table():
    section = sections.curves_section(Epochs({"loss": [1.0] * (sections.MOST_EPOCHS + 5)}), None)
    numbers = re.findall(r'<tr><th scope="row"[^>]*>(\d+)</th>', section)
    assert numbers == [str(number) for number in range(6, sections.MOST_EPOCHS + 6)]


@pytest.mark.parametrize(("skipped", "listed", "folded", "left"), [(3, 3, False, ""), (70, 50, True, "20 more")])
def test_many_skipped_files_are_folded_away_and_the_others_counted(skipped, listed, folded, left):
    section = sections.skipped_section(a_run(skipped=skipped, listed=listed), 0)
    assert f"{skipped} files that could not be read" in section
    assert ("<details" in section) == folded
    assert left in section


def test_without_skipped_files_there_is_no_section_of_them():
    assert sections.skipped_section(a_run(), 0) == ""


def test_the_smallest_and_the_largest_class_are_named():
    counts = {("cat", "train"): 3, ("cat", "test"): 1, ("dog", "train"): 1000}
    section = sections.images_section(a_run(counts), "")
    assert "from 4 (<bdi>cat</bdi>) to 1,000 (<bdi>dog</bdi>)" in section
    section = sections.images_section(a_run({("cat", "train"): 3, ("dog", "test"): 3}), "")
    assert "The number of images of each class: 3 each" in section
    assert "from" not in sections.images_section(a_run(), "").partition("</summary>")[0]


def test_images_that_could_not_be_read_again_are_counted_with_and_without_skipped_files():
    for run in (a_run(), a_run(skipped=1, listed=1)):
        assert "2 images of the run could not be read again" in sections.skipped_section(run, 2)
