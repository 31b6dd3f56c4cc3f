"""The decoding of version 0.1.0, for its models and runs: OpenCV alone, but images that it corrupted are refused."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xpcnn.data.decoding import Decoding
from xpcnn.data.opencv import load_opencv
from xpcnn.data.picture import Facts, Picture
from xpcnn.data.pixels import Refusal
from xpcnn.data.readers.apng import ANIMATION
from xpcnn.data.readers.chunks import png_chunks
from xpcnn.data.readers.containers import kind_of
from xpcnn.data.resizing import resized

#: The TIFF compressions that OpenCV decodes: none, CCITT, LZW, JPEG, deflate, PackBits.
_COMPRESSIONS = frozenset([1, 2, 3, 4, 5, 7, 8, 32773, 32946])


def read(content: NDArray[np.uint8], decoding: Decoding, digest: bytes) -> Picture:
    """Decode the bytes of a file to uint8 (channels, height, width); raise :class:`Refusal`."""
    _refuse_garbage(content)
    cv2 = load_opencv()
    colour = cv2.IMREAD_GRAYSCALE if decoding.channels == 1 else cv2.IMREAD_COLOR
    try:
        pixels = cv2.imdecode(content, colour | cv2.IMREAD_ANYDEPTH)
    except cv2.error as error:
        raise Refusal(f"OpenCV refuses it ({' '.join(error.err.split())})") from error
    if pixels is None:
        raise Refusal("it is truncated, damaged, or in a format that OpenCV does not know")
    dtype = pixels.dtype.name
    if pixels.dtype == np.uint16:
        pixels = cv2.convertScaleAbs(pixels, alpha=1 / 257)
    if pixels.dtype != np.uint8:
        raise Refusal(f"its pixels are {pixels.dtype}, not 8-bit or 16-bit")
    image = pixels[:, :, ::-1] if decoding.channels == 3 else pixels[:, :, np.newaxis]
    sized = resized(image, decoding.height, decoding.width).transpose(2, 0, 1)
    kind = "rgb" if decoding.channels == 3 else "grey"
    height, width, samples = image.shape
    facts = Facts(height, width, samples, kind, dtype, 1, (), (), digest.hex())
    return Picture(np.ascontiguousarray(sized), facts)


def _refuse_garbage(content: NDArray[np.uint8]) -> None:
    """Raise :class:`Refusal` for a TIFF whose pixels OpenCV left black, damaged or uninitialised, and for an animated
    PNG, of which OpenCV showed another frame; damaged ones crash it."""
    kind = kind_of(content)
    if kind == "png" and not ANIMATION.isdisjoint(name for name, _, _ in png_chunks(content)):
        raise Refusal("it is an animated PNG: save the frame you want as a plain PNG, or retrain the model")
    if kind != "tiff":
        return
    from xpcnn.data.readers.tiff import describe, read_tiff

    read_tiff(content)
    compression, planar, bits = describe(content)
    if compression not in _COMPRESSIONS or (planar and bits == 16):
        kind = "separate 16-bit planes" if planar and bits == 16 else f"compression {compression}"
        raise Refusal(
            f"it is a TIFF with {kind}, which version 0.1.0, whose decoding this model uses, corrupted: save it "
            "uncompressed, or retrain the model"
        )
