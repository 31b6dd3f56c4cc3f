"""Images with their labels."""

from __future__ import annotations

import os
from collections import Counter
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

    x: uint8 (n, channels, height, width). y: int64 (n,), indices into ``classes``, or (n, classes) of 0 and 1 if an
    image may have several labels. paths: the file of every image, or None. skipped: the files that could not be
    read, each with the reason. parts: "train", "validation" or "test" for every image, or None if the dataset has
    no parts of its own. cache: how the cache was used, or None without one. digests: uint8 (n, 8), of the bytes of
    each file, or of each image if there are no files; None if unknown. facts: the properties of each file, or None.
    groups: the name of the group of every image, such as its patient, or None. passed_over: the number of files
    that are not images, by extension.
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
    groups: list[str] | None = None
    passed_over: Counter[str] = field(default_factory=Counter)

    def take(self, rows: NDArray[np.integer[Any]]) -> LabelledImages:
        """Return the images of ``rows``, integers (k,), in that order, with the same classes and skipped files."""
        return replace(
            self,
            x=self.x[rows],
            y=self.y[rows],
            paths=None if self.paths is None else [self.paths[row] for row in rows.tolist()],
            parts=None if self.parts is None else self.parts[rows],
            digests=None if self.digests is None else self.digests[rows],
            facts=None if self.facts is None else [self.facts[row] for row in rows.tolist()],
            groups=None if self.groups is None else [self.groups[row] for row in rows.tolist()],
        )


def write_skipped_csv(path: str | os.PathLike[str], skipped: Iterable[tuple[Path, str]]) -> None:
    """Write the skipped files, one per line under the heading ``path,reason``."""
    files.write_csv(path, [("path", "reason"), *skipped])
