"""The orientation of an image as the camera recorded it (EXIF), and its correction."""

from __future__ import annotations

import struct
from typing import Any

from numpy.typing import NDArray

_ORIENTATION = 0x112
_FORMATS = {3: "H", 4: "I"}  # EXIF's integer types


def orientation_of(exif: bytes) -> int:
    """Return the orientation, 1 to 8, in an EXIF block, with or without its prefix; 1 if there is none."""
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, start)
        for at in range(start + 2, start + 2 + 12 * count, 12):
            tag, form = struct.unpack_from(f"{order}HH", exif, at)
            if tag == _ORIENTATION and form in _FORMATS:
                (noted,) = struct.unpack_from(order + _FORMATS[form], exif, at + 8)
                return int(noted) if 1 <= noted <= 8 else 1
    except struct.error:  # truncated: treated as absent, as in browsers
        pass
    return 1


def upright(values: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Return an image, (height, width, samples), rotated and mirrored from an EXIF orientation to upright."""
    if orientation >= 5:
        values = values.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    return values
