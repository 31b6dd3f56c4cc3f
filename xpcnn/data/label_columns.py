"""Tables of images that may have several labels: a column of lists, or a column of 0 and 1 for each class."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xpcnn.data.labels import SEPARATOR
from xpcnn.data.names import nfc
from xpcnn.data.tables import read_headings

#: The column of one label an image, that of several, and those that are no class.
ONE, SEVERAL, OTHERS = "label", "labels", ("path", "part", "group")
#: Other characters that may separate labels, which are refused where no semicolon does.
_OTHER_SEPARATORS = "|,"
_BITS = {"0": False, "1": True, "0.0": False, "1.0": True, "false": False, "true": True}


def columns_of(rows: Any) -> list[str]:
    """Return the names of a table's columns, none for pairs."""
    if isinstance(rows, str | os.PathLike):
        return read_headings(rows)
    if hasattr(rows, "columns") or isinstance(rows, Mapping):
        return [*map(str, rows.columns if hasattr(rows, "columns") else rows)]
    return [*map(str, rows[0])] if rows and isinstance(rows[0], Mapping) else []


def class_columns(table: str, columns: Sequence[str]) -> list[str] | None:
    """Return the columns that are classes; [] for a column of lists, and None if each image has one label.

    Raises ValueError for a column of one label beside one of several, for a single class, and for a name that contains
    the separator of labels.
    """
    small = [column.lower() for column in columns]
    if ONE in small and SEVERAL in small:
        raise ValueError(f"{table} has a column {ONE} and a column {SEVERAL}. Keep the one that is meant.")
    if SEVERAL in small:
        return []
    found = [column for column in columns if column.lower() not in OTHERS]
    if ONE in small or "path" not in small or not found:
        return None
    if len(found) == 1:
        raise ValueError(
            f"{table} has one column beside the paths, {found[0]!r}, and neither {ONE} nor {SEVERAL}. Call it {ONE} if "
            f"each image has one, such as {found[0]!r} or 'none', and {SEVERAL} if it may have several."
        )
    for name in found:
        if SEPARATOR in name or not name:
            raise ValueError(f"{table} has a column {name!r}. The name of a class needs letters, and no {SEPARATOR!r}.")
    return found


def is_one(where: str, column: str, value: Any) -> bool:
    """Return whether a class column has 1 in a row; ValueError for anything but 0 and 1."""
    bit = _BITS.get(str(value).strip().lower())
    if bit is None:
        raise ValueError(
            f"{where}, has {str(value)[:80]!r} in the column {column!r}. Without a column {ONE} or {SEVERAL}, every "
            "column but path, part and group is a class and holds 0 or 1. Fill it in, or remove the column."
        )
    return bit


def split(value: Any) -> tuple[str, ...]:
    """Return the labels in a cell, each once: a text with semicolons between them, or a list; none if it is empty.

    >>> split("dog; cat;dog"), split(["dog", "cat"]), split(None), split(float("nan"))
    (('dog', 'cat'), ('dog', 'cat'), (), ())
    """
    if isinstance(value, list | tuple | set | frozenset | np.ndarray):
        pieces = [str(one) for one in value]
    else:
        text = as_text(value)
        pieces = [] if text is None else text.split(SEPARATOR)
    return tuple(dict.fromkeys(nfc(piece.strip()) for piece in pieces if piece.strip()))


def refuse_other_separators(table: str, labels: Sequence[tuple[str, ...]]) -> None:
    """Raise ValueError if labels contain another separator, and no image has several."""
    if any(len(some) > 1 for some in labels):
        return
    for label in (label for some in labels for label in some):
        for separator in _OTHER_SEPARATORS:
            if separator in label:
                raise ValueError(
                    f"{table} has {label[:80]!r} in the column {SEVERAL}, and no {SEPARATOR!r} in any row. Separate "
                    f"labels by {SEPARATOR!r}, not by {separator!r}; for one label an image, call the column {ONE}."
                )


def as_text(value: Any) -> str | None:
    """Return a value as text, or None for a missing value: None, NaN, pandas.NA or only whitespace."""
    try:
        missing = value is None or bool(value != value)
    except (TypeError, ValueError):  # pandas.NA is neither equal nor unequal to itself
        missing = True
    return None if missing else nfc(str(value).strip()) or None
