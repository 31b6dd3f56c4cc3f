"""The boxes of an ISO media file (AVIF, JPEG 2000): an AVIF's orientation and number of frames."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from xpcnn.data.readers.containers import Content

_MAX_BOXES = 2**16


class Box(NamedTuple):
    """A box's name, and the start and end of its payload."""

    name: bytes
    start: int
    end: int


def boxes(content: Content, start: int, end: int) -> Iterator[Box]:
    """Yield the boxes between two offsets; one that claims to be longer than its parent ends with it."""
    for _ in range(_MAX_BOXES):
        if start + 8 > end:
            return
        size, name = struct.unpack_from(">I4s", content.data, start)
        payload = start + 8
        if size == 1 and start + 16 <= end:
            (size,) = struct.unpack_from(">Q", content.data, payload)
            payload += 8
        stop = end if size == 0 else min(start + size, end)
        if stop < payload:
            return
        yield Box(name, payload, stop)
        start = stop


def find(content: Content, *path: bytes) -> Box | None:
    """Return the first box of a path of names: ``find(content, b"moov", b"trak")``."""
    box = Box(b"", 0, len(content))
    for name in path:
        # A meta box starts with its version and flags.
        start = box.start + 4 * (box.name == b"meta")
        found = next((child for child in boxes(content, start, box.end) if child.name == name), None)
        if found is None:
            return None
        box = found
    return box


def avif_frames(content: Content) -> int:
    """Return the number of frames of an AVIF: those of the first track of a sequence, else 1."""
    if not _is_sequence(content):
        return 1
    sizes = find(content, b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsz")
    if sizes is None or sizes.end - sizes.start < 12:
        return 1
    (frames,) = struct.unpack_from(">I", content.data, sizes.start + 8)
    return max(1, int(frames))


def avif_orientation(content: Content) -> int:
    """Return the EXIF orientation that is equivalent to the rotation (irot) and mirroring (imir) of an AVIF.

    Browsers apply these two, in this order, as the standard requires, and ignore EXIF.
    """
    if _is_sequence(content):
        return 1
    try:
        kinds = list(_properties_of_the_primary_item(content))
    except struct.error:
        return 1
    quarters = next((value & 3 for name, value in kinds if name == b"irot"), 0)
    axis = next((value & 1 for name, value in kinds if name == b"imir"), None)
    return _ORIENTATIONS[axis][quarters]


# By the axis of the mirroring, and by the counterclockwise quarter turns that precede it.
_ORIENTATIONS = {None: (1, 8, 3, 6), 0: (4, 5, 2, 7), 1: (2, 7, 4, 5)}


def _is_sequence(content: Content) -> bool:
    return content[8:12].tobytes() == b"avis"


def _properties_of_the_primary_item(content: Content) -> Iterator[tuple[bytes, int]]:
    """Yield the name and the first byte of each property."""
    primary = find(content, b"meta", b"pitm")
    container = find(content, b"meta", b"iprp", b"ipco")
    association = find(content, b"meta", b"iprp", b"ipma")
    if primary is None or container is None or association is None:
        return
    properties = [
        (box.name, int(content[box.start]) if box.start < box.end else 0)
        for box in boxes(content, container.start, container.end)
    ]
    wide = content[primary.start] > 0
    (item,) = struct.unpack_from(">I" if wide else ">H", content.data, primary.start + 4)
    version_and_flags, entries = struct.unpack_from(">II", content.data, association.start)
    entry, index = (
        struct.Struct(">IB" if version_and_flags >> 24 else ">HB"),
        struct.Struct(">H" if version_and_flags & 1 else ">B"),
    )
    at = association.start + 8
    for _ in range(min(entries, _MAX_BOXES)):
        number, count = entry.unpack_from(content.data, at)
        at += entry.size
        for _ in range(count):
            (position,) = index.unpack_from(content.data, at)
            at += index.size
            position &= 0x7FFF if index.size == 2 else 0x7F  # without the bit that marks an essential property
            if number == item and 0 < position <= len(properties):
                yield properties[position - 1]
