"""Comparing names of files and classes: macOS writes "é" as two characters, most other systems as one."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path


def nfc(name: str) -> str:
    r"""Return a name in Unicode's composed form (NFC), in which names that look the same are equal.

    >>> nfc("e\u0301te\u0301") == "\u00e9t\u00e9"
    True
    """
    return unicodedata.normalize("NFC", name)


def below(path: Path, root: str | os.PathLike[str]) -> str:
    """Return a path relative to a folder, with slashes; a path outside the folder is returned unchanged.

    >>> below(Path("cells/a/1.png"), "cells")
    'a/1.png'
    """
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()


def compared(path: str, root: str | os.PathLike[str]) -> str:
    """Return a key that is equal for paths to the same file relative to a folder, on any system, in NFC."""
    return nfc(os.path.abspath(os.path.join(root, path.replace("\\", "/")))).replace("\\", "/")


class OnDisk:
    """Finds files in a folder by paths written on another system, with backslashes or not in NFC."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._names: dict[Path, dict[str, str]] = {}

    def find(self, path: str) -> Path:
        """Return the path of a file, or where it would be if it existed."""
        if "\\" in path and not os.path.exists(self._root / path):
            path = path.replace("\\", "/")
        whole = self._root / path
        if path.isascii() or os.path.exists(whole):
            return whole
        found = Path(whole.anchor)
        for name in whole.parts[bool(whole.anchor) :]:
            found /= name if os.path.exists(found / name) else self._listed(found).get(nfc(name), name)
        return found

    def _listed(self, folder: Path) -> dict[str, str]:
        """Return the names in a folder, keyed by their composed form."""
        if folder not in self._names:
            try:
                self._names[folder] = {nfc(name): name for name in os.listdir(folder)}
            except OSError:
                self._names[folder] = {}
        return self._names[folder]
