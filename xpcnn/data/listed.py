"""Images listed in a table instead of class folders: a DataFrame, rows, or a CSV file."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xpcnn.data.folders import PART_NAMES, ImageFolder, check_folder
from xpcnn.data.label_columns import (
    ONE,
    SEVERAL,
    as_text,
    class_columns,
    columns_of,
    is_one,
    refuse_other_separators,
    split,
)
from xpcnn.data.labels import SEPARATOR
from xpcnn.data.listing import natural_key
from xpcnn.data.names import OnDisk, compared, nfc
from xpcnn.data.tables import check_columns, read_table

_OPTIONAL = ("part", "group")
_PARTS = ("train", "validation", "test")


class _Entry(NamedTuple):
    """A row of a table: its position and its fields; labels: one, or any number where an image may have several."""

    where: str
    path: str
    labels: tuple[str, ...]
    part: str | None
    group: str | None


def from_table(
    rows: Any, root: str | os.PathLike[str] = ".", training: bool = True, known: Sequence[str] = ()
) -> ImageFolder:
    """List the images of a table, none of them opened yet, for :func:`xpcnn.data.load`.

    rows: a pandas or polars DataFrame or another mapping of columns; an iterable of mappings or of (path, label) pairs;
    or the path of a CSV file, with commas, semicolons or tabs. The columns are ``path`` and ``label``, whose values are
    converted to text, and optionally ``part`` ("train", "val", "valid", "validation", "test") and ``group``, such as a
    patient. root: the folder that paths are relative to. training: as in :func:`xpcnn.data.scan`.

    If an image may have several labels, or none, the table has either a column ``labels`` in place of ``label``, with
    semicolons between the labels of a cell, or a column of 0 and 1 for each class. The labels of the result are then
    int64 (n, classes) of 0 and 1. known: the classes of a model to evaluate, for each of which such a table needs a
    column.

    Classes and files are in natural order, as in :func:`xpcnn.data.scan`, whatever the order of the rows. A path is
    found in any Unicode form. A missing file counts as one that cannot be read: ``load`` skips and lists it. A path
    listed again with the same label is used once, with a warning.

    Raises ValueError, naming the row (the first is row 0), if a path or a label is missing, a path has two labels in
    different rows, two parts or two groups, only some rows have a part or group, there are fewer than two classes, or a
    class has no training images. Raises FileNotFoundError if none of the files exists.
    """
    root = check_folder(root)
    table = repr(str(rows)) if isinstance(rows, str | os.PathLike) else "The table"
    if not (isinstance(rows, str | os.PathLike | Mapping) or hasattr(rows, "columns")):
        rows = [*rows]
    columns = class_columns(table, columns_of(rows))
    entries = _distinct((_entry(row, columns) for row in _values(rows, columns)), root)
    parts, groups = _all_or_none(entries, "part"), _all_or_none(entries, "group")
    named = {label for entry in entries for label in entry.labels} | set(map(nfc, columns or ()))
    classes = tuple(sorted(named, key=natural_key))
    if len(classes) < (2 if training else 1):
        found = f"only one class, {classes[0]!r}" if classes else "no image" if columns is None else "no label"
        raise ValueError(f"{table} lists {found}. List images{' of at least two classes' if training else ''}.")
    missing = [name for name in known if columns and nfc(name) not in classes]
    if missing:
        raise ValueError(
            f"{table} has no column for the class {missing[0]!r} of the model, so that nobody knows which images have "
            "it. Add the column."
        )
    if columns == []:
        refuse_other_separators(table, [entry.labels for entry in entries])
    on_disk = OnDisk(root)
    paths = [on_disk.find(entry.path) for entry in entries]
    if not any(map(os.path.exists, paths)):
        raise FileNotFoundError(
            f"None of the {len(paths)} files that {table} lists exists. The first: {paths[0]}. Paths are relative "
            f"to {root}."
        )
    number = {name: place for place, name in enumerate(classes)}
    keys = [
        (
            _PARTS.index(entry.part or "train"),
            number[entry.labels[0]] if columns is None else 0,
            natural_key(path.as_posix()),
        )
        for entry, path in zip(entries, paths, strict=True)
    ]
    order = sorted(range(len(entries)), key=keys.__getitem__)
    trained = {label for entry in entries if entry.part in (None, "train") for label in entry.labels}
    for label in classes if training else ():
        if label not in trained:
            first = next((entry for entry in entries if label in entry.labels), None)
            if first is None:
                raise ValueError(f"{table} lists no image with the label {label!r}. Remove its column, or add images.")
            raise ValueError(
                f"{table} lists images of the class {label!r} in the part {first.part} ({first.where}) but none "
                "to train on."
            )
    numbers = [[number[label] for label in entries[row].labels] for row in order]
    return ImageFolder(
        classes,
        [paths[row] for row in order],
        np.array(numbers, dtype=np.int64)[:, 0] if columns is None else _as_bits(numbers, len(classes)),
        None if parts is None else np.array([parts[row] for row in order]),
        root,
        None if groups is None else [groups[row] for row in order],
    )


def _as_bits(numbers: Sequence[Sequence[int]], classes: int) -> NDArray[np.int64]:
    bits = np.zeros((len(numbers), classes), dtype=np.int64)
    for row, some in zip(bits, numbers, strict=True):
        row[some] = 1
    return bits


def _values(rows: Any, columns: Sequence[str] | None) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Yield the position of each row, and its path, part, group and the cells of its labels.

    columns: those that are classes, [] for a column of lists, None for one label an image.
    """
    required = ("path", *(columns or [ONE if columns is None else SEVERAL]))
    fields = (*required, *_OPTIONAL)
    if isinstance(rows, str | os.PathLike):
        small = [required[0], *(name.lower() for name in required[1:])]
        yield from ((f"{str(rows)!r}, {where}", values) for where, values in read_table(rows, small, _OPTIONAL))
    elif hasattr(rows, "columns") or isinstance(rows, Mapping):
        names = list(rows.columns if hasattr(rows, "columns") else rows)
        check_columns("The table", names, required, _OPTIONAL)
        values = [rows[name] if name in names else repeat(None) for name in fields]
        yield from ((f"Row {number}", one) for number, one in enumerate(zip(*values, strict=False)))
    else:
        yield from ((f"Row {number}", _fields(number, row, required)) for number, row in enumerate(rows))


