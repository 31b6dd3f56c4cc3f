"""The chunks that PNG and WebP files are made of, and the blocks of a GIF, none of which may lie about its size."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from xpcnn.data.containers import Content, damaged

# What a file of 1 GiB can hold in blocks of the usual sizes; of smaller ones it is made to cost time.
_MAX_CHUNKS = 2**23


class Chunk(NamedTuple):
    """A chunk's name, where its payload is, and where the chunk begins and ends."""

    name: bytes
    start: int
    size: int
    begin: int
    end: int


def png_chunks(content: Content) -> Iterator[Chunk]:
    """Yield the chunks of a PNG up to its end; raise Refusal for one that is cut off."""
    yield from _chunks(content, 8, len(content), ">I4s", "png")


def webp_chunks(content: Content) -> Iterator[Chunk]:
    """Yield the chunks of a WebP, and not what may follow it; raise Refusal for one that is cut off."""
    size = int.from_bytes(content[4:8].tobytes(), "little")
    yield from _chunks(content, 12, min(len(content), 8 + size), "<4sI", "webp")


def _chunks(content: Content, at: int, length: int, form: str, kind: str) -> Iterator[Chunk]:
    header, octets, png = struct.Struct(form), content.data, kind == "png"
    for _ in range(_MAX_CHUNKS):
        if at + 8 > length:
            if png:  # without IEND
                raise damaged(kind)
            return
        first, second = header.unpack_from(octets, at)
        name, size = (second, first) if png else (first, second)
        # Behind it a checksum, or a byte that makes the size even, which the last may lack.
        end = at + 8 + size + (4 if png else size % 2)
        if (end if png else end - size % 2) > length:
            raise damaged(kind)
        yield Chunk(name, at + 8, size, at, end)
        if name == b"IEND":
            return
        at = end
    raise damaged(kind)


def gif_disposals(content: Content) -> list[int]:
    """Return, for each frame of a GIF, how it is disposed of (3: what was there before comes back)."""
    octets = content.data
    disposals: list[int] = []
    disposal = 0
    try:
        at = 13 + _palette(octets[10])
        for _ in range(_MAX_CHUNKS):
            introducer = octets[at]
            if introducer == 0x3B:
                return disposals
            if introducer == 0x21:
                if octets[at + 1] == 0xF9:
                    disposal = octets[at + 3] >> 2 & 7
                at += 2
            elif introducer == 0x2C:
                disposals.append(disposal)
                disposal = 0
                at += 11 + _palette(octets[at + 9])
            else:
                break
            while octets[at]:
                at += 1 + octets[at]
            at += 1
    except IndexError:
        pass
    raise damaged("gif")


def _palette(flags: int) -> int:
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0
