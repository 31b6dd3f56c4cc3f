"""Groups of images that belong together, such as those of one patient or slide, and must stay in one part."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

from xpcnn.data.folders import ImageFolder
from xpcnn.data.names import below, compared, nfc
from xpcnn.data.tables import read_table


def grouped(found: ImageFolder, by: str | os.PathLike[str]) -> ImageFolder:
    """Return an image folder with the group of every file, for :func:`xpcnn.data.stratified_split`.

    by: a regular expression, searched in each path relative to the folder (``class/file.png``), whose first parentheses
    capture the name of the group; or the path of a table, ending in ``.csv`` or ``.tsv``, with the columns ``path``,
    relative to the folder, and ``group``.

    Raises ValueError for an invalid expression or one without parentheses, and for a file with no group or two.
    """
    names = _by_table(found, by) if is_table(by) else _by_pattern(found, pattern(os.fspath(by)))
    groups = [name for name in names if name]
    if len(groups) < len(names):
        first = found.paths[names.index(None if None in names else "")]
        raise ValueError(
            f"{len(names) - len(groups)} of {len(names)} images get no group from {os.fspath(by)!r}, the first is "
            f"{below(first, found.root)}. Give every image a group."
        )
    return replace(found, groups=groups)


def is_table(by: str | os.PathLike[str]) -> bool:
    """Whether groups are given by a table instead of a pattern."""
    return Path(by).suffix.lower() in (".csv", ".tsv") and os.path.isfile(by)


def pattern(by: str) -> re.Pattern[str]:
    """Compile a regular expression that captures a group's name; raises ValueError for any other."""
    try:
        compiled = re.compile(nfc(by))
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"{by!r} is neither a CSV file nor a regular expression ({error}).") from error
    if not compiled.groups:
        raise ValueError(
            f"{by!r} is not an existing CSV file, and as a regular expression it has no parentheses to capture the "
            "group. Use one such as '(patient[0-9]+)'."
        )
    return compiled


def _by_pattern(found: ImageFolder, searched: re.Pattern[str]) -> list[str | None]:
    matches = (searched.search(nfc(below(path, found.root))) for path in found.paths)
    return [match and match[1] for match in matches]


def _by_table(found: ImageFolder, table: str | os.PathLike[str]) -> list[str | None]:
    groups: dict[str, str] = {}
    for where, (path, group) in read_table(table, ("path", "group")):
        if not path or not (name := nfc((group or "").strip())):
            continue  # an image without a group in any row is refused later
        if groups.setdefault(compared(path, found.root), name) != name:
            raise ValueError(f"{os.fspath(table)!r}, {where}, gives {path!r} a second group {name!r}. Keep one.")
    return [groups.get(compared(str(path), ".")) for path in found.paths]
