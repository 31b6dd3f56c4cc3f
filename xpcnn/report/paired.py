"""Finished runs to compare, and what two of them predicted for the same test images."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from xpcnn import metrics
from xpcnn.data import labels
from xpcnn.data.names import nfc
from xpcnn.report.run import (
    Epochs,
    Prediction,
    Run,
    number,
    read_history,
    read_metrics,
    read_predictions,
    read_run,
)

#: A smaller p-value counts as a difference.
SIGNIFICANT = 0.05


@dataclass
class Finished:
    """A finished run: the name it was given by, the content of its files, and its test predictions, None without."""

    name: str
    run: Run
    epochs: Epochs
    metrics: dict[str, Any]
    predictions: list[Prediction] | None

    def figure(self, part: str, name: str) -> float | None:
        """Return a part's metric from metrics.json, None if there is none."""
        figures = self.metrics.get(part)
        return number(figures.get(name)) if isinstance(figures, dict) else None

    def f1_interval(self) -> tuple[float, float] | None:
        """Return the 95 % interval of the test macro F1 of several labels, None without predictions or mistakes."""
        if not self.run.several_labels or not self.predictions:
            return None
        column = {name: place for place, name in enumerate(sorted(self.run.classes, key=nfc))}  # as in any other run
        bits = np.zeros((2, len(self.predictions), len(column)), bool)
        for place, line in enumerate(self.predictions):
            for which, told in enumerate((line.true, line.predicted)):
                bits[which, place, [column[name] for name in labels.names(told)]] = True
        drawn_from = bits[0].any() and (bits[0] != bits[1]).any()
        return metrics.macro_f1_interval(*bits) if drawn_from else None

    def f1_of_labels(self) -> dict[str, float | None]:
        """Return the test F1 of each label, by its name in Unicode's composed form."""
        figures = self.metrics.get("test")
        rows = figures.get("classes") if isinstance(figures, dict) else None
        known = {nfc(name) for name in self.run.classes}
        return {
            nfc(row["class"]): number(row.get("f1"))
            for row in (rows if isinstance(rows, list) else [])
            if isinstance(row, dict) and isinstance(row.get("class"), str) and nfc(row["class"]) in known
        }

    def interval(self) -> tuple[float, float] | None:
        """Return the 95 % interval of the test accuracy, None without a test part."""
        accuracy, count = self.figure("test", "accuracy"), self.run.part("test")
        return None if accuracy is None else metrics.wilson_interval(round(accuracy * count), count)


@dataclass(frozen=True)
class Pair:
    """Two runs, and the numbers of test images that they share and that one alone, or both, predicted correctly."""

    first: Finished
    second: Finished
    shared: int
    both: int
    only_first: int
    only_second: int

    @property
    def p(self) -> float:
        """The p-value of McNemar's test."""
        return metrics.mcnemar(self.only_first, self.only_second)

    @property
    def better(self) -> Finished | None:
        """The better run, None if the difference could be chance."""
        if self.p >= SIGNIFICANT:
            return None
        return self.first if self.only_first > self.only_second else self.second


def read(name: str) -> Finished:
    """Read a finished run from its directory.

    Raises FileNotFoundError if there is none, and ValueError if it is not finished, or names a damaged file.
    """
    folder = Path(name)
    if not (folder / "args.json").is_file():
        found = "does not contain a run" if folder.is_dir() else "is not a run's directory"
        raise FileNotFoundError(f"{name!r} {found}. Give directories that `xpcnn train` wrote, such as runs/train.")
    run, epochs, results = read_run(folder), read_history(folder), read_metrics(folder)
    if results is None:
        raise ValueError(f"The run {name!r} is not finished. Finish it: xpcnn train --resume {shlex.quote(name)}")
    predictions = read_predictions(folder, run.classes, run.several_labels)
    one = Finished(name, run, epochs, results, predictions)
    count, accuracy = run.part("test"), one.figure("test", "accuracy")
    if accuracy is None if count else "test" in results:
        raise ValueError(f"{str(folder / 'metrics.json')!r} and parts.csv disagree on a test part. Start a new run.")
    if accuracy is not None and not 0 <= accuracy <= 1:
        raise ValueError(f"{str(folder / 'metrics.json')!r} has a test accuracy of {accuracy:g}. Start a new run.")
    if one.predictions is not None and len(one.predictions) != count:
        raise ValueError(
            f"{str(folder / 'predictions.csv')!r} has {len(one.predictions)} images, and the test part {count}. "
            "Start a new run."
        )
    return one


def refuse_incomparable(runs: list[Finished]) -> None:
    """Raise ValueError for a run that is given twice, or has other classes than the first."""
    places: dict[Path, str] = {}
    for one in runs:
        place = one.run.folder.resolve()
        if place in places:
            raise ValueError(f"{places[place]!r} and {one.name!r} are the same run. Give different ones.")
        places[place] = one.name
    first, *others = runs
    for one in others:
        if one.run.several_labels != first.run.several_labels:
            several, single = (one, first) if one.run.several_labels else (first, one)
            raise ValueError(
                f"{several.name!r} gives an image several labels, and {single.name!r} gives it one class. Compare runs "
                "that both give several, or both one."
            )
    expected = set(map(nfc, first.run.classes))
    for one in others:
        classes = set(map(nfc, one.run.classes))
        if classes != expected:
            told = [
                f"only {run.name!r} has {_listed(names)}"
                for run, names in ((first, expected - classes), (one, classes - expected))
                if names
            ]
            raise ValueError(f"{first.name!r} and {one.name!r} have different classes: {'; '.join(told)}.")


def _listed(names: set[str]) -> str:
    most = 5
    shown = ", ".join(repr(name) for name in sorted(names)[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def pairs(runs: list[Finished]) -> list[Pair]:
    """Return every two runs, with the test images that they share; none if a run has no predictions."""
    return [_pair(one, other) for one, other in combinations(runs, 2)]


def _pair(first: Finished, second: Finished) -> Pair:
    sides = [one.predictions or [] for one in (first, second)]
    by_content = all(line.digest for side in sides for line in side)
    one, other = (
        _answers(side, (lambda line: line.digest) if by_content else _place_of(run))
        for side, run in zip(sides, (first.run, second.run), strict=True)
    )
    right = [(one[key], other[key]) for key in one.keys() & other.keys()]
    return Pair(
        first, second, len(right), right.count((True, True)), right.count((True, False)), right.count((False, True))
    )


def _answers(lines: list[Prediction], key: Callable[[Prediction], str]) -> dict[tuple[str, str], bool]:
    """Return whether each image, known by its key and its labels, was predicted correctly; copies count once."""
    return {
        (key(line), labels.SEPARATOR.join(sorted(map(nfc, labels.names(line.true))))): line.true == line.predicted
        for line in lines
    }


def _place_of(run: Run) -> Callable[[Prediction], str]:
    """Return a function that gives the path of an image, or the dataset and its index there."""
    folder, data = str(run.arguments.get("working_directory", "")), run.arguments.get("data")

    def place(line: Prediction) -> str:
        return f"{data} {line.image}" if line.image.isdigit() else os.path.normpath(os.path.join(folder, line.image))

    return place
