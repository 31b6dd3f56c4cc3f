"""Animated PNG: its default image, and its frames as OpenCV puts them together, where that does it rightly."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

from xpcnn.data.chunks import Chunk
from xpcnn.data.containers import Content, damaged
from xpcnn.data.opencv_decoding import WITH_ALPHA, decode, decode_frames, pixels_of
from xpcnn.data.pixels import Page, Pixels, Refusal
from xpcnn.data.stacks import require_page

ANIMATION = {b"acTL", b"fcTL", b"fdAT"}
_PREVIOUS = 2  # a frame that makes room for what was there before it


def read_animated_png(content: Content, chunks: Sequence[Chunk], page: Page, flags: int) -> Pixels:
    """Decode one page: 0 is the default image, whether or not that belongs to the animation."""
    names = [chunk.name for chunk in chunks]
    if b"IDAT" not in names:
        raise damaged("png")
    before = names[: names.index(b"IDAT")]
    frames = [chunk for chunk in chunks if chunk.name == b"fcTL"] if b"acTL" in before else []
    apart = b"fcTL" not in before  # the default image is no frame of the animation
    pages = max(1, len(frames) + apart)
    require_page(page, pages)
    if page == 0 or pages == 1:
        # OpenCV would give the first frame in place of the default image.
        kept = [content[chunk.begin : chunk.end] for chunk in chunks if chunk.name not in ANIMATION]
        return pixels_of(decode(np.concatenate([content[:8], *kept]), "png", flags), pages)
    if isinstance(page, str) and apart:
        raise Refusal(f"it is an animated PNG whose default image is no frame, of which no {page} is taken")
    _require_compositing(content, frames, flags)
    _require_whole_frames(content, chunks, flags)
    if not isinstance(page, str):
        page -= apart
    return pixels_of(decode_frames(content, "png", flags, page, len(frames)), pages)


def _require_compositing(content: Content, frames: Sequence[Chunk], flags: int) -> None:
    """Raise Refusal for frames that OpenCV puts together wrongly."""
    if any(frame.size != 26 for frame in frames):
        raise damaged("png")
    disposals, blends = ([int(content[frame.start + at]) for frame in frames] for at in (24, 25))
    if _PREVIOUS in disposals or (flags == WITH_ALPHA and any(blends)):
        raise Refusal("it is an animated PNG of frames that OpenCV puts together wrongly, of which only page 0 is read")


def _require_whole_frames(content: Content, chunks: Sequence[Chunk], flags: int) -> None:
    """Raise Refusal for a frame that is damaged: in an animation, OpenCV checks neither checksums nor lengths."""
    octets = content.data
    for chunk in chunks:
        if zlib.crc32(octets[chunk.begin + 4 : chunk.end - 4]) != int.from_bytes(octets[chunk.end - 4 : chunk.end]):
            raise damaged("png")
    for frame in _frames_on_their_own(content, chunks):
        decode(frame, "png", flags)


def _frames_on_their_own(content: Content, chunks: Sequence[Chunk]) -> list[Content]:
    """Each frame as a PNG."""
    signature, header = content[:8].tobytes(), content[24:29].tobytes()
    palette = [content[c.begin : c.end].tobytes() for c in chunks if c.name in (b"PLTE", b"tRNS")]
    files: list[list[bytes]] = []
    for chunk in chunks:
        payload = content[chunk.start : chunk.start + chunk.size].tobytes()
        if chunk.name == b"fcTL":
            files.append([signature, _chunk(b"IHDR", payload[4:12] + header), *palette])
        elif chunk.name == b"IDAT" and files:
            files[-1].append(_chunk(b"IDAT", payload))
        elif chunk.name == b"fdAT" and files:
            files[-1].append(_chunk(b"IDAT", payload[4:]))
    return [np.frombuffer(b"".join([*file, _chunk(b"IEND", b"")]), np.uint8) for file in files]


def _chunk(name: bytes, payload: bytes) -> bytes:
    return len(payload).to_bytes(4) + name + payload + zlib.crc32(name + payload).to_bytes(4)
