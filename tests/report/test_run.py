"""The files of a run, including malformed ones."""

import math

import pytest

from xpcnn.report import run


def test_it_counts_the_images_of_each_class_and_part(digits):
    found = run.read_run(digits)
    assert found.classes == list("0123456789")
    assert [found.part(part) for part in run.PARTS] == [1295, 143, 359]
    assert found.counts["3", "test"] == 37
    assert (found.skipped, found.skipped_count) == ([], 0)


def test_the_history_is_read_as_it_was_written(digits):
    epochs = run.read_history(digits)
    assert epochs.numbers == [1, 2, 3]
    assert list(epochs.columns) == ["loss", "accuracy", "val_loss", "val_accuracy", "lr", "seconds"]
    assert epochs.columns["loss"] == sorted(epochs.columns["loss"], reverse=True)


def test_predictions_are_read_as_they_were_written(digits):
    found = run.read_predictions(digits, list("0123456789"))
    lines = (digits / "predictions.csv").read_text().splitlines()
    assert lines[0] == "image,class,predicted,probability,digest"
    assert len(found) == len(lines) - 1 == 359
    image, true, predicted, _, digest = lines[1].split(",")
    assert found[0] == (image, true, predicted, digest)


def test_no_predictions_are_none(copy):
    (copy / "predictions.csv").unlink()
    assert run.read_predictions(copy, ["0"]) is None


def test_a_history_can_begin_later(copy):
    (copy / "history.csv").write_text("epoch,loss\n7,0.5\n8,nan\n9,1e300\n")
    epochs = run.read_history(copy)
    assert epochs.numbers == [7, 8, 9]
    assert epochs.columns["loss"][0] == 0.5
    assert all(math.isnan(value) for value in epochs.columns["loss"][1:])


def test_no_history_is_no_epochs(copy):
    (copy / "history.csv").unlink()
    assert len(run.read_history(copy)) == 0


def test_of_many_skipped_files_some_are_named_and_all_counted(copy):
    (copy / "skipped.csv").write_text("path,reason\n" + "a.png,it is empty\n" * 1000)
    found = run.read_run(copy)
    assert (len(found.skipped), found.skipped_count) == (run.MOST_SKIPPED, 1000)


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("args.json", "{", "cannot be read"),
        ("args.json", "[1]", "it contains list"),
        ("args.json", "{}", "names no classes"),
        ("args.json", '{"classes": [1]}', "names no classes"),
        ("args.json", "[" * 100_000, "cannot be read"),
        ("metrics.json", "3", "it contains int"),
        ("history.csv", "epoch,loss\n1,fast\n", "is not a run's history"),
        ("history.csv", "epoch,loss\n1\n", "is not a run's history"),
        ("history.csv", "epoch,accuracy\n1,1\n", "no loss column"),
        ("history.csv", "loss\n1\n", "is not a run's history"),
        ("history.csv", "epoch,loss\nnan,1\n", "is not a run's history"),
        ("parts.csv", "a,b\n", "does not start with image,class,part"),
        ("parts.csv", "image,class,part\n1,2\n", "has a line of 2 fields"),
        ("parts.csv", "image,class,part\n1,2,else\n", "has a part 'else'"),
        ("parts.csv", 'image,class,part\n"' + "x" * 200_000, "is not a table"),
        ("skipped.csv", "", "does not start with path,reason"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_named(copy, name, content, word):
    (copy / name).write_text(content)
    with pytest.raises(ValueError, match=f"{name}.*{word}"):
        (run.read_run(copy), run.read_history(copy), run.read_metrics(copy))


def test_a_file_that_is_too_large_is_not_read(copy, monkeypatch):
    monkeypatch.setattr(run, "MOST_BYTES", 10)
    with pytest.raises(ValueError, match=r"args.json' is larger than 10 bytes"):
        run.read_run(copy)


@pytest.mark.parametrize("value", [None, True, "1", [1], float("nan"), float("inf"), 10**200])
def test_what_is_no_number_is_none(value):
    assert run.number(value) is None
