"""What a folder holds: its class folders and its image files, in natural order."""

from __future__ import annotations

import os
import re
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


def image_files(class_folder: Path) -> list[Path]:
    """Return the image files at any depth, in natural order."""

    def refuse(error: OSError) -> NoReturn:
        raise error

    found: list[Path] = []
    for place, folders, files in os.walk(class_folder, onerror=refuse):
        folders[:] = [name for name in folders if not _is_foreign(name)]
        found += [Path(place, name) for name in files if Path(name).suffix.lower() in EXTENSIONS]
    return sorted(found, key=lambda path: natural_key(path.as_posix()))
