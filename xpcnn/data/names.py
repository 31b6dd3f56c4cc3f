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
