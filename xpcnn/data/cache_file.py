"""The file of a cache: decoded images, and of which files they are, as safetensors that are written in one pass.

A header of fixed size, which is written last; ``images``, uint8 or float32 (n, channels, height, width); ``index``,
JSON in ASCII: the origin of the whole, and for every file its name, its status, and why it could not be read, or what
was found in it, where its image is the next in ``images``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from xpcnn.data.picture import Facts

Status: TypeAlias = tuple[int, ...]

#: Where the images begin.
_START = 4096
_MOST_INDEX_BYTES = 2**30


class Entry(NamedTuple):
    """One image file: its name, its status (None: not known for sure), why it could not be read, or what it holds."""

    name: str
    status: Status | None
    reason: str | None
    facts: Facts | None


class Layout(NamedTuple):
    """The dtype, uint8 or float32, and the shape (channels, height, width) of every image."""

    dtype: np.dtype[Any]
    shape: tuple[int, int, int]

    @property
    def bytes(self) -> int:
        """Of one image."""
        return self.dtype.itemsize * math.prod(self.shape)


def write(file: BinaryIO, origin: Any, layout: Layout, contents: Iterable[tuple[Entry, bytes | None]]) -> list[Entry]:
    """Write entries, each with the bytes of its image unless it has a reason, as they come; return the entries.

    origin: what :class:`Stored` must be asked for, as JSON can hold.
    """
    file.seek(_START)
    entries, count = [], 0
    for entry, image in contents:
        entries.append(entry)
        if image is not None:
            file.write(image)
            count += 1
    index = json.dumps({"origin": origin, "files": entries}).encode("ascii")
    file.write(index)
    file.seek(0)
    file.write(_head(count, layout, len(index)))
    return entries


class Stored:
    """What a cache file holds, open for reading.

    entries: empty where there is no such file, or it is damaged, or of another origin or layout. is_other: whether
    there is a file of which nothing can be used.
    """

    def __init__(self, path: Path, origin: Any, layout: Layout) -> None:
        self._file = path.open("rb") if path.is_file() else None
        self._layout = layout
        self.entries = [] if self._file is None else _read_entries(self._file, origin, layout)
        self.is_other = self._file is not None and not self.entries
        readable = (entry for entry in self.entries if entry.reason is None)
        self._row_of = {entry.name: row for row, entry in enumerate(readable)}

    def image(self, name: str) -> bytes:
        """Return the bytes of the image of a file, read and not mapped: what is mapped counts as memory in use."""
        assert self._file is not None
        size = self._layout.bytes
        self._file.seek(_START + self._row_of[name] * size)
        return self._file.read(size)

    def images(self) -> NDArray[Any]:
        """Return all images (n, channels, height, width), mapped from the disk, read-only."""
        shape = (len(self._row_of), *self._layout.shape)
        if self._file is None or shape[0] == 0:  # older NumPy cannot map an empty array
            return np.empty(shape, dtype=self._layout.dtype)
        return np.asarray(np.memmap(self._file, self._layout.dtype, "r", _START, shape))

    def close(self) -> None:
        """Close the file; what is mapped stays."""
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> Stored:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _head(count: int, layout: Layout, index_bytes: int) -> bytes:
    """Return what stands before the images."""
    end = count * layout.bytes
    dtype = "U8" if layout.dtype == np.uint8 else "F32"
    tensors = {
        "images": {"dtype": dtype, "shape": [count, *layout.shape], "data_offsets": [0, end]},
        "index": {"dtype": "U8", "shape": [index_bytes], "data_offsets": [end, end + index_bytes]},
    }
    header_size = _START - 8
    return header_size.to_bytes(8, "little") + json.dumps(tensors).encode("ascii").ljust(header_size)


def _read_entries(file: BinaryIO, origin: Any, layout: Layout) -> list[Entry]:
    """Return the entries of a file that :func:`write` wrote with this origin and layout, of any other none."""
    size = file.seek(0, 2)
    file.seek(0)
    head = file.read(_START)
    try:
        header = json.loads(head[8:])
        count, length = header["images"]["shape"][0], header["index"]["shape"][0]
        if type(count) is not int or not 0 <= length <= _MOST_INDEX_BYTES:
            return []
        end = _START + count * layout.bytes
        if head != _head(count, layout, length) or size != end + length:
            return []
        file.seek(end)
        index = json.loads(file.read(length))
        if index["origin"] != origin:
            return []
        entries = [_entry(*fields) for fields in index["files"]]
    except (ValueError, TypeError, LookupError, RecursionError):
        return []
    names = {entry.name for entry in entries}
    whole = len(names) == len(entries) and sum(entry.reason is None for entry in entries) == count
    return entries if whole else []


def _entry(name: object, status: object, reason: object, facts: object) -> Entry:
    """Return an entry of what stands in the index; raise TypeError for anything else."""
    if not isinstance(name, str) or not isinstance(reason, str | None) or not isinstance(status, list | None):
        raise TypeError
    if status is not None and not all(type(number) is int for number in status):
        raise TypeError
    if (reason is None) != isinstance(facts, list):
        raise TypeError
    known = Facts.from_json(facts) if isinstance(facts, list) else None
    return Entry(name, None if status is None else tuple(status), reason, known)
