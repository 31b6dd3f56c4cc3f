"""Animated PNG: its default image and its frames. OpenCV only gets one at a time, since damaged animations crash it."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xpcnn.data.opencv import MAX_PIXELS
from xpcnn.data.pixels import Page, Pixels, Refusal
from xpcnn.data.readers.chunks import Chunk
from xpcnn.data.readers.containers import Content, damaged
from xpcnn.data.readers.opencv_decoding import WITH_ALPHA, decode, pixels_of
from xpcnn.data.readers.stacks import project, require_page

ANIMATION = {b"acTL", b"fcTL", b"fdAT"}
_BACKGROUND, _PREVIOUS = 1, 2  # how to dispose of a frame before the next
_OVER = 1  # blend a frame over the canvas


class _Frame(NamedTuple):
    """A frame as a separate PNG, its position, and how to dispose of it and blend it."""

    chunks: list[bytes]
    left: int
    top: int
    disposal: int
    blend: int


def read_animated_png(content: Content, chunks: Sequence[Chunk], page: Page, flags: int) -> Pixels:
    """Decode one page: 0 is the default image, whether or not it belongs to the animation."""
    names = [name for name, _, _ in chunks]
    if b"IDAT" not in names:
        raise damaged("png")
    before = names[: names.index(b"IDAT")]
    frames = names.count(b"fcTL") if b"acTL" in before else 0
    apart = b"fcTL" not in before  # the default image is not a frame of the animation
    pages = max(1, frames + apart)
    require_page(page, pages)
    if page == 0 or pages == 1:
        kept = [content[start - 8 : end + 4] for name, start, end in chunks if name not in ANIMATION]
        return pixels_of(decode(np.concatenate([content[:8], *kept]), "png", flags), pages)
    width, height = struct.unpack_from(">II", content.data, 16)
    if frames * width * height > MAX_PIXELS:
        raise Refusal(f"its {frames} frames have more than {MAX_PIXELS} pixels in total")
    shown = _shown(_frames(content, chunks), height, width)
    if isinstance(page, str):
        if apart:
            raise Refusal(f"it is an animated PNG whose default image is not a frame: it can't give a {page}")
        values = project(list(shown), page)
    else:
        values = next(islice(shown, page - apart, None))
    opaque = flags != WITH_ALPHA and values.ndim == 3
    return pixels_of(values[:, :, :3] if opaque else values, pages)


def _frames(content: Content, chunks: Sequence[Chunk]) -> list[_Frame]:
    octets = content.data
    signature, header = content[:8].tobytes(), content[24:29].tobytes()
    palette = [content[start - 8 : end + 4].tobytes() for name, start, end in chunks if name in (b"PLTE", b"tRNS")]
    frames: list[_Frame] = []
    for name, start, end in chunks:
        if zlib.crc32(octets[start - 4 : end]) != int.from_bytes(octets[end : end + 4]):
            raise damaged("png")
        payload = octets[start:end].tobytes()
        if name == b"fcTL":
            if len(payload) != 26:
                raise damaged("png")
            left, top, disposal, blend = struct.unpack(">12xII4xBB", payload)
            frames.append(
                _Frame([signature, _chunk(b"IHDR", payload[4:12] + header), *palette], left, top, disposal, blend)
            )
        elif name == b"IDAT" and frames:
            frames[-1].chunks.append(_chunk(b"IDAT", payload))
        elif name == b"fdAT" and frames:
            frames[-1].chunks.append(_chunk(b"IDAT", payload[4:]))
    return frames


def _shown(frames: Sequence[_Frame], height: int, width: int) -> Iterator[NDArray[Any]]:
    """Yield the canvas after each frame."""
    canvas: NDArray[Any] | None = None
    for frame in frames:
        file = np.frombuffer(b"".join([*frame.chunks, _chunk(b"IEND", b"")]), np.uint8)
        image = decode(file, "png", WITH_ALPHA)
        if canvas is None:
            canvas = np.zeros((height, width, *image.shape[2:]), image.dtype)
        bottom, right = frame.top + image.shape[0], frame.left + image.shape[1]
        if bottom > height or right > width:
            raise damaged("png")
        place = canvas[frame.top : bottom, frame.left : right]
        before = place.copy() if frame.disposal == _PREVIOUS else np.zeros_like(place)
        has_alpha = image.ndim == 3 and image.shape[2] == 4
        place[...] = _over(place, image) if frame.blend == _OVER and has_alpha else image
        yield canvas.copy()
        if frame.disposal in (_BACKGROUND, _PREVIOUS):
            place[...] = before


def _over(below: NDArray[Any], above: NDArray[Any]) -> NDArray[Any]:
    """Blend an image with transparency over another."""
    largest = np.iinfo(above.dtype).max
    covered = above[:, :, 3:] / largest
    left = below[:, :, 3:] / largest * (1 - covered)
    alpha = covered + left
    colours = (above[:, :, :3] * covered + below[:, :, :3] * left) / np.where(alpha == 0, 1, alpha)
    return np.asarray(np.rint(np.concatenate([colours, alpha * largest], axis=2)), above.dtype)


def _chunk(name: bytes, payload: bytes) -> bytes:
    return len(payload).to_bytes(4) + name + payload + zlib.crc32(name + payload).to_bytes(4)
