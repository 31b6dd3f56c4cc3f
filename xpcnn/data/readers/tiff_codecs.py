"""TIFF's compressions, decoded and checked, and their names, which tifffile knows.

None, PackBits, deflate and LZW are always decoded here, so that results do not depend on what is installed.
"""

from __future__ import annotations

import importlib
import zlib
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xpcnn.data.pixels import Refusal
from xpcnn.data.readers.lzw import DamagedData
from xpcnn.data.readers.lzw import decode as decode_lzw
from xpcnn.data.versions import remedy

NONE, LZW, JPEG, PACKBITS = 1, 5, 7, 32773
DEFLATE: Final = (8, 32946)
#: The most bytes that one compressed byte can become.
_EXPANSION: Final = {NONE: 1, PACKBITS: 64, LZW: 1400, 8: 1032, 32946: 1032}
#: imagecodecs' names of the compressions that give bytes, and of those that give pixels.
_OF_BYTES: Final = {34925: "lzma", 34926: "zstd", 50000: "zstd"}
_OF_PIXELS: Final = {
    22610: "jpegxr",
    33004: "jpeg2k",
    33005: "jpeg2k",
    34712: "jpeg2k",
    34887: "lerc",
    34927: "webp",
    34933: "png",
    34934: "jpegxr",
    50001: "webp",
    50002: "jpegxl",
    52546: "jpegxl",
}


def name_of(compression: int) -> str:
    """Return the name of a compression, with its number."""
    from tifffile import COMPRESSION

    try:
        return f"{COMPRESSION(compression).name} ({compression})"
    except ValueError:
        return f"of an unknown kind ({compression})"


def gives_bytes(compression: int) -> bool:
    """Whether a compression gives bytes; raises Refusal for an unsupported one."""
    known = compression in _EXPANSION or compression in _OF_BYTES or compression in _OF_PIXELS or compression == JPEG
    if not known:
        raise Refusal(
            f"its compression is {name_of(compression)}, which xpcnn does not read; save it again, "
            "uncompressed or compressed with deflate"
        )
    if compression in _OF_BYTES or compression in _OF_PIXELS:
        _imagecodecs(compression)
    return compression in _EXPANSION or compression in _OF_BYTES


def can_hold(compression: int, count: int, size: int) -> bool:
    """Whether ``count`` compressed bytes can become ``size`` bytes."""
    return size <= count * _EXPANSION.get(compression, size)


def decompress(compression: int, data: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Return the ``size`` bytes in compressed data; raise Refusal if they contain fewer or more."""
    if compression == NONE:
        decoded = data
    elif compression == PACKBITS:
        decoded = _unpack_bits(data.tobytes(), size)
    elif compression in DEFLATE:
        decoded = _inflate(data, size)
    elif compression == LZW:
        try:
            decoded = decode_lzw(data, size)
        except DamagedData as error:
            raise Refusal(f"it is truncated or damaged: {error}") from error
    else:
        grown = _call(compression, _OF_BYTES[compression], data, out=size + 1)
        decoded = np.frombuffer(grown, np.uint8)
    if decoded.size != size:
        raise Refusal(f"it is truncated or damaged: a strip or tile holds {decoded.size} bytes where {size} belong")
    return decoded


def decode_pixels(
    compression: int, data: NDArray[np.uint8], shape: tuple[int, int, int], dtype: np.dtype[np.generic]
) -> NDArray[Any]:
    """Return the pixels in compressed data, decoded by imagecodecs; raise Refusal if their shape is another."""
    codec = _OF_PIXELS[compression]
    # It checks the size before it allocates the memory that damaged data ask for.
    pixels = np.zeros(shape if shape[2] > 1 else shape[:2], dtype)
    if codec == "lerc":
        _, valid = _call(compression, codec, data, masks=True, out=pixels)
        if valid is not None and not np.all(valid):
            raise Refusal("some of its values are marked as invalid; replace them first")
    else:
        _call(compression, codec, data, out=pixels)
    return pixels.reshape(shape)


def _unpack_bits(data: bytes, size: int) -> NDArray[np.uint8]:
    parts, place, filled = [], 0, 0
    while place < len(data) and filled <= size:
        head = data[place]
        if head < 128:
            part = data[place + 1 : place + 2 + head]
            if len(part) != head + 1:
                break
            place += 2 + head
        else:
            part = data[place + 1 : place + 2] * (257 - head) if head > 128 else b""  # 128: no operation
            place += 2 if head > 128 else 1
        parts.append(part)
        filled += len(part)
    if place != len(data):
        raise Refusal("it is truncated or damaged: its PackBits data do not end with a strip or tile")
    return np.frombuffer(b"".join(parts), np.uint8)


def _inflate(data: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    stream = zlib.decompressobj()
    try:
        inflated = stream.decompress(data.tobytes(), size + 1)
    except zlib.error as error:
        raise Refusal(f"it is damaged: its deflate data are invalid ({error})") from error
    if not stream.eof and len(inflated) <= size:
        raise Refusal("it is truncated: its deflate data have no end")
    return np.frombuffer(inflated, np.uint8)


def _imagecodecs(compression: int) -> Any:
    try:
        return importlib.import_module("imagecodecs")
    except ImportError as error:
        raise Refusal(f"its compression is {name_of(compression)}, which needs imagecodecs: {remedy()}") from error


def _call(compression: int, codec: str, data: NDArray[np.uint8], **options: Any) -> Any:
    imagecodecs = _imagecodecs(compression)
    try:
        return getattr(imagecodecs, f"{codec}_decode")(data.tobytes(), **options)
    except Exception as error:  # each of its codecs has its own error, and may be missing from a build
        reason = " ".join(str(error).split())
        raise Refusal(
            f"its {name_of(compression)} data are damaged, or imagecodecs has no such codec: {reason}"
        ) from error
