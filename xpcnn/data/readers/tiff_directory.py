"""The container of a TIFF file: its header and its chain of directories, whose tags say what a page is.

Every place and count is held against the bytes there are, so that no lie of the file costs time or memory. tifffile is
no help here: a chain in a circle of more than 100 pages never ends, half a kilobyte of OME-XML takes gigabytes, and a
tag or a page that cannot be read is left out, which only its log tells.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from xpcnn.data.pixels import Refusal

Order: TypeAlias = Literal["<", ">"]

#: What numbers are written in, by the type of the tag: BYTE, SHORT, LONG, LONG8, and the two of offsets.
_NUMBERS: Final = {1: "u1", 3: "u2", 4: "u4", 16: "u8", 13: "u4", 18: "u8"}
_TEXTS: Final = (1, 2, 7)
#: How many pages or planes of one file are read; each takes time and memory, however small it is.
MOST_PAGES: Final = 100_000
#: 2**27 pixels in tiles of 8 x 8.
_MOST_NUMBERS: Final = 2**21


@dataclass(frozen=True, eq=False)
class Directory:
    """One page's tags, read when they are asked for.

    content: the whole file. order: "<" or ">". big: whether it is a BigTIFF. made: what was made of it, for whoever
    asks again, as for each of thousands of planes.
    """

    content: NDArray[np.uint8]
    order: Order
    big: bool
    entries: NDArray[Any]
    made: dict[str, Any] = field(default_factory=dict)

    def __contains__(self, tag: int) -> bool:
        return tag in self._tags

    def numbers(self, tag: int) -> list[int]:
        """Return the whole numbers of a tag; none where it is missing."""
        found = self._find(tag)
        if found is None:
            return []
        kind, count, _ = found
        if kind not in _NUMBERS or count > _MOST_NUMBERS or self._tags.count(tag) > 1:
            raise Refusal(f"it is damaged: its tag {tag}, of {count} values of type {kind}, is none that can be")
        numbers: list[int] = self._bytes(tag, found, _NUMBERS[kind]).view(self.order + _NUMBERS[kind]).tolist()
        return numbers

    def number(self, tag: int, default: int) -> int:
        """Return the first whole number of a tag, or what holds where it is missing."""
        numbers = self.numbers(tag)
        return numbers[0] if numbers else default

    def text(self, tag: int) -> str:
        """Return the text of a tag up to its first zero byte; none where it is missing. Of several, as Micro-Manager
        writes them, the first."""
        found = self._find(tag)
        if found is None or found[0] not in _TEXTS:
            return ""
        return self.data(tag).split(b"\0", 1)[0].decode("utf-8", "replace").strip()

    def data(self, tag: int) -> bytes:
        """Return the bytes of a tag as they are."""
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
    """Return the directories of all pages, as they follow each other; raise Refusal where the chain is broken."""
    orders: dict[bytes, Order] = {b"II": "<", b"MM": ">"}
    order = orders.get(content[:2].tobytes())
    version = _integer(content, 2, f"{order}u2") if order else 0
    if order is None or version not in (42, 43):
        raise Refusal("it is no TIFF file")
    big = version == 43
    if big and (_integer(content, 4, f"{order}u2"), _integer(content, 6, f"{order}u2")) != (8, 0):
        raise Refusal("it is damaged: its BigTIFF header is none")
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
        if left < 0:  # a chain that runs in a circle, too
            raise Refusal("it is truncated or damaged: its directories are larger than itself")
        offset = _integer(content, after, word)
        directories.append(Directory(content, order, big, content[start:after].view(entry)))
        if len(directories) > MOST_PAGES:
            raise Refusal(f"it holds more than {MOST_PAGES} pages")
    if not directories:
        raise Refusal("it holds no page")
    return directories


def _integer(content: NDArray[np.uint8], offset: int, dtype: str) -> int:
    """Return one whole number out of the file."""
    data = content[offset : offset + np.dtype(dtype).itemsize]
    if data.size != np.dtype(dtype).itemsize:
        raise Refusal("it is truncated: its directories lie beyond its end")
    return int(data.view(dtype)[0])
