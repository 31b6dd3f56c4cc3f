"""Names of files and classes as they are compared: macOS writes "é" as two characters, most others as one."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path


def nfc(name: str) -> str:
    r"""Return a name in Unicode's composed form (NFC), in which names that look alike are alike.

    >>> nfc("e\u0301te\u0301") == "\u00e9t\u00e9"
    True
    """
    return unicodedata.normalize("NFC", name)


def below(path: Path, root: str | os.PathLike[str]) -> str:
    """Return a path as it counts from a folder, with slashes; one that does not lie in the folder as it is.

    >>> below(Path("cells/a/1.png"), "cells")
    'a/1.png'
    """
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()


def compared(path: str, root: str | os.PathLike[str]) -> str:
    """Return what tells whether two paths, which count from a folder, are the same: on any system, in NFC."""
    return nfc(os.path.abspath(os.path.join(root, path.replace("\\", "/")))).replace("\\", "/")


class OnDisk:
    """Finds files in a folder by paths that another system may have written: with backslashes, or not in NFC."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._names: dict[Path, dict[str, str]] = {}

    def find(self, path: str) -> Path:
        """Return where a file is, or where it would be if it existed."""
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
        """Return the names in a folder by their composed form."""
        if folder not in self._names:
            try:
                self._names[folder] = {nfc(name): name for name in os.listdir(folder)}
            except OSError:
                self._names[folder] = {}
        return self._names[folder]
