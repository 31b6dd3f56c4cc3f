"""PNG: oriented by its EXIF, and grey if it was stored as grey."""

from __future__ import annotations

from dataclasses import replace

from xpcnn.data.pixels import Page, Pixels
from xpcnn.data.readers.apng import ANIMATION, read_animated_png
from xpcnn.data.readers.chunks import png_chunks
from xpcnn.data.readers.containers import Content
from xpcnn.data.readers.opencv_decoding import AS_IT_IS, NOT_TURNED, WITH_ALPHA, decode, pixels_of
from xpcnn.data.readers.orientation import orientation_of, upright

_GREY_WITH_ALPHA = 4


def read_png(content: Content, page: Page, channels_as_they_are: bool) -> Pixels:
    """Decode a PNG, or a page of an animated one, where page 0 is the image that every decoder shows."""
    chunks = png_chunks(content)
    names = [name for name, _, _ in chunks]
    flags = WITH_ALPHA if channels_as_they_are else AS_IT_IS | NOT_TURNED
    if ANIMATION.isdisjoint(names):
        pixels = pixels_of(decode(content, "png", flags))
    else:
        pixels = read_animated_png(content, chunks, page, flags)
    if content[25] == _GREY_WITH_ALPHA:
        pixels = replace(pixels, values=pixels.values[:, :, 2:], kind="grey")  # the last of three equal samples
    if b"eXIf" in names:
        _, start, end = chunks[names.index(b"eXIf")]
        exif = content[start:end].tobytes()
        pixels = replace(pixels, values=upright(pixels.values, orientation_of(exif)))
    return pixels
