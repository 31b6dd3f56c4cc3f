"""The cache file: decoded images and the files they come from, as safetensors written in one pass.

It holds a header of fixed size, written last; ``images``, uint8 or float32 (n, channels, height, width); and ``index``,
ASCII JSON with the origin of the cache and, for every file, its name, its status, and either the reason why it could
not be read or its facts, in which case its image is the next in ``images``.
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

#: The offset of the images.
_START = 4096
_MOST_INDEX_BYTES = 2**30


class Entry(NamedTuple):
    """An image file: its name, its status (None if uncertain), and either why it could not be read or its facts."""

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
        """The bytes of one image."""
        return self.dtype.itemsize * math.prod(self.shape)


def write(file: BinaryIO, origin: Any, layout: Layout, contents: Iterable[tuple[Entry, bytes | None]]) -> list[Entry]:
    """Write entries as they come, each with the bytes of its image unless it has a reason; return the entries.

    origin: any JSON value; :class:`Stored` must be given the same one to read the file.
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
    """The contents of a cache file, open for reading.

    entries: empty if the file is missing or damaged, or has another origin or layout. is_other: whether there is a
    file of which nothing can be used.
    """

    def __init__(self, path: Path, origin: Any, layout: Layout) -> None:
        self._file = path.open("rb") if path.is_file() else None
        self._layout = layout
        self.entries = [] if self._file is None else _read_entries(self._file, origin, layout)
        self.is_other = self._file is not None and not self.entries
        readable = (entry for entry in self.entries if entry.reason is None)
        self._row_of = {entry.name: row for row, entry in enumerate(readable)}

    def image(self, name: str) -> bytes:
        """Return the bytes of one file's image, read instead of mapped: mapped pages count as memory in use."""
        assert self._file is not None
        size = self._layout.bytes
        self._file.seek(_START + self._row_of[name] * size)
        return self._file.read(size)

    def images(self) -> NDArray[Any]:
        """Return all images (n, channels, height, width) as a read-only memory map."""
        shape = (len(self._row_of), *self._layout.shape)
        if self._file is None or shape[0] == 0:  # older NumPy can't map an empty array
            return np.empty(shape, dtype=self._layout.dtype)
        return np.asarray(np.memmap(self._file, self._layout.dtype, "r", _START, shape))

    def close(self) -> None:
        """Close the file; arrays that are mapped remain valid."""
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> Stored:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _head(count: int, layout: Layout, index_bytes: int) -> bytes:
    """Return the bytes before the images."""
    end = count * layout.bytes
    dtype = "U8" if layout.dtype == np.uint8 else "F32"
    tensors = {
        "images": {"dtype": dtype, "shape": [count, *layout.shape], "data_offsets": [0, end]},
        "index": {"dtype": "U8", "shape": [index_bytes], "data_offsets": [end, end + index_bytes]},
    }
    header_size = _START - 8
    return header_size.to_bytes(8, "little") + json.dumps(tensors).encode("ascii").ljust(header_size)


def _read_entries(file: BinaryIO, origin: Any, layout: Layout) -> list[Entry]:
    """Return the entries of a file that :func:`write` wrote with this origin and layout, or [] for any other file."""
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
    """Return an entry from its fields in the index; raise TypeError if they are malformed."""
    if not isinstance(name, str) or not isinstance(reason, str | None) or not isinstance(status, list | None):
        raise TypeError
    if status is not None and not all(type(number) is int for number in status):
        raise TypeError
    if (reason is None) != isinstance(facts, list):
        raise TypeError
    known = Facts.from_json(facts) if isinstance(facts, list) else None
    return Entry(name, None if status is None else tuple(status), reason, known)
