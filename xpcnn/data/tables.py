"""Reading tables saved by spreadsheets: CSV with commas, semicolons or tabs, under one line of headings."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

#: Larger files are refused before they are read.
MOST_BYTES = 2**26
#: The most characters of a table that an error message quotes.
_MOST_CHARACTERS = 200


def read_table(
    path: str | os.PathLike[str], required: Sequence[str], optional: Sequence[str] = ()
) -> Iterator[tuple[str, tuple[str | None, ...]]]:
    """Yield, for each line below the headings, "line 2" and the values of the columns, None for missing ones.

    Headings may be in upper or lower case, and other columns are ignored. Only the first column may contain bytes that
    are not UTF-8, like the paths it holds. Raises OSError, or ValueError, naming the file, if it is not such a table.
    """
    text, is_utf8 = _read(Path(path))
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        headings = [heading.strip().lower() for heading in next(lines, [])]
        places = _places(path, headings, required, optional)
        for line in lines:
            if not any(line):
                continue
            where = f"line {lines.line_num}"
            if any(line[len(headings) :]):
                raise ValueError(
                    f"{str(path)!r} has {len(line)} fields in {where} and {len(headings)} columns. Put quotes around a "
                    f"value that contains {delimiter!r}."
                )
            values = [line[place] if place is not None and place < len(line) else None for place in places]
            if not is_utf8 and any("\udc80" <= letter <= "\udcff" for value in values[1:] for letter in value or ""):
                raise ValueError(f"{str(path)!r} contains text in {where} that is not UTF-8. Save it as UTF-8.")
            yield where, tuple(values)
    except csv.Error as error:
        raise ValueError(f"{str(path)!r} is not a table: {error} in line {lines.line_num}. Save it as CSV.") from error


def read_headings(path: str | os.PathLike[str]) -> list[str]:
    """Return the headings of a table as they are written. Raises the errors of :func:`read_table`."""
    text, _ = _read(Path(path))
    first = text.partition("\n")[0]
    try:
        return [heading.strip() for heading in next(csv.reader([first], delimiter=max(",;\t", key=first.count)), [])]
    except csv.Error as error:
        raise ValueError(f"{str(path)!r} is not a table: {error} in line 1. Save it as CSV.") from error


def _read(path: Path) -> tuple[str, bool]:
    """Return the text of a file, and whether it is valid UTF-8."""
    if path.is_dir():
        raise IsADirectoryError(f"{str(path)!r} is a folder. Give a CSV file.")
    if path.exists() and not path.is_file():
        raise ValueError(f"{str(path)!r} is not a regular file. Give a CSV file.")
    try:
        size = path.stat().st_size
    except FileNotFoundError as error:
        raise FileNotFoundError(f"There is no table {str(path)!r}. Give a CSV file.") from error
    if size > MOST_BYTES:
        raise ValueError(f"{str(path)!r} is larger than {MOST_BYTES:,} bytes, the limit for a table. Split it.")
    text = path.read_bytes().decode("utf-8-sig", errors="surrogateescape")
    if "\0" in text:
        raise ValueError(f"{str(path)!r} is not text in UTF-8. Save it as CSV in UTF-8.")
    return text, not any("\udc80" <= letter <= "\udcff" for letter in set(text))


def _places(
    path: str | os.PathLike[str], headings: list[str], required: Sequence[str], optional: Sequence[str]
) -> list[int | None]:
    """Return the index of each value's column."""
    check_columns(repr(str(path)), headings, required, optional)
    return [headings.index(name) if name in headings else None for name in (*required, *optional)]


def check_columns(table: str, columns: Sequence[str], required: Sequence[str], optional: Sequence[str] = ()) -> None:
    """Raise ValueError, listing the columns found, if a column is missing or duplicated."""
    twice = [name for name in (*required, *optional) if columns.count(name) > 1]
    if twice or not all(name in columns for name in required):
        found = ", ".join(map(str, columns)) or "none"
        also = f", optionally {' and '.join(optional)}" if optional else ""
        raise ValueError(
            f"{table} has the columns {found[:_MOST_CHARACTERS]}. Expected: {' and '.join(required)}{also}, each once."
        )
