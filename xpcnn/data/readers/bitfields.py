"""BMP files with 16 or 32 bits per pixel and colour masks, most of which OpenCV ignores."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpcnn.data.opencv import MAX_PIXELS
from xpcnn.data.pixels import Pixels, Refusal
from xpcnn.data.readers.containers import Content, damaged

_RGB, _BITFIELDS, _ALPHABITFIELDS = 0, 3, 6
_MASKS = 54  # their offset: after the first 40 bytes of the header, or within a longer one
_FIVE_BITS = (0x7C00, 0x3E0, 0x1F, 0)


def has_old_header(content: Content) -> bool:
    """Whether the header is the 12-byte one of OS/2."""
    return content.size > 18 and int(content[14]) == 12


def read_bitfields(content: Content, *, channels_as_they_are: bool = False) -> Pixels | None:
    """Read a 16-bit BMP, or a 32-bit one with masks; return None for any other BMP.

    A colour of fewer than 8 bits is scaled to 0..255; of one with more, the highest 8 bits are used.
    """
    if content.size < _MASKS or int(content[14]) < 40:
        return None
    offset, header, width, height, _, bits, compression = struct.unpack_from("<10xIIiiHHI", content.data)
    if bits not in (16, 32) or (bits, compression) == (32, _RGB):
        return None
    if compression == _RGB:
        masks = _FIVE_BITS
    elif compression in (_BITFIELDS, _ALPHABITFIELDS) and content.size >= _MASKS + 16:
        masks = struct.unpack_from("<4I", content.data, _MASKS)
        if header < 56 and compression == _BITFIELDS:
            masks = (*masks[:3], 0)  # the three masks are followed by the palette or the pixels
    else:
        raise damaged("bmp")
    _require_runs_of_bits(masks, bits)
    words = _words(content, offset, width, height, bits)
    alpha = channels_as_they_are and masks[3] != 0
    values = np.stack([_byte(words, mask) for mask in masks[: 4 if alpha else 3]], axis=-1)
    return Pixels(values, "rgb", alpha)


def _require_runs_of_bits(masks: tuple[int, ...], bits: int) -> None:
    for mask in masks:
        ones = mask >> _shift(mask)
        if ones & (ones + 1) or mask >> bits:
            raise Refusal("it is a BMP whose masks are not contiguous bits of a pixel")
    if 0 in masks[:3]:
        raise Refusal("it is a BMP without a mask for one of its colours")


def _words(content: Content, offset: int, width: int, height: int, bits: int) -> NDArray[Any]:
    """Return the pixels, (height, width), from top to bottom."""
    rows = abs(height)
    if rows * width > MAX_PIXELS:
        raise Refusal(f"it claims {width} x {rows} pixels, more than {MAX_PIXELS}")
    stride = (width * bits // 8 + 3) // 4 * 4
    if width < 1 or rows < 1 or offset + stride * rows > content.size:
        raise damaged("bmp")
    lines = content[offset : offset + stride * rows].reshape(rows, stride)[:, : width * bits // 8]
    words = np.ascontiguousarray(lines).view(f"<u{bits // 8}")
    return words if height < 0 else words[::-1]


def _byte(words: NDArray[Any], mask: int) -> NDArray[np.uint8]:
    """Return the samples under a mask, scaled to 0..255."""
    largest = mask >> _shift(mask)
    samples = (words & words.dtype.type(mask & np.iinfo(words.dtype).max)) >> _shift(mask)
    if largest >= 256:
        return np.asarray(samples >> (largest.bit_length() - 8), np.uint8)
    table = np.rint(np.arange(largest + 1) * (255 / max(largest, 1))).astype(np.uint8)
    return np.asarray(table[samples])


def _shift(mask: int) -> int:
    """Return the number of bits below the lowest bit of a mask."""
    return max(0, (mask & -mask).bit_length() - 1)
