"""Cross-validation with ``xpcnn train --folds``: a run for each fold, and what they found together."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from xpcnn import files, metrics
from xpcnn.cli import resume
from xpcnn.cli.run_directory import NewRun, ResumedRun, RunDirectory
from xpcnn.cli.signals import noting_how_to_go_on
from xpcnn.cli.text import accuracy, bounds, printable
from xpcnn.report import paired
from xpcnn.training import checkpoints
from xpcnn.version import __version__


class _NewFold(NewRun):
    """The new directory of a fold; the first one also records the arguments that all share, so that all are resumed."""

    def __init__(self, path: Path, whole: RunDirectory, shared: Mapping[str, Any]) -> None:
        super().__init__(str(path))
        self.whole = whole
        self._shared = shared

    def write_arguments(self, arguments: Mapping[str, Any]) -> None:
        """Write args.json, here and, if there is none yet, in the directory of all folds."""
        assert self.whole is not None
        if not self.whole.can_be_resumed:
            self.whole.write_arguments({**self._shared, "version": __version__, "working_directory": os.getcwd()})
        super().write_arguments(arguments)


def are_in(arguments: Mapping[str, Any]) -> bool:
    """Whether arguments are those of all folds, not of a single one."""
    return arguments.get("folds") is not None and arguments.get("fold") is None


def are_resumed(run: str) -> bool:
    """Whether a run's directory is that of all folds; False if its arguments cannot be read."""
    try:
        recorded = json.loads(Path(run, "args.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(recorded, dict) and are_in(recorded)


def of_fold(arguments: Mapping[str, Any], number: int, folds: int) -> dict[str, Any]:
    """Return the arguments of one fold: its number, and its share of the minutes."""
    own = {**arguments, "folds": folds, "fold": number}
    return own | {"minutes": own["minutes"] / folds} if "minutes" in own else own


def refuse_other_images(
    fold: RunDirectory, whole: RunDirectory, listed: list[list[Any]], decoding: Mapping[str, Any]
) -> None:
    """Raise ValueError if the images of a fold are not those of the first, which may have ended days ago.

    decoding: if it is not that of the first, because the range of values was measured on other training images, the
    same files give other images, which are not compared.
    """
    first = whole.path / "fold-1"
    if first != fold.path and (first / checkpoints.NAME).exists():
        saved = checkpoints.read(first, "Start a new run.")
        alike = resume.decoding_of(saved.record["arguments"])
        same = alike is not None and alike.to_json() == decoding
        resume.refuse_other_images(first, saved, listed, same_parts=False, same_values=same)


def run(
    claimed: RunDirectory,
    recall: Callable[[RunDirectory], dict[str, Any]],
    run_fold: Callable[[RunDirectory, dict[str, Any]], int],
) -> int:
    """Carry out the folds that are not finished, one after the other, and write and print what all found.

    recall: returns the arguments that all share. run_fold: carries out one fold in its directory, given its arguments,
    and returns the exit code.
    """
    with claimed as whole, noting_how_to_go_on(whole):
        shared = recall(whole)
        folds = shared["folds"]
        paths = []
        for number in range(1, folds + 1):
            path = whole.path / f"fold-{number}"
            paths.append(path)
            begun = ResumedRun(str(path))
            begun.whole = whole
            is_begun = (path / "args.json").is_file()
            print(f"fold {number} of {folds}: {printable(str(path))}", flush=True)
            code = run_fold(begun if is_begun else _NewFold(path, whole, shared), of_fold(shared, number, folds))
            if code:
                return code
        _sum_up(whole, paths)
    return 0


def _sum_up(whole: RunDirectory, paths: list[Path]) -> None:
    """Write folds.json, and print it in one line."""
    finished = [paired.read(str(path)) for path in paths]
    accuracies = [one.figure("test", "accuracy") or 0.0 for one in finished]
    counts = [one.run.part("test") for one in finished]
    right = sum(round(accuracy * count) for accuracy, count in zip(accuracies, counts, strict=True))
    images = sum(counts)
    for one in finished:
        if one.run.total != images:
            raise ValueError(
                f"The folds test {images} images, and {one.name!r} has {one.run.total}, so they are not folds "
                "of the same images. Start a new run, without --resume."
            )
    found: dict[str, Any] = {
        "folds": len(paths),
        "accuracies": accuracies,
        "mean_accuracy": statistics.fmean(accuracies),
        "range": [min(accuracies), max(accuracies)],
        "images": images,
        "accuracy": right / images,
        "accuracy_95": metrics.wilson_interval(right, images),
    }
    f1s = [f1 for one in finished if (f1 := one.figure("test", "f1")) is not None]
    if finished[0].run.several_labels and f1s:
        found["mean_f1"] = statistics.fmean(f1s)
    files.write_json(whole.path / "folds.json", found)
    labels = f"mean macro F1 {found['mean_f1']:.4f}; all labels right: " if "mean_f1" in found else ""
    print(
        f"{len(paths)} folds: {labels}mean accuracy {found['mean_accuracy']:.4f} (lowest and highest: "
        f"{bounds(found['range'])}); all {images} images: {accuracy(found)}"
    )
    print(printable(_write_ensemble(whole.path / "ensemble.safetensors", paths)))


def _write_ensemble(path: Path, folds: list[Path]) -> str:
    """Write the mean of all folds' models as one, and return a line that says so, or why it cannot be."""
    from xpcnn import load
    from xpcnn.model.ensemble import ensemble

    try:
        ensemble([load(fold / "best.safetensors", xp="numpy") for fold in folds]).save(path)
        load(path, xp="numpy")  # refuses what is too large for a model file
    except ValueError as error:
        path.unlink(missing_ok=True)
        return f"no model of all folds together, since {error}; use that of a fold"
    return (
        f"model: {path}, which averages the probabilities of all folds; no image is left to test it on, since each one "
        f"has trained {len(folds) - 1} of its {len(folds)} members, so expect at least the mean accuracy of the folds"
    )
