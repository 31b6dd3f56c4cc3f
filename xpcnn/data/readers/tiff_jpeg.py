"""JPEG inside TIFF: the page's tables and the data of one strip or tile, combined and decoded by OpenCV."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpcnn.data.opencv import load_opencv
from xpcnn.data.pixels import Refusal
from xpcnn.data.readers.tiff_form import Form

_END, _SCAN, _ADOBE = 0xD9, 0xDA, b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0"
_FRAMES = (0xC0, 0xC1, 0xC2)
#: Application segments and comments: TIFF's tags are more reliable than what they say about colours.
_NOTES = (*range(0xE0, 0xF0), 0xFE)


def decode_jpeg(data: NDArray[np.uint8], tables: bytes, form: Form, shape: tuple[int, int, int]) -> NDArray[Any]:
    """Return the pixels of one strip or tile of the expected shape, with YCbCr converted to red, green and blue.

    Raises Refusal for data of another shape or depth than 8 bits, or with damage that OpenCV notices.
    """
    if form.bits != 8 or form.dtype != np.uint8 or shape[2] not in (1, 3):
        raise Refusal(f"it is JPEG of {shape[2]} samples of {form.bits} bits, but xpcnn reads 1 or 3 of 8")
    stream = [b"\xff\xd8"]
    if shape[2] == 3:
        # Without this marker libjpeg guesses from the components' identifiers.
        stream.append(_ADOBE + bytes([1 if form.photometric == 6 else 0]))
    stream += [segment for marker, segment in _segments(tables) if marker not in _NOTES]
    for marker, segment in _segments(data.tobytes()):
        if marker in range(0xC0, 0xD0) and marker not in (0xC4, 0xCC):
            _check_frame(marker, segment, shape)
        if marker not in _NOTES:
            stream.append(segment)
    cv2 = load_opencv()
    colour = cv2.IMREAD_COLOR if shape[2] == 3 else cv2.IMREAD_GRAYSCALE
    try:
        pixels = cv2.imdecode(np.frombuffer(b"".join(stream), np.uint8), colour)
    except cv2.error as error:
        raise Refusal(f"OpenCV refuses its JPEG data ({' '.join(error.err.split())})") from error
    if pixels is None or pixels.shape[:2] != shape[:2]:
        raise Refusal("it is truncated or damaged: its JPEG data cannot be decoded")
    decoded: NDArray[Any] = pixels[:, :, ::-1] if shape[2] == 3 else pixels[:, :, np.newaxis]
    return decoded


def _check_frame(marker: int, segment: bytes, shape: tuple[int, int, int]) -> None:
    if marker not in _FRAMES:
        raise Refusal(f"its JPEG data are of a kind that xpcnn does not read (SOF{marker - 0xC0})")
    height, width, samples = (int.from_bytes(segment[start:end], "big") for start, end in ((5, 7), (7, 9), (9, 10)))
    found = height, width, samples
    if found != shape or segment[4] != 8:
        raise Refusal(f"it is damaged: its JPEG data are of {found} of {segment[4]} bits where {shape} of 8 belong")


def _segments(stream: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the marker segments of a JPEG stream without its start, then the first scan with everything after it."""
    place = 2
    if stream[:2] != b"\xff\xd8" and stream:
        raise Refusal("it is damaged: its JPEG data do not start with a JPEG marker")
    while place < len(stream):
        marker = stream[place + 1] if stream[place] == 0xFF and place + 1 < len(stream) else 0
        if marker == _END:
            return
        size = int.from_bytes(stream[place + 2 : place + 4], "big")
        if marker < 0xC0 or size < 2 or place + 2 + size > len(stream):
            raise Refusal("it is truncated or damaged: its JPEG data are not a sequence of segments")
        if marker == _SCAN:
            if b"\xff\xd9" not in stream[place:]:  # coded data never contain these; OpenCV accepts a missing end
                raise Refusal("it is truncated: its JPEG data have no end")
            yield marker, stream[place:]
            return
        yield marker, stream[place : place + 2 + size]
        place += 2 + size
