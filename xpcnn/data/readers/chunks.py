"""The chunks of PNG and WebP files and the blocks of a GIF, with their sizes checked."""

from __future__ import annotations

import struct
from typing import TypeAlias

from xpcnn.data.readers.containers import Content, damaged

# What a file of 1 GiB can contain in chunks of the usual sizes; smaller chunks are an attack on time and memory.
_MAX_CHUNKS = 2**20
_MAX_BLOCKS = 2**23
_PNG = struct.Struct(">I4s")
_WEBP = struct.Struct("<4sI")


#: A chunk's name, and the start and end of its payload. A tuple for speed: every PNG has several.
Chunk: TypeAlias = tuple[bytes, int, int]


def png_chunks(content: Content) -> list[Chunk]:
    """Return the chunks of a PNG up to its end; raise Refusal if it is truncated."""
    octets, at, chunks = content.data, 8, []
    try:
        for _ in range(_MAX_CHUNKS):
            size, name = _PNG.unpack_from(octets, at)
            end = at + 8 + size
            chunks.append((name, at + 8, end))
            if name == b"IEND":
                break
            at = end + 4  # after a checksum
    except struct.error:
        raise damaged("png") from None
    if name != b"IEND" or end + 4 > len(octets):
        raise damaged("png")
    return chunks


def webp_chunks(content: Content) -> list[Chunk]:
    """Return the chunks of a WebP, without any data after it; raise Refusal if it is truncated."""
    octets, at = content.data, 12
    chunks: list[Chunk] = []
    length = min(len(octets), 8 + int.from_bytes(octets[4:8], "little"))
    while at + 8 <= length and len(chunks) < _MAX_CHUNKS:
        name, size = _WEBP.unpack_from(octets, at)
        end = at + 8 + size
        if end > length:
            raise damaged("webp")
        chunks.append((name, at + 8, end))
        at = end + size % 2
    return chunks


def gif_disposals(content: Content) -> list[int]:
    """Return the disposal method of each frame of a GIF (3: restore what was there before)."""
    octets = content.data
    disposals: list[int] = []
    disposal = 0
    try:
        at = 13 + _palette(octets[10])
        for _ in range(_MAX_BLOCKS):
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
