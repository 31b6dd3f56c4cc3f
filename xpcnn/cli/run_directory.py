"""The directory of a run: models, checkpoint, arguments, file lists, history, metrics."""

from __future__ import annotations

import errno
import os
import platform
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from itertools import chain, count
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from xpcnn import files
from xpcnn.data import LabelledImages, Split, labels, write_skipped_csv
from xpcnn.model import Sequential
from xpcnn.report.results import Predictions
from xpcnn.report.run import PREDICTIONS
from xpcnn.training import checkpoints
from xpcnn.version import __version__

#: Where the directories of runs without --out are.
RUNS = Path("runs")


class RunDirectory(ABC):
    """A directory that only one process at a time writes to, within a ``with`` statement.

    command: the one that writes it.
    """

    #: The directory of all folds or trials, if this is one of them.
    whole: RunDirectory | None = None

    def __init__(self, name: str | None, command: str = "train") -> None:
        self._name = name
        self.command = command

    def __enter__(self) -> RunDirectory:
        self.path = self._claim()
        self._lock = _locked(self.path)
        self._check()
        for path in self.path.iterdir():  # no other process writes here
            if files.is_part(path):
                path.unlink()
        return self

    @abstractmethod
    def _claim(self) -> Path:
        """Return the claimed directory, or raise OSError."""

    @abstractmethod
    def _check(self) -> None:
        """Check again, once no other process can write."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock is not None:
            os.close(self._lock)

    @property
    def checkpoint(self) -> Path:
        """The file that an interrupted run resumes from."""
        return self.path / checkpoints.NAME

    @property
    def can_be_resumed(self) -> bool:
        """Whether the run can be resumed, from a checkpoint or from its start."""
        return (self.path / "args.json").is_file() or self.checkpoint.is_file()

    @property
    def metrics(self) -> Path:
        """The file that is written last."""
        return self.path / "metrics.json"

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.path / "report.html"

    @property
    def skipped(self) -> Path:
        """The list of files that could not be read, where users find it."""
        return self.path / "skipped.csv"

    def write_arguments(self, arguments: Mapping[str, Any]) -> None:
        """Write args.json: the arguments, and whatever else determines the run."""
        files.write_json(self.path / "args.json", arguments)

    def write_lists(self, images: LabelledImages, split: Split) -> None:
        """Write skipped.csv, and parts.csv: the part of each image, by path or by its index in the dataset."""
        write_skipped_csv(self.path / "skipped.csv", images.skipped)
        table: list[tuple[object, ...]] = [("image", "class", "part")]
        for part, rows in (("train", split.train), ("validation", split.validation), ("test", split.test)):
            for row in rows.tolist():
                image = images.paths[row] if images.paths else row
                table.append((image, labels.text(images.y[row], images.classes), part))
        files.write_csv(self.path / "parts.csv", table)

    def write_predictions(self, images: LabelledImages, found: Predictions, digests: bool) -> None:
        """Write predictions.csv: the prediction for each test image, and the digest by which other runs know it."""
        known = images.digests if digests else None
        table: list[tuple[object, ...]] = [PREDICTIONS]
        for row, label, answer, probability in zip(
            found.rows.tolist(), found.labels, found.answers, found.confidence, strict=True
        ):
            image = images.paths[row] if images.paths else row
            digest = "" if known is None else known[row].tobytes().hex()
            names = (labels.text(one, images.classes) for one in (label, answer))
            table.append((image, *names, "" if found.thresholds else f"{probability:.6f}", digest))
        files.write_csv(self.path / "predictions.csv", table)

    def finish_models(self, model: Sequential, chosen: bool) -> None:
        """Make the last model the best, unless one was ``chosen`` by a validation part."""
        best = self.path / "best.safetensors"
        if not (chosen and best.exists()):
            model.save(best)

    def write_metrics(self, results: dict[str, Any]) -> None:
        """Write metrics.json."""
        files.write_json(self.metrics, results)


class NewRun(RunDirectory):
    """A new directory, created at once so that no other process takes its name, and removed if it stays empty.

    Without a name it is the first of ``runs/train``, ``runs/train-2``, … that is free, or those of another command.
    Raises FileExistsError if the named directory contains files, and OSError if it cannot be created.
    """

    def __init__(self, name: str | None, command: str = "train") -> None:
        super().__init__(name, command)
        self._made: list[Path] = []

    def _claim(self) -> Path:
        try:
            return self._make_one()
        except BaseException:
            self._remove()  # not later, when another process may have claimed it
            raise

    def _make_one(self) -> Path:
        if self._name is None:
            numbered = (RUNS / f"{self.command}-{number}" for number in count(2))
            return next(path for path in chain([RUNS / self.command], numbered) if self._make(path))
        path = Path(self._name)
        if not self._make(path):
            self._refuse_what_is_there(path)
        return path

    def _check(self) -> None:
        try:
            self._refuse_what_is_there(self.path)
        except FileExistsError:
            super().__exit__(None, None, None)
            raise

    def _refuse_what_is_there(self, path: Path) -> None:
        if not path.is_dir() or not all(map(files.is_part, path.iterdir())):
            found = "already contains files" if path.is_dir() else "is a file"
            raise FileExistsError(
                f"The run's directory {str(path)!r} {found}. Give another with --out; nothing was changed."
            )

    def _make(self, path: Path) -> bool:
        """Create a directory and its parents; return False if the name is taken."""
        try:
            for parent in reversed(path.parents):
                if not parent.exists():
                    parent.mkdir(exist_ok=True)
                    self._made.append(parent)
            path.mkdir()
            files.sync_folder(path.parent)
        except FileExistsError:
            return False
        except OSError as error:
            raise OSError(
                f"The run's directory {str(path)!r} cannot be created: {error.strerror}. Give another with --out."
            ) from error
        self._made.append(path)
        return True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        self._remove()

    def _remove(self) -> None:
        """Remove the directories that were created, as far as they are empty."""
        for path in reversed(self._made):
            with suppress(OSError):
                path.rmdir()


class ResumedRun(RunDirectory):
    """The directory of an interrupted run. Raises FileNotFoundError if there is none of that name."""

    def _claim(self) -> Path:
        path = Path(str(self._name))
        if not (path / "args.json").is_file() and not (path / checkpoints.NAME).is_file():
            found = "does not contain a run to resume" if path.is_dir() else "is not a run's directory"
            raise FileNotFoundError(
                f"{self._name!r} {found}. Give one that `xpcnn {self.command}` wrote, such as {RUNS / self.command}."
            )
        return path

    def _check(self) -> None:
        """Nothing to check: the files there are the run's own."""


