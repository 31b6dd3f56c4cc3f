"""Images embedded in the page: arrays as PNG in ``data:`` URLs."""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Any

import numpy as np

from xpcnn import data

Array = np.ndarray[Any, Any]

#: Larger images are shrunk to this side: a grid shows no more detail, and the page stays small.
MOST_PIXELS = 96
#: Smaller ones are enlarged with visible pixels.
_FEW_PIXELS = 48
#: Black, purple, orange, white: the corners of a colour map of increasing brightness, like "magma".
_HEAT = np.array([[0, 0, 4], [81, 18, 124], [183, 55, 121], [252, 137, 97], [252, 253, 191]], dtype=np.float64)


def png(image: Array) -> bytes:
    r"""Return an image, uint8 (1 or 3, height, width), as a PNG file.

    >>> png(np.zeros((1, 2, 2), dtype=np.uint8))[:4]
    b'\x89PNG'
    """
    channels, height, width = image.shape
    lines = np.zeros((height, 1 + width * channels), dtype=np.uint8)  # each line starts with its filter: none
    lines[:, 1:] = image.transpose(1, 2, 0).reshape(height, -1)
    header = struct.pack(">2I5B", width, height, 8, 2 if channels == 3 else 0, 0, 0, 0)
    content = [(b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes(), 6)), (b"IEND", b"")]
    chunks = (struct.pack(">I", len(d)) + kind + d + struct.pack(">I", zlib.crc32(kind + d)) for kind, d in content)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def img(image: Array, alt: str) -> str:
    """Return an image, uint8 (channels, height, width), as an element; ``alt`` is HTML and says what it shows."""
    image = shown(image)
    _, height, width = image.shape
    longest = max(height, width)
    if longest > MOST_PIXELS:
        height, width = (max(1, side * MOST_PIXELS // longest) for side in (height, width))
        image = data.resize(image[np.newaxis], height, width)[0]
    source = base64.b64encode(png(image)).decode("ascii")
    enlarged = ' class="pixels"' if longest < _FEW_PIXELS else ""
    return f'<img{enlarged} src="data:image/png;base64,{source}" width="{width}" height="{height}" alt="{alt}">'


def shown(image: Array) -> Array:
    """Return an image of any number of channels as grey or colour, using the first three of more."""
    channels, height, width = image.shape
    if channels in (1, 3):
        return image
    return np.concatenate((image[:3], np.zeros((max(0, 3 - channels), height, width), image.dtype)))


def heat(values: Array, most: float) -> Array:
    """Return numbers from 0 to ``most``, (height, width), as increasingly bright colours, uint8 (3, height, width)."""
    return _colors(np.clip(values / most, 0, 1) if most > 0 else np.zeros(values.shape), _HEAT)


def scale(low: str, high: str) -> str:
    """Return the colours of :func:`heat` with what their ends stand for."""
    return f'<p class="scale">{low}<span aria-hidden="true"></span>{high}</p>'


def overlay(image: Array, weight: Array) -> Array:
    """Overlay a map (h, w) of 0 to 1 in colour on an image, uint8 (1 or 3, height, width); uint8 (3, height, width)."""
    _, height, width = image.shape
    enlarged = _enlarge(weight, height, width)
    grey = image.mean(axis=0, keepdims=True).repeat(3, axis=0)
    share = 0.25 + 0.5 * enlarged
    return np.asarray(np.round(grey * (1 - share) + heat(enlarged, 1.0) * share), dtype=np.uint8)


def _enlarge(values: Array, height: int, width: int) -> Array:
    """Interpolate (h, w) linearly between the centres of its cells."""
    for axis, size in ((0, height), (1, width)):
        places = (np.arange(size) + 0.5) * values.shape[axis] / size - 0.5
        places = np.clip(places, 0, values.shape[axis] - 1)
        before = np.floor(places).astype(int)
        after = np.minimum(before + 1, values.shape[axis] - 1)
        share = (places - before).reshape((-1, 1) if axis == 0 else (1, -1))
        values = values.take(before, axis) * (1 - share) + values.take(after, axis) * share
    return values


def _colors(shares: Array, corners: Array) -> Array:
    """Return numbers from 0 to 1 as colours interpolated between corners, uint8 (3, …)."""
    places = np.linspace(0, 1, len(corners))
    channels = [np.interp(shares, places, corners[:, channel]) for channel in range(3)]
    return np.asarray(np.round(channels), dtype=np.uint8)
