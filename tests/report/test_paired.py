"""Runs to compare, and the images that two of them share."""

from collections import Counter
from pathlib import Path

import pytest

from xpcnn.report import paired
from xpcnn.report.paired import Finished
from xpcnn.report.run import Epochs, Prediction, Run


def finished(name, answers, folder="/data", data="cells", classes=("cat", "dog")):
    """A run with predictions for these images: (image, true class, prediction, digest)."""
    lines = None if answers is None else [Prediction(*answer) for answer in answers]
    arguments = {"working_directory": folder, "data": data}
    counts = Counter((line.true, "test") for line in lines or ())
    run = Run(Path(name), arguments, list(classes), counts, [], 0)
    return Finished(name, run, Epochs(), {"test": {"accuracy": 0.5}}, lines)


def counts(one, other):
    (pair,) = paired.pairs([one, other])
    return pair.shared, pair.both, pair.only_first, pair.only_second


class TestSharedImages:
    def test_each_is_counted_by_who_is_right(self):
        answers = ["cat cat", "cat cat", "cat cat", "cat dog", "cat dog", "dog cat", "dog dog"]
        one, other = (
            finished(name, [(f"{n}.png", "cat", both.split()[side], f"{n:016x}") for n, both in enumerate(answers)])
            for side, name in enumerate(("one", "other"))
        )
        assert counts(one, other) == (7, 3, 2, 1)
        assert counts(other, one) == (7, 3, 1, 2)

    def test_they_are_known_by_their_content(self):
        one = finished("one", [("a/1.png", "cat", "cat", "01"), ("a/2.png", "cat", "cat", "02")])
        other = finished("other", [("b/9.png", "cat", "cat", "02"), ("a/1.png", "cat", "cat", "03")], folder="/else")
        assert counts(one, other) == (1, 1, 0, 0)

    def test_without_digests_by_their_path(self):
        one = finished("one", [("a/1.png", "cat", "cat", "01"), ("a/2.png", "cat", "cat", "02")])
        other = finished("other", [("../a/2.png", "cat", "dog", ""), ("1.png", "cat", "cat", "")], folder="/data/run")
        assert counts(one, other) == (1, 0, 1, 0)

    def test_or_by_their_dataset_and_index(self):
        one, other, third = (
            finished(data, [("7", "cat", "cat", "")], folder, data)
            for folder, data in (("/a", "digits"), ("/b", "digits"), ("/a", "mnist"))
        )
        assert counts(one, other) == (1, 1, 0, 0)
        assert counts(one, third) == (0, 0, 0, 0)

    def test_copies_count_once(self):
        run = [("1.png", "cat", "cat", "01"), ("2.png", "cat", "cat", "01")]
        assert counts(finished("one", run), finished("other", run)) == (1, 1, 0, 0)

    def test_an_image_of_another_class_is_another(self):
        one, other = (finished(name, [("1.png", name, "cat", "01")]) for name in ("cat", "dog"))
        assert counts(one, other) == (0, 0, 0, 0)

    def test_a_class_may_be_written_in_another_unicode_form(self):
        one, other = (finished(n, [("1.png", n, n, "01")], classes=[n]) for n in ("\u00e9", "e\u0301"))
        paired.refuse_incomparable([one, other])
        assert counts(one, other) == (1, 1, 0, 0)

    def test_without_predictions_there_are_none(self):
        assert counts(finished("one", [("1.png", "cat", "cat", "01")]), finished("other", None)) == (0, 0, 0, 0)

    def test_every_two_runs_are_a_pair(self):
        runs = [finished(name, []) for name in "abc"]
        assert [(pair.first.name, pair.second.name) for pair in paired.pairs(runs)] == [*map(tuple, ("ab", "ac", "bc"))]


@pytest.mark.parametrize(("only_first", "only_second", "better"), [(6, 0, 0), (0, 6, 1), (5, 0, None), (0, 0, None)])
def test_the_better_is_right_more_often_than_by_chance(only_first, only_second, better):
    runs = [finished("one", []), finished("other", [])]
    pair = paired.Pair(*runs, 100, 50, only_first, only_second)
    assert pair.better is (None if better is None else runs[better])


def test_many_other_classes_are_counted():
    one, other = (finished(n, [], classes=[f"{n}{i}" for i in range(7)]) for n in "ab")
    with pytest.raises(ValueError, match=r"only 'a' has 'a0', 'a1', 'a2', 'a3', 'a4' and 2 more; only 'b' has 'b0'"):
        paired.refuse_incomparable([one, other])
