"""PNG and animated PNG: the picture every decoder shows first, turned, with its grey as grey."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from xpcnn.data.chunks import Chunk, png_chunks
from xpcnn.data.containers import Content, damaged
from xpcnn.data.opencv_decoding import AS_IT_IS, NOT_TURNED, WITH_ALPHA, decode, decode_frames, pixels_of
from xpcnn.data.orientation import orientation_of, upright
from xpcnn.data.pixels import Page, Pixels, Refusal
from xpcnn.data.stacks import require_page

_ANIMATION = {b"acTL", b"fcTL", b"fdAT"}
_GREY_WITH_ALPHA = 4
_PREVIOUS = 2  # a frame that makes room for what was there before it


def read_png(content: Content, page: Page, channels_as_they_are: bool) -> Pixels:
    """Decode a PNG; page 0 is its default image, whether or not that belongs to its animation."""
    chunks = list(png_chunks(content))
    names = [chunk.name for chunk in chunks]
    flags = (WITH_ALPHA if channels_as_they_are else AS_IT_IS) | NOT_TURNED
    if _ANIMATION.isdisjoint(names):
        pixels = pixels_of(decode(content, "png", flags))
    else:
        pixels = _animated(content, chunks, names, page, flags)
    if content[25] == _GREY_WITH_ALPHA:
        pixels = replace(pixels, values=pixels.values[:, :, 2:], kind="grey")
    if b"eXIf" in names:
        at = chunks[names.index(b"eXIf")]
        exif = content[at.start : at.start + at.size].tobytes()
        pixels = replace(pixels, values=upright(pixels.values, orientation_of(exif)))
    return pixels


def _animated(content: Content, chunks: Sequence[Chunk], names: Sequence[bytes], page: Page, flags: int) -> Pixels:
    if b"IDAT" not in names:
        raise damaged("png")
    before = names[: names.index(b"IDAT")]
    frames = [chunk for chunk in chunks if chunk.name == b"fcTL"] if b"acTL" in before else []
    apart = b"fcTL" not in before  # the default image is no frame of the animation
    pages = max(1, len(frames) + apart)
    require_page(page, pages)
    if page == 0 or pages == 1:
        # OpenCV would give the first frame in place of the default image.
        kept = [content[chunk.begin : chunk.end] for chunk in chunks if chunk.name not in _ANIMATION]
        return pixels_of(decode(np.concatenate([content[:8], *kept]), "png", flags), pages)
    if isinstance(page, str) and apart:
        raise Refusal(f"it is an animated PNG whose default image is no frame, of which no {page} is taken")
    _require_compositing(content, frames, flags)
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
