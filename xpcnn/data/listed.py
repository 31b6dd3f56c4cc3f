"""Images listed in a table instead of class folders: a DataFrame, rows, or a CSV file."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from itertools import repeat
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from xpcnn.data.folders import PART_NAMES, ImageFolder, check_folder
from xpcnn.data.listing import natural_key
from xpcnn.data.names import OnDisk, compared, nfc
from xpcnn.data.tables import check_columns, read_table

_REQUIRED, _OPTIONAL = ("path", "label"), ("part", "group")
_PARTS = ("train", "validation", "test")


class _Entry(NamedTuple):
    """A row of a table: its position and its fields."""

    where: str
    path: str
    label: str
    part: str | None
    group: str | None


def from_table(rows: Any, root: str | os.PathLike[str] = ".", training: bool = True) -> ImageFolder:
    """List the images of a table, none of them opened yet, for :func:`xpcnn.data.load`.

    rows: a pandas or polars DataFrame or another mapping of columns; an iterable of mappings or of (path, label) pairs;
    or the path of a CSV file, with commas, semicolons or tabs. The columns are ``path`` and ``label``, whose values are
    converted to text, and optionally ``part`` ("train", "val", "valid", "validation", "test") and ``group``, such as a
    patient. root: the folder that paths are relative to. training: as in :func:`xpcnn.data.scan`.

    Classes and files are in natural order, as in :func:`xpcnn.data.scan`, whatever the order of the rows. A path is
    found in any Unicode form. A missing file counts as one that cannot be read: ``load`` skips and lists it. A path
    listed again with the same label is used once, with a warning.

    Raises ValueError, naming the row (the first is row 0), if a path or a label is missing, a path has two labels,
    parts or groups, only some rows have a part or group, there are fewer than two classes, or a class has no training
    images. Raises FileNotFoundError if none of the files exists.
    """
    root = check_folder(root)
    table = repr(str(rows)) if isinstance(rows, str | os.PathLike) else "The table"
    entries = _distinct(map(_entry, _values(rows)), root)
    parts, groups = _all_or_none(entries, "part"), _all_or_none(entries, "group")
    classes = tuple(sorted({entry.label for entry in entries}, key=natural_key))
    if len(classes) < (2 if training else 1):
        found = f"only one class, {classes[0]!r}" if classes else "no image"
        raise ValueError(f"{table} lists {found}. List images{' of at least two classes' if training else ''}.")
    on_disk = OnDisk(root)
    paths = [on_disk.find(entry.path) for entry in entries]
    if not any(map(os.path.exists, paths)):
        raise FileNotFoundError(
            f"None of the {len(paths)} files that {table} lists exists. The first: {paths[0]}. Paths are relative "
            f"to {root}."
        )
    number = {name: place for place, name in enumerate(classes)}
    keys = [
        (_PARTS.index(entry.part or "train"), number[entry.label], natural_key(path.as_posix()))
        for entry, path in zip(entries, paths, strict=True)
    ]
    order = sorted(range(len(entries)), key=keys.__getitem__)
    trained = {entry.label for entry in entries if entry.part in (None, "train")}
    for entry in entries if training else ():
        if entry.label not in trained:
            raise ValueError(
                f"{table} lists images of the class {entry.label!r} in the part {entry.part} ({entry.where}) but none "
                "to train on."
            )
    return ImageFolder(
        classes,
        [paths[row] for row in order],
        np.array([number[entries[row].label] for row in order], dtype=np.int64),
        None if parts is None else np.array([parts[row] for row in order]),
        root,
        None if groups is None else [groups[row] for row in order],
    )


def _values(rows: Any) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Yield the position of each row, and its path, label, part and group."""
    if isinstance(rows, str | os.PathLike):
        yield from ((f"{str(rows)!r}, {where}", values) for where, values in read_table(rows, _REQUIRED, _OPTIONAL))
    elif hasattr(rows, "columns") or isinstance(rows, Mapping):
        names = list(rows.columns if hasattr(rows, "columns") else rows)
        check_columns("The table", names, _REQUIRED, _OPTIONAL)
        columns = [rows[name] if name in names else repeat(None) for name in (*_REQUIRED, *_OPTIONAL)]
        yield from ((f"Row {number}", values) for number, values in enumerate(zip(*columns, strict=False)))
    else:
        yield from ((f"Row {number}", _fields(number, row)) for number, row in enumerate(rows))


def _fields(number: int, row: Any) -> tuple[Any, ...]:
    if isinstance(row, Mapping):
        check_columns(f"Row {number}", list(row), _REQUIRED, _OPTIONAL)
        return tuple(row.get(name) for name in (*_REQUIRED, *_OPTIONAL))
    if isinstance(row, tuple | list) and len(row) == 2:
        return (*row, None, None)
    raise ValueError(
        f"Row {number} is neither a mapping nor a (path, label) pair. Received: {str(row)[:80]!r}, "
        f"{type(row).__name__}."
    )


def _entry(row: tuple[str, tuple[Any, ...]]) -> _Entry:
    where, (path, label, part, group) = row
    if not isinstance(path, str | os.PathLike) or not (name := os.fspath(path)) or "\0" in name:
        raise ValueError(f"{where}, has no path. Received: {path!r}.")
    if (text := _text(label)) is None:
        raise ValueError(f"{where}, gives {name!r} no label. Received: {label!r}. Label it, or remove the row.")
    part = _text(part)
    if part is not None and part.casefold() not in PART_NAMES:
        raise ValueError(f"{where}, has the unknown part {part!r}. Expected one of: {', '.join(PART_NAMES)}.")
    return _Entry(where, name, text, part and PART_NAMES[part.casefold()], _text(group))


def _text(value: Any) -> str | None:
    """Return a value as text, or None for a missing value: None, NaN, pandas.NA or only whitespace."""
    try:
        missing = value is None or bool(value != value)
    except (TypeError, ValueError):  # pandas.NA is neither equal nor unequal to itself
        missing = True
    return None if missing else nfc(str(value).strip()) or None


def _distinct(entries: Iterable[_Entry], root: Path) -> list[_Entry]:
    """Return one entry per path; raises ValueError if two of them contradict each other."""
    first: dict[str, _Entry] = {}
    again: list[_Entry] = []
    for entry in entries:
        known = first.setdefault(compared(entry.path, root), entry)
        if known is entry:
            continue
        again.append(entry)
        for what in ("label", "part", "group"):
            one, other = getattr(known, what), getattr(entry, what)
            if one != other:
                raise ValueError(
                    f"{entry.where}, gives {entry.path!r} the {what} {other!r}, and {known.where} the {what} {one!r}. "
                    "Keep one of them."
                )
    if again:
        warnings.warn(
            f"{len(again)} of the rows list a file again, the first {again[0].path!r} ({again[0].where}); "
            "each file is used once",
            stacklevel=3,
        )
    return [*first.values()]


def _all_or_none(entries: list[_Entry], what: str) -> list[str] | None:
    """Return a column, or None if it is empty; raises ValueError if only some rows have a value."""
    column = [getattr(entry, what) for entry in entries]
    lacking = [entry for entry, value in zip(entries, column, strict=True) if value is None]
    if len(lacking) == len(entries):
        return None
    if lacking:
        raise ValueError(
            f"{len(lacking)} of the {len(entries)} rows have no {what} while others do, the first: {lacking[0].where} "
            f"({lacking[0].path}). Give one in every row, or in none."
        )
    return column
