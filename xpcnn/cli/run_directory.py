"""The directory of a run: models, arguments, file lists, history, figures."""

from __future__ import annotations

import argparse
from contextlib import suppress
from itertools import chain, count
from pathlib import Path
from types import TracebackType
from typing import Any

from xpcnn import __version__, files
from xpcnn.data import LabelledImages, Split, write_skipped_csv
from xpcnn.model import Sequential

#: Where runs go that are given no directory.
DEFAULT = Path("runs") / "train"


class RunDirectory:
    """A new directory, made at once so that nobody else takes its name, and taken away again unless it is kept.

    Without a name it is ``runs/train``, ``runs/train-2``, …, the first that is free. Raises FileExistsError where the
    directory named holds files already, OSError where it cannot be made.
    """

    def __init__(self, name: str | None) -> None:
        self._name = name
        self._made: list[Path] = []
        self._kept = False

    def __enter__(self) -> RunDirectory:
        try:
            self.path = self._claim()
        except BaseException:
            self._remove()
            raise
        return self

    def _claim(self) -> Path:
        if self._name is None:
            numbered = (DEFAULT.with_name(f"{DEFAULT.name}-{number}") for number in count(2))
            return next(path for path in chain([DEFAULT], numbered) if self._make(path))
        path = Path(self._name)
        if not self._make(path) and (not path.is_dir() or any(path.iterdir())):
            found = "holds files already" if path.is_dir() else "is a file"
            raise FileExistsError(
                f"The run's directory {self._name!r} {found}. Give --out another; nothing was changed."
            )
        return path

    def _make(self, path: Path) -> bool:
        """Make a directory and those above it; False where there is something of that name."""
        try:
            for parent in reversed(path.parents):
                if not parent.exists():
                    parent.mkdir(exist_ok=True)
                    self._made.append(parent)
            path.mkdir()
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
        if not self._kept:
            self._remove()

    def _remove(self) -> None:
        """Take away the directories that were made, as far as they are empty."""
        for path in reversed(self._made):
            with suppress(OSError):
                path.rmdir()

    def keep(self) -> None:
        """Keep the directory from now on, whatever happens."""
        self._kept = True

    def write_arguments(self, options: argparse.Namespace, model: Sequential) -> None:
        """Write args.json: the arguments, and what decides how the run goes beside them."""
        values: dict[str, Any] = {key: value for key, value in vars(options).items() if key != "command"}
        values |= {
            "version": __version__,
            "computed_by": model.backend,
            "classes": list(model.class_names or ()),
        }
        files.write_json(self.path / "args.json", values)

    def write_lists(self, images: LabelledImages, split: Split) -> None:
        """Write skipped.csv, and parts.csv: which image is in which part, by path or by its number in the set."""
        write_skipped_csv(self.path / "skipped.csv", images.skipped)
        table: list[tuple[object, ...]] = [("image", "class", "part")]
        for part, rows in (("train", split.train), ("validation", split.validation), ("test", split.test)):
            for row in rows.tolist():
                image = images.paths[row] if images.paths else row
                table.append((image, images.classes[images.y[row]], part))
        files.write_csv(self.path / "parts.csv", table)

    def finish_models(self, model: Sequential) -> None:
        """Let the last model be the best where none was chosen on a validation part."""
        best = self.path / "best.safetensors"
        if not best.exists():
            model.save(best)

    def write_metrics(self, results: dict[str, Any]) -> None:
        """Write metrics.json."""
        files.write_json(self.path / "metrics.json", results)
