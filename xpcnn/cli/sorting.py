"""Copying images into folders by label: nothing is moved or overwritten."""

from __future__ import annotations

import os
import re
import shutil
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from pathlib import Path

#: Names that Windows reserves for devices, with any extension.
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?")
_UNSAFE = re.compile(r'[<>:"/\\|?*]')
#: The bytes that every file system allows in a name, minus space for a number.
_MOST_BYTES = 200


def folder_names(labels: Sequence[str]) -> dict[str, str]:
    r"""Return a folder name for each label that is safe on every system.

    Separators, characters that Windows forbids and control characters become ``_``, and so do names of only dots;
    reserved names are prefixed with ``_``. Raises ValueError if two labels would share a folder.

    >>> folder_names(["cat", "../x", "CON"])
    {'cat': 'cat', '../x': '.._x', 'CON': '_CON'}
    """
    names = {label: _safe(label) for label in labels}
    first: dict[str, str] = {}
    for label, name in names.items():
        other = first.setdefault(unicodedata.normalize("NFC", name).casefold(), label)
        if other != label:
            raise ValueError(
                f"The labels {other!r} and {label!r} would share the folder {name!r}. Omit --copy-to, and copy by "
                "the printed table instead."
            )
    return names


def _safe(label: str) -> str:
    printable = "".join(c if c.isprintable() else "_" for c in label)
    name = _UNSAFE.sub("_", printable)
    while len(os.fsencode(name)) > _MOST_BYTES:
        name = name[:-1]
    name = name.rstrip(". ") or "_" * max(1, len(label))
    return f"_{name}" if _RESERVED.fullmatch(name) else name


def copy(labelled: Iterable[tuple[str, str]], target: str, folders: Mapping[str, str]) -> int:
    """Copy files into the folders of their labels in ``target``; a second ``1.png`` becomes ``1-2.png``.

    Returns the number of copies. Raises OSError, naming the file, if a copy fails.
    """
    copied = 0
    for source, label in labelled:
        folder = Path(target, folders[label])
        folder.mkdir(parents=True, exist_ok=True)
        _copy_beside(Path(source), folder)
        copied += 1
    return copied


def _copy_beside(source: Path, folder: Path) -> None:
    """Copy a file into a folder under its name or the next free one; a failed copy leaves nothing behind."""
    numbered = (source.name if n == 1 else f"{source.stem}-{n}{source.suffix}" for n in count(1))
    for name in numbered:
        path = folder / name
        try:
            with path.open("xb") as copied:
                try:
                    with source.open("rb") as original:
                        shutil.copyfileobj(original, copied)
                except BaseException:
                    path.unlink(missing_ok=True)
                    raise
        except FileExistsError:
            continue
        shutil.copystat(source, path, follow_symlinks=True)
        return
