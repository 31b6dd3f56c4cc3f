"""Listing a folder: its class folders and image files, in natural order."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

#: Files with other extensions are neither images nor errors.
EXTENSIONS = frozenset(
    [
        *(".avif", ".bmp", ".btf", ".dib", ".gif", ".heic", ".heif", ".hif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg"),
        *(".jpg", ".pam", ".pbm", ".pfm", ".pgm", ".png", ".pnm", ".ppm", ".ras", ".sr", ".tf8", ".tif", ".tiff"),
        ".webp",
    ]
)

#: Files that Windows and macOS create in folders, besides hidden ones.
_OF_THE_SYSTEM = frozenset(["desktop.ini", "icon\r", "thumbs.db"])


def natural_key(name: str) -> tuple[list[str | int], str]:
    """Return a key that sorts names naturally: numbers by value, letters regardless of case.

    >>> sorted(["cell10", "Cell2", "cell1"], key=natural_key)
    ['cell1', 'Cell2', 'cell10']
    """
    # Splitting by a group alternates text and digits, so an int is never compared with a str.
    pieces = re.split(r"([0-9]+)", name)
    return [int(piece) if odd % 2 else piece.casefold() for odd, piece in enumerate(pieces)], name


def _is_foreign(name: str) -> bool:
    """Whether a folder belongs to a tool, not to the dataset: hidden folders, and those macOS adds to archives."""
    return name.startswith(".") or name == "__MACOSX"


def subfolders(folder: Path) -> list[Path]:
    """Return the subfolders of a folder in natural order, without links that lead back up."""
    here = folder.resolve()
    found = [path for path in folder.iterdir() if not _is_foreign(path.name) and path.is_dir()]
    inside = [path for path in found if not here.is_relative_to(path.resolve())]
    return sorted(inside, key=lambda path: natural_key(path.name))


def class_files(class_folder: Path, recursive: bool = True) -> tuple[list[Path], Counter[str]]:
    """Return a folder's image files in natural order, including subfolders if ``recursive``, and the number of other
    files by extension."""

    def refuse(error: OSError) -> NoReturn:
        raise error

    found: list[Path] = []
    others: list[str] = []
    for place, folders, files in os.walk(class_folder, onerror=refuse):
        folders[:] = [name for name in folders if recursive and not _is_foreign(name)]
        for name in files:
            if Path(name).suffix.lower() in EXTENSIONS:
                found.append(Path(place, name))
            else:
                others.append(name)
    return sorted(found, key=lambda path: natural_key(path.as_posix())), count_endings(others)


def count_endings(names: Iterable[str]) -> Counter[str]:
    """Return the number of files by extension, in lower case, without system files.

    >>> count_endings(["a.HEIC", "b.heic", "README", ".DS_Store"])
    Counter({'.heic': 2, '': 1})
    """
    own = (name for name in names if not name.startswith(".") and name.lower() not in _OF_THE_SYSTEM)
    return Counter(Path(name).suffix.lower() for name in own)