def _fields(number: int, row: Any, required: Sequence[str]) -> tuple[Any, ...]:
    if isinstance(row, Mapping):
        check_columns(f"Row {number}", list(row), required, _OPTIONAL)
        return tuple(row.get(name) for name in (*required, *_OPTIONAL))
    if isinstance(row, tuple | list) and len(row) == len(required) == 2 and required[1] == ONE:
        return (*row, None, None)
    raise ValueError(
        f"Row {number} is neither a mapping nor a (path, label) pair. Received: {str(row)[:80]!r}, "
        f"{type(row).__name__}."
    )


def _entry(row: tuple[str, tuple[Any, ...]], columns: Sequence[str] | None) -> _Entry:
    where, (path, *cells, part, group) = row
    if not isinstance(path, str | os.PathLike) or not (name := os.fspath(path)) or "\0" in name:
        raise ValueError(f"{where}, has no path. Received: {path!r}.")
    labels = _one_label(where, name, cells[0]) if columns is None else split(cells[0])
    if columns:
        labels = tuple(nfc(column) for column, cell in zip(columns, cells, strict=True) if is_one(where, column, cell))
    part = as_text(part)
    if part is not None and part.casefold() not in PART_NAMES:
        raise ValueError(f"{where}, has the unknown part {part!r}. Expected one of: {', '.join(PART_NAMES)}.")
    return _Entry(where, name, tuple(sorted(labels)), part and PART_NAMES[part.casefold()], as_text(group))


def _one_label(where: str, name: str, value: Any) -> tuple[str, ...]:
    if (label := as_text(value)) is None:
        raise ValueError(f"{where}, gives {name!r} no label. Received: {value!r}. Label it, or remove the row.")
    if SEPARATOR in label:
        raise ValueError(
            f"{where}, gives {name!r} the label {label[:80]!r}. If these are several, call the column {SEVERAL}; the "
            f"name of a class has no {SEPARATOR!r}."
        )
    return (label,)


def _distinct(entries: Iterable[_Entry], root: Path) -> list[_Entry]:
    """Return one entry per path; raises ValueError if two of them contradict each other."""
    first: dict[str, _Entry] = {}
    again: list[_Entry] = []
    several = f", or list several labels in one row, in a column {SEVERAL} with {SEPARATOR!r} between them"
    for entry in entries:
        known = first.setdefault(compared(entry.path, root), entry)
        if known is entry:
            continue
        again.append(entry)
        for what in ("labels", "part", "group"):
            one, other = getattr(known, what), getattr(entry, what)
            if one != other:
                if what == "labels":
                    what, one, other = "label", SEPARATOR.join(one), SEPARATOR.join(other)
                raise ValueError(
                    f"{entry.where}, gives {entry.path!r} the {what} {other!r}, and {known.where} the {what} {one!r}. "
                    f"Keep one of them{several if what == 'label' else ''}."
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
