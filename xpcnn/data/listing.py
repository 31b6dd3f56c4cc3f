"""What a folder holds: its class folders and its image files, in natural order."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

#: Files with another extension are not images and not errors.
EXTENSIONS = frozenset(
    [
        *(".avif", ".bmp", ".btf", ".dib", ".gif", ".heic", ".heif", ".hif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg"),
        *(".jpg", ".pam", ".pbm", ".pfm", ".pgm", ".png", ".pnm", ".ppm", ".ras", ".sr", ".tf8", ".tif", ".tiff"),
        ".webp",
    ]
)

#: Files that Windows and macOS put into folders, beside hidden ones.
_OF_THE_SYSTEM = frozenset(["desktop.ini", "icon\r", "thumbs.db"])


def natural_key(name: str) -> tuple[list[str | int], str]:
    """Return the key that sorts names as people do: numbers by value, letters whatever their case.

    >>> sorted(["cell10", "Cell2", "cell1"], key=natural_key)
    ['cell1', 'Cell2', 'cell10']
    """
    # Split by a group, text and digits alternate: an int is never compared with a str.
    pieces = re.split(r"([0-9]+)", name)
    return [int(piece) if odd % 2 else piece.casefold() for odd, piece in enumerate(pieces)], name


def _is_foreign(name: str) -> bool:
    """Whether a folder belongs to a tool, not to the set: hidden ones, and what macOS puts into archives."""
    return name.startswith(".") or name == "__MACOSX"


def subfolders(folder: Path) -> list[Path]:
    """Return the folders in a folder, in natural order, without links that lead back up."""
    here = folder.resolve()
    found = [path for path in folder.iterdir() if not _is_foreign(path.name) and path.is_dir()]
    inside = [path for path in found if not here.is_relative_to(path.resolve())]
    return sorted(inside, key=lambda path: natural_key(path.name))


def class_files(class_folder: Path, recursive: bool = True) -> tuple[list[Path], Counter[str]]:
    """Return the image files of a folder, and of the folders in it if ``recursive``, in natural order, and how many
    others there are of each ending."""

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
    """Return how many files have each ending, in lower case, but for those that belong to the system.

    >>> count_endings(["a.HEIC", "b.heic", "README", ".DS_Store"])
    Counter({'.heic': 2, '': 1})
    """
    own = (name for name in names if not name.startswith(".") and name.lower() not in _OF_THE_SYSTEM)
    return Counter(Path(name).suffix.lower() for name in own)
