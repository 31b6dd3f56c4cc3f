"""A set of images with their labels."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpcnn import files
from xpcnn.data.cache import CacheUse
from xpcnn.data.picture import Facts


@dataclass(eq=False)
class LabelledImages:
    """Images, their labels, and where they came from.

    x: uint8 (n, channels, height, width). y: int64 (n,), indices into ``classes``. paths: the file of every
    image, or None. skipped: the files that could not be read, each with the reason. parts: "train",
    "validation" or "test" for every image, or None where the set has no parts of its own. cache: what the cache was
    good for, or None where none was asked for. digests: uint8 (n, 8), of the bytes of each file, or of each image where
    there are no files; None where they are not known. facts: what was found in each file, or None.
    """

    x: NDArray[np.uint8]
    y: NDArray[np.int64]
    classes: tuple[str, ...]
    paths: list[Path] | None = None
    skipped: list[tuple[Path, str]] = field(default_factory=list)
    parts: NDArray[np.str_] | None = None
    cache: CacheUse | None = None
    digests: NDArray[np.uint8] | None = None
    facts: list[Facts] | None = None

    def take(self, rows: NDArray[np.integer[Any]]) -> LabelledImages:
        """Return the images of ``rows``, integers (k,), in that order; classes and skipped stay."""
        return replace(
            self,
            x=self.x[rows],
            y=self.y[rows],
            paths=None if self.paths is None else [self.paths[row] for row in rows.tolist()],
            parts=None if self.parts is None else self.parts[rows],
            digests=None if self.digests is None else self.digests[rows],
            facts=None if self.facts is None else [self.facts[row] for row in rows.tolist()],
        )


def write_skipped_csv(path: str | os.PathLike[str], skipped: Iterable[tuple[Path, str]]) -> None:
    """Write the files that were skipped, a line each under the heading ``path,reason``."""
    files.write_csv(path, [("path", "reason"), *skipped])
