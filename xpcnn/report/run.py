"""Reading the files of a run's directory: its arguments, images, epochs and metrics."""

from __future__ import annotations

import csv
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from xpcnn.data import labels

#: Larger files are refused unread; lists of images are read line by line, and may be longer.
MOST_BYTES = 2**26
MOST_BYTES_OF_A_LIST = 2**31
#: The most skipped files to name; the others are counted.
MOST_SKIPPED = 50
PARTS = ("train", "validation", "test")
#: The columns of predictions.csv.
PREDICTIONS = ("image", "class", "predicted", "probability", "digest")


@dataclass
class Epochs:
    """The history: a column per quantity, with one value per epoch, and the number of the first epoch."""

    columns: dict[str, list[float]] = field(default_factory=dict)
    first: int = 1

    def __len__(self) -> int:
        return len(self.columns.get("loss", ()))

    @property
    def numbers(self) -> list[int]:
        """The numbers of the epochs."""
        return list(range(self.first, self.first + len(self)))

    @classmethod
    def of_history(cls, history: Mapping[str, Any], first: int) -> Epochs:
        """Return the quantities of a history that are one number per epoch."""
        columns = {name: values for name, values in history.items() if all(map(_is_number, values))}
        return cls({name: [_moderate(value) for value in values] for name, values in columns.items()}, first)


@dataclass
class Run:
    """The content of a run's files, without models and images.

    arguments: of args.json. classes: their names. counts: the number of images by (class, part). skipped: the first
    files that could not be read, with the reason, and skipped_count their total number. images: the number of images by
    part, which the counts of classes do not give if an image may have several labels.
    """

    folder: Path
    arguments: dict[str, Any]
    classes: list[str]
    counts: Counter[tuple[str, str]]
    skipped: list[tuple[str, str]]
    skipped_count: int
    images: Counter[str] = field(default_factory=Counter)

    @property
    def several_labels(self) -> bool:
        """Whether an image may have several labels, or none."""
        return bool(self.arguments.get("several_labels"))

    @property
    def total(self) -> int:
        """The number of images in all parts."""
        return sum(map(self.part, PARTS))

    def part(self, part: str) -> int:
        """Return the number of images in a part."""
        return self.images[part] if self.several_labels else sum(self.counts[name, part] for name in self.classes)


class Prediction(NamedTuple):
    """A line of predictions.csv; the digest is empty if the run keeps none."""

    image: str
    true: str
    predicted: str
    digest: str


def read_run(folder: Path, arguments: Mapping[str, Any] | None = None) -> Run:
    """Read parts.csv, skipped.csv and, unless its ``arguments`` are given, args.json.

    Raises ValueError, naming the file, if one is damaged, and OSError.
    """
    arguments = _read_json(folder / "args.json") if arguments is None else dict(arguments)
    if arguments.get("folds") and not arguments.get("fold"):
        raise ValueError(
            f"{str(folder)!r} has a run for each fold. Give one of them, such as {str(folder / 'fold-1')!r}."
        )
    if arguments.get("command") == "tune":
        best = next(folder.glob("trial-*"), folder / "trial-1")
        raise ValueError(f"{str(folder)!r} has the trials of `xpcnn tune`. Give the best one, such as {str(best)!r}.")
    classes = arguments.get("classes")
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise ValueError(f"{str(folder / 'args.json')!r} names no classes. Start a new run.")
    known, several = set(classes), bool(arguments.get("several_labels"))
    counts: Counter[tuple[str, str]] = Counter()
    in_parts: Counter[str] = Counter()
    for _, label, part in images(folder):
        names = labels.names(label) if several else [label]
        counts.update((name, part) for name in names if name in known)
        in_parts[part] += 1
    skipped: list[tuple[str, str]] = []
    count = 0
    for path, reason in _rows(folder / "skipped.csv", ["path", "reason"]):
        count += 1
        if count <= MOST_SKIPPED:
            skipped.append((path, reason))
    return Run(folder, arguments, classes, counts, skipped, count, in_parts)