class OtherRank(RunDirectory):
    """The directory as seen by the other processes of a distributed run, which leave writing to the first."""

    def __enter__(self) -> RunDirectory:
        self.path = self._claim()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to release."""

    def _claim(self) -> Path:
        return Path(str(self._name))

    def _check(self) -> None:
        """Nothing to check."""

    def write_arguments(self, arguments: Mapping[str, Any]) -> None:
        """Left to the first process."""

    def write_lists(self, images: LabelledImages, split: Split) -> None:
        """Left to the first process."""

    def finish_models(self, model: Sequential, chosen: bool) -> None:
        """Left to the first process."""


def about(model: Sequential, images: int, weights: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the fields of args.json and the checkpoint besides the arguments.

    images: to train on, in all epochs. weights: what identifies those that the run started from.
    """
    return {
        "version": __version__,
        "computed_by": str(model.network.for_run(images, training=True).__name__),
        "classes": list(model.class_names or ()),
        "several_labels": model.thresholds is not None,
        "weights": weights,
        "working_directory": os.getcwd(),
        "decoding": None if model.preprocessing is None else model.preprocessing.decoding.to_json(),
        "environment": {
            "python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
            "numpy": np.__version__,
            "processors": os.cpu_count(),
        },
    }


def _locked(path: Path) -> int | None:
    """Return a file descriptor that locks a directory until it is closed or its process ends, even if killed.

    None if the system has no such locks. Raises BlockingIOError if another process holds the lock.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            raise BlockingIOError(
                f"Another process is writing to the run's directory {str(path)!r}. Wait for it to end, or stop it."
            ) from error
        return None  # on some network file systems
    return descriptor
