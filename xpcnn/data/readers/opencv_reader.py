"""Images decoded by OpenCV, with corrections where it would be wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from xpcnn.data.pixels import Page, Pixels, Refusal
from xpcnn.data.readers.bitfields import has_old_header, read_bitfields
from xpcnn.data.readers.boxes import avif_frames, avif_orientation
from xpcnn.data.readers.chunks import gif_disposals, webp_chunks
from xpcnn.data.readers.containers import Content, not_read
from xpcnn.data.readers.jpeg2000 import require_readable
from xpcnn.data.readers.netpbm import read_binary_pnm, read_pfm, scaled_to_maximum, with_the_largest_maximum
from xpcnn.data.readers.opencv_decoding import (
    AS_IT_IS,
    COLOUR,
    NOT_TURNED,
    WITH_ALPHA,
    decode,
    decode_frames,
    pixels_of,
)
from xpcnn.data.readers.orientation import orientation_of, upright
from xpcnn.data.readers.png import read_png
from xpcnn.data.readers.stacks import require_page

_PREVIOUS = 3  # a GIF's frame after which what was there before is restored


def read_with_opencv(content: Content, kind: str, page: Page = 0, channels_as_they_are: bool = False) -> Pixels:
    """Decode an image of a kind that :func:`~.containers.kind_of` returned, other than "tiff" and "heif".

    page: of an animation, the frame as it is shown. channels_as_they_are: keep transparency, if the format has it, as
    the last sample. The returned values need not be contiguous. Raises Refusal.
    """
    read = _READERS.get(kind)
    if read is None:
        raise not_read(kind, content)
    pixels = read(content, page, channels_as_they_are)
    require_page(page, pixels.pages)
    if pixels.values.dtype.kind == "f" and not np.isfinite(pixels.values).all():
        raise Refusal("some of its values are NaN or infinite")
    return pixels


def _jpeg(content: Content, page: Page, channels_as_they_are: bool) -> Pixels:
    # Without a colour conversion OpenCV takes a tenth longer; a grey JPEG in colour has three equal samples.
    return pixels_of(decode(content, "jpeg", AS_IT_IS if channels_as_they_are else COLOUR))


def _gif(content: Content, page: Page, channels_as_they_are: bool) -> Pixels:
    disposals = gif_disposals(content)
    if page != 0 and _PREVIOUS in disposals[:-1]:
        raise Refusal("it is a GIF with frames that restore what was before them, of which only page 0 is read")
    return pixels_of(decode_frames(content, "gif", AS_IT_IS, page, len(disposals)), len(disposals))


def _webp(content: Content, page: Page, channels_as_they_are: bool) -> Pixels:
    pages, orientation = 1, 1
    if content[12:16].tobytes() == b"VP8X":
        chunks = webp_chunks(content)
        pages = max(1, sum(name == b"ANMF" for name, _, _ in chunks))
        exif = next((content[start:end].tobytes() for name, start, end in chunks if name == b"EXIF"), b"")
        orientation = orientation_of(exif)
    flags = WITH_ALPHA if channels_as_they_are else AS_IT_IS | NOT_TURNED
    pixels = pixels_of(decode_frames(content, "webp", flags, page, pages), pages)
    return replace(pixels, values=upright(pixels.values, orientation))


def _avif(content: Content, page: Page, channels_as_they_are: bool) -> Pixels:
    pages = avif_frames(content)
    flags = WITH_ALPHA if channels_as_they_are else AS_IT_IS | NOT_TURNED
    pixels = pixels_of(decode_frames(content, "avif", flags, page, pages), pages)
    return replace(pixels, values=upright(pixels.values, avif_orientation(content)))


def _bmp(content: Content, page: Page, channels_as_they_are: bool) -> Pixels:
    pixels = read_bitfields(content, channels_as_they_are=channels_as_they_are)
    # For a palette after an old header, OpenCV would return the red values as grey.
    flags = COLOUR if has_old_header(content) else AS_IT_IS
    return pixels_of(decode(content, "bmp", flags)) if pixels is None else pixels


def _jp2(content: Content, page: Page, channels_as_they_are: bool) -> Pixels:
    components = require_readable(content)
    pixels = pixels_of(decode(content, "jp2", WITH_ALPHA if channels_as_they_are and components > 2 else AS_IT_IS))
    return replace(pixels, values=pixels.values[:, :, :1], kind="grey") if components < 3 else pixels


def _pnm(content: Content, page: Page, channels_as_they_are: bool) -> Pixels:
    form = content[1:2].tobytes()
    if form in b"567":
        return read_binary_pnm(content, channels_as_they_are=channels_as_they_are)
    if form in b"14":
        return pixels_of(decode(content, "pnm", AS_IT_IS))
    content, maximum = with_the_largest_maximum(content)
    pixels = pixels_of(decode(content, "pnm", AS_IT_IS))
    return replace(pixels, values=scaled_to_maximum(pixels.values, maximum))


def _pfm(content: Content, page: Page, channels_as_they_are: bool) -> Pixels:
    return read_pfm(content)


def _hdr(content: Content, page: Page, channels_as_they_are: bool) -> Pixels:
    return pixels_of(decode(content, "hdr", AS_IT_IS))


def _ras(content: Content, page: Page, channels_as_they_are: bool) -> Pixels:
    # Unconverted, a grey one would be all zeros.
    return pixels_of(decode(content, "ras", COLOUR))


_READERS = {
    "avif": _avif,
    "bmp": _bmp,
    "gif": _gif,
    "hdr": _hdr,
    "jp2": _jp2,
    "jpeg": _jpeg,
    "pfm": _pfm,
    "png": read_png,
    "pnm": _pnm,
    "ras": _ras,
    "webp": _webp,
}