def images(folder: Path) -> Iterator[tuple[str, str, str]]:
    """Yield the image, class and part of every line of parts.csv."""
    path = folder / "parts.csv"
    for image, name, part in _rows(path, ["image", "class", "part"]):
        if part not in PARTS:
            raise ValueError(f"{str(path)!r} has a part {part[:80]!r}. Expected: {', '.join(PARTS)}. Start a new run.")
        yield image, name, part


def read_predictions(folder: Path, classes: Sequence[str], several: bool = False) -> list[Prediction] | None:
    """Read predictions.csv, or return None if the run has none; raises ValueError if it is damaged.

    several: whether an image may have several labels.
    """
    path = folder / "predictions.csv"
    if not path.exists():
        return None
    known, found = set(classes), []
    for image, true, predicted, _, digest in _rows(path, [*PREDICTIONS]):
        for name in [*labels.names(true), *labels.names(predicted)] if several else (true, predicted):
            if name not in known:
                raise ValueError(f"{str(path)!r} has a class {name[:80]!r} that the run doesn't know. Start a new run.")
        found.append(Prediction(image, true, predicted, digest))
    return found


def read_history(folder: Path) -> Epochs:
    """Read history.csv, or return no epochs if it does not exist yet; raises ValueError if it is damaged."""
    path = folder / "history.csv"
    if not path.exists():
        return Epochs()
    names, *lines = [*_lines(path, MOST_BYTES)] or [[]]
    try:
        columns = {name: [_moderate(float(line[place])) for line in lines] for place, name in enumerate(names)}
        numbers = columns.pop("epoch")
        if "loss" not in columns:
            raise ValueError("it has no loss column")
        first = int(numbers[0]) if numbers else 1
    except (ValueError, IndexError, KeyError, OverflowError) as error:
        raise ValueError(f"{str(path)!r} is not a run's history ({_first_line(error)}). Start a new run.") from error
    return Epochs(columns, first)


def read_metrics(folder: Path) -> dict[str, Any] | None:
    """Read metrics.json, or return None if the run is not finished; raises ValueError if it is damaged."""
    path = folder / "metrics.json"
    return _read_json(path) if path.exists() else None


def number(value: Any) -> float | None:
    """Return a finite number from a file, None for anything else."""
    return float(value) if _is_number(value) and math.isfinite(value) and abs(value) < 1e100 else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _moderate(value: float) -> float:
    """Return a value that can be drawn: an extreme one becomes NaN, which leaves a gap."""
    return value if abs(value) < 1e100 else math.nan


def _read_json(path: Path) -> dict[str, Any]:
    try:
        _check_size(path, MOST_BYTES)
        value = json.loads(path.read_bytes())
        if not isinstance(value, dict):
            raise ValueError(f"it contains {type(value).__name__} instead of an object")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{str(path)!r} cannot be read ({_first_line(error)}). Start a new run.") from error
    return value


def _rows(path: Path, headings: list[str]) -> Iterator[list[str]]:
    """Yield the lines of a list below its headings, none if the file does not exist."""
    if not path.exists():
        return
    lines = _lines(path, MOST_BYTES_OF_A_LIST)
    if next(lines, None) != headings:
        raise ValueError(f"{str(path)!r} does not start with {','.join(headings)}. Start a new run.")
    for line in lines:
        if len(line) != len(headings):
            raise ValueError(f"{str(path)!r} has a line of {len(line)} fields, not {len(headings)}. Start a new run.")
        yield line


def _lines(path: Path, most: int) -> Iterator[list[str]]:
    _check_size(path, most)
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
            yield from csv.reader(file)
    except csv.Error as error:
        raise ValueError(f"{str(path)!r} is not a table ({_first_line(error)}). Start a new run.") from error


def _check_size(path: Path, most: int) -> None:
    if path.stat().st_size > most:
        raise ValueError(f"{str(path)!r} is larger than {most:,} bytes, the limit for it. Start a new run.")


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]
