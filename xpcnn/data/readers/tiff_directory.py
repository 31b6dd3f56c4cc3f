"""The container of a TIFF file: its header and its chain of directories, whose tags describe the pages.

Every offset and count is checked against the file's size, so that false ones cost neither time nor memory. tifffile
does not help here: it never ends in a cyclic chain of more than 100 pages, half a kilobyte of OME-XML takes gigabytes,
and it omits a tag or page that it can't read, which only its log mentions.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from xpcnn.data.pixels import Refusal

Order: TypeAlias = Literal["<", ">"]

#: The formats of numbers, by the type of the tag: BYTE, SHORT, LONG, LONG8, and the two of offsets.
_NUMBERS: Final = {1: "u1", 3: "u2", 4: "u4", 16: "u8", 13: "u4", 18: "u8"}
_TEXTS: Final = (1, 2, 7)
#: The most pages or planes read from one file; each takes time and memory, however small it is.
MOST_PAGES: Final = 100_000
#: 2**27 pixels in tiles of 8 x 8.
_MOST_NUMBERS: Final = 2**21


@dataclass(frozen=True, eq=False)
class Directory:
    """One page's tags, read on access.

    content: the whole file. order: "<" or ">". big: whether it is a BigTIFF. made: a cache of what was derived from it,
    for repeated use, as by thousands of planes.
    """

    content: NDArray[np.uint8]
    order: Order
    big: bool
    entries: NDArray[Any]
    made: dict[str, Any] = field(default_factory=dict)

    def __contains__(self, tag: int) -> bool:
        return tag in self._tags

    def numbers(self, tag: int) -> list[int]:
        """Return the integers of a tag; [] if it is missing."""
        found = self._find(tag)
        if found is None:
            return []
        kind, count, _ = found
        if kind not in _NUMBERS or count > _MOST_NUMBERS or self._tags.count(tag) > 1:
            raise Refusal(f"it is damaged: its tag {tag}, of {count} values of type {kind}, is invalid")
        numbers: list[int] = self._bytes(tag, found, _NUMBERS[kind]).view(self.order + _NUMBERS[kind]).tolist()
        return numbers

    def number(self, tag: int, default: int) -> int:
        """Return the first integer of a tag, or the default if it is missing."""
        numbers = self.numbers(tag)
        return numbers[0] if numbers else default

    def text(self, tag: int) -> str:
        """Return the text of a tag up to its first zero byte, "" if it is missing; of several, as Micro-Manager writes
        them, the first."""
        found = self._find(tag)
        if found is None or found[0] not in _TEXTS:
            return ""
        return self.data(tag).split(b"\0", 1)[0].decode("utf-8", "replace").strip()

    def data(self, tag: int) -> bytes:
        """Return the raw bytes of a tag."""
        found = self._find(tag)
        return b"" if found is None else self._bytes(tag, found, "u1").tobytes()

    def _find(self, tag: int) -> tuple[int, int, NDArray[np.uint8]] | None:
        tags = self._tags
        if tag not in tags:
            return None
        entry = self.entries[tags.index(tag)]
        return int(entry["type"]), int(entry["count"]), entry["value"]

    @property
    def _tags(self) -> list[int]:
        tags: list[int] = self.entries["tag"].tolist()
        return tags

    def _bytes(self, tag: int, found: tuple[int, int, NDArray[np.uint8]], dtype: str) -> NDArray[np.uint8]:
        _, count, inline = found
        size = count * np.dtype(dtype).itemsize
        if size <= inline.size:
            return inline[:size]
        start = int(inline.view(self.order + ("u8" if self.big else "u4"))[0])
        if start + size > self.content.size:
            raise Refusal(f"it is truncated or damaged: its tag {tag} lies beyond its end")
        return self.content[start : start + size]


def read_directories(content: NDArray[np.uint8]) -> list[Directory]:
    """Return the directories of all pages in order; raise Refusal if the chain is broken."""
    orders: dict[bytes, Order] = {b"II": "<", b"MM": ">"}
    order = orders.get(content[:2].tobytes())
    version = _integer(content, 2, f"{order}u2") if order else 0
    if order is None or version not in (42, 43):
        raise Refusal("it is not a TIFF file")
    big = version == 43
    if big and (_integer(content, 4, f"{order}u2"), _integer(content, 6, f"{order}u2")) != (8, 0):
        raise Refusal("it is damaged: its BigTIFF header is invalid")
    count_type, word = (f"{order}u8", f"{order}u8") if big else (f"{order}u2", f"{order}u4")
    entry = np.dtype(
        [("tag", f"{order}u2"), ("type", f"{order}u2"), ("count", word), ("value", "u1", (8 if big else 4,))]
    )
    directories: list[Directory] = []
    left = content.size
    offset = _integer(content, 8 if big else 4, word)
    while offset:
        start = offset + np.dtype(count_type).itemsize
        size = _integer(content, offset, count_type) * entry.itemsize
        after = start + size
        left -= after - offset
        if left < 0:  # also for a cyclic chain
            raise Refusal("it is truncated or damaged: its directories are larger than itself")
        offset = _integer(content, after, word)
        directories.append(Directory(content, order, big, content[start:after].view(entry)))
        if len(directories) > MOST_PAGES:
            raise Refusal(f"it holds more than {MOST_PAGES} pages")
    if not directories:
        raise Refusal("it holds no page")
    return directories


def _integer(content: NDArray[np.uint8], offset: int, dtype: str) -> int:
    """Read one integer from the file."""
    data = content[offset : offset + np.dtype(dtype).itemsize]
    if data.size != np.dtype(dtype).itemsize:
        raise Refusal("it is truncated: its directories lie beyond its end")
    return int(data.view(dtype)[0])
