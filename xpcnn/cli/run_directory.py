"""The directory of a run: models, checkpoint, arguments, file lists, history, figures."""

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

from xpcnn import __version__, files
from xpcnn.data import LabelledImages, Split, write_skipped_csv
from xpcnn.model import Sequential
from xpcnn.training import checkpoints

#: Where runs go that are given no directory.
DEFAULT = Path("runs") / "train"


class RunDirectory(ABC):
    """A directory that one process at a time writes into, for as long as the ``with`` lasts."""

    def __init__(self, name: str | None) -> None:
        self._name = name

    def __enter__(self) -> RunDirectory:
        self.path = self._claim()
        self._lock = _locked(self.path)
        self._check()
        for path in self.path.iterdir():  # nobody else writes here
            if files.is_part(path):
                path.unlink()
        return self

    @abstractmethod
    def _claim(self) -> Path:
        """Return the directory, or raise OSError."""

    @abstractmethod
    def _check(self) -> None:
        """Look once more, when nobody else can write any longer."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock is not None:
            os.close(self._lock)

    @property
    def checkpoint(self) -> Path:
        """The file that the run goes on from if it is broken off."""
        return self.path / checkpoints.NAME

    @property
    def can_be_resumed(self) -> bool:
        """Whether there is a run that can be gone on with, from a checkpoint or from its beginning."""
        return (self.path / "args.json").is_file() or self.checkpoint.is_file()

    @property
    def metrics(self) -> Path:
        """The file that is written last."""
        return self.path / "metrics.json"

    @property
    def report(self) -> Path:
        """The page for people."""
        return self.path / "report.html"

    def write_arguments(self, arguments: Mapping[str, Any]) -> None:
        """Write args.json: the arguments, and what decides how the run goes beside them."""
        files.write_json(self.path / "args.json", arguments)

    def write_lists(self, images: LabelledImages, split: Split) -> None:
        """Write skipped.csv, and parts.csv: which image is in which part, by path or by its number in the set."""
        write_skipped_csv(self.path / "skipped.csv", images.skipped)
        table: list[tuple[object, ...]] = [("image", "class", "part")]
        for part, rows in (("train", split.train), ("validation", split.validation), ("test", split.test)):
            for row in rows.tolist():
                image = images.paths[row] if images.paths else row
                table.append((image, images.classes[images.y[row]], part))
        files.write_csv(self.path / "parts.csv", table)

    def finish_models(self, model: Sequential, chosen: bool) -> None:
        """Let the last model be the best, unless one was ``chosen`` on a validation part."""
        best = self.path / "best.safetensors"
        if not (chosen and best.exists()):
            model.save(best)

    def write_metrics(self, results: dict[str, Any]) -> None:
        """Write metrics.json."""
        files.write_json(self.metrics, results)


class NewRun(RunDirectory):
    """A new directory, made at once so that nobody else takes its name, and taken away again if nothing came into it.

    Without a name it is ``runs/train``, ``runs/train-2``, …, the first that is free. Raises FileExistsError where the
    directory named holds files already, OSError where it cannot be made.
    """

    def __init__(self, name: str | None) -> None:
        super().__init__(name)
        self._made: list[Path] = []

    def _claim(self) -> Path:
        try:
            return self._make_one()
        except BaseException:
            self._remove()  # not later: one that is claimed may have been taken by another process meanwhile
            raise

    def _make_one(self) -> Path:
        if self._name is None:
            numbered = (DEFAULT.with_name(f"{DEFAULT.name}-{number}") for number in count(2))
            return next(path for path in chain([DEFAULT], numbered) if self._make(path))
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
            found = "holds files already" if path.is_dir() else "is a file"
            raise FileExistsError(
                f"The run's directory {str(path)!r} {found}. Give --out another; nothing was changed."
            )

    def _make(self, path: Path) -> bool:
        """Make a directory and those above it; False where there is something of that name."""
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
                f"The run's directory {str(path)!r} cannot be made: {error.strerror}. Give --out another."
            ) from error
        self._made.append(path)
        return True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        self._remove()

    def _remove(self) -> None:
        """Take away the directories that were made, as far as they are empty."""
        for path in reversed(self._made):
            with suppress(OSError):
                path.rmdir()


class ResumedRun(RunDirectory):
    """The directory of a run that was broken off. Raises FileNotFoundError where there is none of that name."""

    def _claim(self) -> Path:
        path = Path(str(self._name))
        if not (path / "args.json").is_file() and not (path / checkpoints.NAME).is_file():
            found = "holds no run that can be resumed" if path.is_dir() else "is no run's directory"
            raise FileNotFoundError(f"{self._name!r} {found}. Give one that `xpcnn train` wrote, such as {DEFAULT}.")
        return path

    def _check(self) -> None:
        """Nothing to look at: what is there is its own."""


class OtherRank(RunDirectory):
    """The directory as the other processes of a distributed run see it: it is the first that writes."""

    def __enter__(self) -> RunDirectory:
        self.path = self._claim()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing was taken."""

    def _claim(self) -> Path:
        return Path(str(self._name))

    def _check(self) -> None:
        """Nothing to look at."""

    def write_arguments(self, arguments: Mapping[str, Any]) -> None:
        """Leave that to the first."""

    def write_lists(self, images: LabelledImages, split: Split) -> None:
        """Leave that to the first."""

    def finish_models(self, model: Sequential, chosen: bool) -> None:
        """Leave that to the first."""


def about(model: Sequential) -> dict[str, Any]:
    """Return what args.json and the checkpoint say beside the arguments."""
    return {
        "version": __version__,
        "computed_by": model.backend,
        "classes": list(model.class_names or ()),
        "working_directory": os.getcwd(),
        "decoding": None if model.preprocessing is None else model.preprocessing.decoding.to_json(),
        "environment": {
            "python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
            "numpy": np.__version__,
            "processors": os.cpu_count(),
        },
    }


def _locked(path: Path) -> int | None:
    """Return what holds a lock on a directory until it is closed or its process ends, however it does.

    None where the system has no such locks. Raises BlockingIOError where another process holds it.
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
                f"Another process writes into the run's directory {str(path)!r}. Wait for its end, or stop it."
            ) from error
        return None  # some network file systems
    return descriptor
