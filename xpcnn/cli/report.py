"""Rewrite the report of a run from the files in its directory."""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xpcnn.cli import datasets, resume
from xpcnn.data.names import nfc

if TYPE_CHECKING:
    from xpcnn.cli.run_directory import RunDirectory
    from xpcnn.data import LabelledImages, Split
    from xpcnn.model import Sequential
    from xpcnn.report import Report, Shown
    from xpcnn.report.run import Run

    #: The image, label and part of a line of parts.csv; the label is a number, or 0 or 1 for each class.
    Listed = tuple[str, Any, str]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``xpcnn report``."""
    parser.add_argument("run", metavar="RUN", help="the directory of a run, such as runs/train")


def run(options_: argparse.Namespace) -> int:
    """Write the report and print its path."""
    from xpcnn.backend import choose
    from xpcnn.cli.models import load_for_images
    from xpcnn.cli.run_directory import ResumedRun
    from xpcnn.report import Report
    from xpcnn.report.run import read_history, read_metrics, read_run

    with ResumedRun(options_.run) as directory:
        found = read_run(directory.path)
        epochs, metrics = read_history(directory.path), read_metrics(directory.path)
        if not len(epochs):
            raise ValueError(
                f"The run {options_.run!r} has not completed an epoch, so there is nothing to report. "
                f"Resume it: xpcnn train --resume {shlex.quote(options_.run)}"
            )
        models = [directory.path / name for name in ("best.safetensors", "last.safetensors")]
        best, _, classes = load_for_images(str(next(filter(Path.exists, models), models[0])), choose().xp)
        if list(map(nfc, found.classes)) != list(map(nfc, classes)):
            found.classes = list(classes)
        report = Report(found, _find_images(found, best, metrics is not None), repeat(found.arguments), epochs)
        if metrics is None:
            report.write_interrupted()
        else:
            report.finish(metrics, best)
        print(report.path)
    return 0


def during_training(
    directory: RunDirectory, arguments: Mapping[str, Any], images: LabelledImages, split: Split
) -> Report:
    """Return the callback that writes the report of the current run."""
    from xpcnn.report import Report, Shown
    from xpcnn.report.run import read_run

    found = read_run(directory.path, arguments)
    return Report(found, Shown(images, split), repeat(arguments))


def open_in_browser(path: Path) -> None:
    """Open a page in the browser, or report in one line that this failed."""
    import webbrowser

    try:
        opened = webbrowser.open(path.resolve().as_uri())
    except (webbrowser.Error, OSError):
        opened = False
    if not opened:
        print(f"xpcnn train: no browser could be opened; the report is {path}", file=sys.stderr)


def repeat(arguments: Mapping[str, Any]) -> list[str]:
    """Return the words of the command that repeats a run with these arguments."""
    # "copies" has the default of every new run, and "minutes" have become epochs.
    asked = {key: value for key, value in arguments.items() if key not in ("copies", "minutes")}
    *line, dashes, data = resume.as_options(asked)
    return ["xpcnn", "train", *([*line, dashes, data] if data.startswith("-") else [data, *line])]


def _find_images(run: Run, best: Sequential, measured: bool) -> Shown | None:
    """Return the images of a run that the report needs, or None if they are gone.

    measured: whether it also needs the images of an evaluated part.
    """
    import numpy as np

    from xpcnn.data import LabelledImages, Split
    from xpcnn.report import Shown
    from xpcnn.report.run import PARTS

    assert best.preprocessing is not None
    decoding, data, listed = best.preprocessing.decoding, str(run.arguments.get("data", "digits")), _listed(run)
    if data in datasets.NAMED:
        try:
            loaded = datasets.load_data(data, decoding, strict=False, threads=None)
        except OSError:
            return None
        rows = {
            part: [int(image) for image, _, one in listed if one == part and re.fullmatch(r"\d{1,9}", image)]
            for part in PARTS
        }
        listed_rows = [row for part in rows.values() for row in part]
        if not listed_rows or max(listed_rows) >= len(loaded.y):
            return None
        return Shown(loaded, Split(*(np.array(rows[part], dtype=np.int64) for part in PARTS)))
    wanted = _needed(listed, run, measured)
    where = Path(str(run.arguments.get("working_directory", ".")))
    paths = [where / image for image, _, _ in wanted]
    x, kept = _read(paths, decoding)
    if not kept:
        return None
    part_of = np.array([wanted[place][2] for place in kept])
    loaded = LabelledImages(
        x=x,
        y=np.array([wanted[place][1] for place in kept], dtype=np.int64),
        classes=tuple(run.classes),
        paths=[paths[place] for place in kept],
    )
    split = Split(*(np.flatnonzero(part_of == part).astype(np.int64) for part in PARTS))
    return Shown(loaded, split, missing=len(wanted) - len(kept))


def _listed(run: Run) -> list[Listed]:
    """Return the images of a run whose classes it knows."""
    import numpy as np

    from xpcnn.data import labels
    from xpcnn.report.run import images

    number, found = {nfc(name): place for place, name in enumerate(run.classes)}, []
    for image, told, part in images(run.folder):
        names = [*map(nfc, labels.names(told) if run.several_labels else [told])]
        if all(name in number for name in names):
            places = [number[name] for name in names]
            label = np.bincount(places, minlength=len(number)) if run.several_labels else places[0]
            found.append((image, label, part))
    return found


def _needed(listed: list[Listed], run: Run, measured: bool) -> list[Listed]:
    """Return the images that a report shows or evaluates: a sample of the training images, and one evaluated part."""
    import numpy as np

    from xpcnn.report.filters import searched
    from xpcnn.report.galleries import samples

    train = [one for one in listed if one[2] == "train"]
    aside = "test" if any(part == "test" for _, _, part in listed) else "validation"
    evaluated = [one for one in listed if measured and one[2] == aside]
    if run.several_labels:  # only without others, training images are shown
        return evaluated or [train[place] for place in searched(np.arange(len(train)))]
    shown = samples(np.array([label for _, label, _ in train], dtype=np.int64), len(run.classes))
    return [train[place] for places in shown.values() for place in places] + evaluated


def _read(paths: list[Path], decoding: Any) -> tuple[Any, list[int]]:
    """Return the readable images, uint8 (n, channels, height, width), and their indices in ``paths``."""
    import numpy as np

    from xpcnn.data import UndecodableImage
    from xpcnn.data.reading import read_images

    read = {
        place: picture.image
        for place, picture in enumerate(read_images(paths, decoding, progress=True))
        if not isinstance(picture, UndecodableImage)
    }
    return (np.stack([*read.values()]) if read else None), [*read]
