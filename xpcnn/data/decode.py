"""Decoding one image, from a file or from bytes, to an array."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray

from xpcnn.data import first_generation
from xpcnn.data.decoding import FIRST, Decoding
from xpcnn.data.digests import digest
from xpcnn.data.picture import Picture, make
from xpcnn.data.pixels import Page, Pixels, Refusal
from xpcnn.data.readers.containers import kind_of
from xpcnn.data.readers.opencv_reader import read_with_opencv

MAX_FILE_BYTES = 2**30

#: Where to find an image: a file's path, its bytes, or a file object opened in binary mode.
Source: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO


class UndecodableImage(ValueError):  # noqa: N818 (it names the file, not the failure)
    """A file that cannot be read as an image. ``path``: the file, None for bytes; ``reason``: why."""

    def __init__(self, path: Path | None, reason: str) -> None:
        super().__init__(f"{'The image' if path is None else path} cannot be read as an image: {reason}.")
        self.path = path
        self.reason = reason


def read_image(source: Source, decoding: Decoding) -> NDArray[np.uint8]:
    """Decode one image to uint8 (channels, height, width), colours in the order red, green, blue.

    source: a path, the bytes of a file, or a file object. Its content determines the reader: OpenCV for JPEG, PNG and
    similar formats, xpcnn's own code for TIFF and for what OpenCV gets wrong, pillow-heif (extra ``microscopy``) for
    HEIC. The EXIF rotation is applied, transparency is dropped, palettes are looked up, and colours are converted to
    grey by 0.299 R + 0.587 G + 0.114 B. The :class:`Decoding` sets the channels, page, size and range of values.

    Raises :class:`UndecodableImage` for what is missing, unreadable, empty, truncated, damaged or not an image.

    >>> import cv2
    >>> _, png = cv2.imencode(".png", np.full((4, 4), 200, np.uint8))
    >>> read_image(png.tobytes(), Decoding(height=1, width=2, channels=1)).tolist()
    [[[200, 200]]]
    """
    image: NDArray[np.uint8] = read_picture(source, decoding).image
    return image


def read_picture(source: Source, decoding: Decoding, raw: bool = False) -> Picture:
    """Decode one image like :func:`read_image`, with its facts; if ``raw``, to unscaled float32."""
    path = source if isinstance(source, Path) else Path(source) if isinstance(source, str | os.PathLike) else None
    content = _content(source if path is None else path)
    try:
        if decoding.generation == FIRST:
            return first_generation.read(content, decoding, digest(content))
        pixels = _pixels(content, decoding.page, decoding.as_channels)
        return make(pixels, decoding, digest(content), raw)
    except Refusal as refusal:
        raise UndecodableImage(path, str(refusal)) from refusal


def open_picture(path: Path, page: Page = 0, as_channels: bool = False) -> Pixels:
    """Return a file's image as stored in the file; raise :class:`UndecodableImage`."""
    try:
        return _pixels(_content(path), page, as_channels)
    except Refusal as refusal:
        raise UndecodableImage(path, str(refusal)) from refusal


def from_array(values: NDArray[Any], decoding: Decoding) -> Picture:
    """Apply a model's decoding to raw pixels (height, width, channels), as if they came from a file.

    Raises :class:`UndecodableImage` like :func:`read_image`, and for values that no file could hold.
    """
    try:
        return make(_pixels_of(values), decoding, digest(np.ascontiguousarray(values)))
    except Refusal as refusal:
        raise UndecodableImage(None, str(refusal)) from refusal


def _pixels(content: NDArray[np.uint8], page: Page, as_channels: bool) -> Pixels:
    """Return the image in a file's bytes, using the reader for its content."""
    kind = kind_of(content)
    if kind == "tiff":
        from xpcnn.data.readers.tiff import read_tiff

        return read_tiff(content, page, as_channels and page == 0)
    if kind == "heif":
        from xpcnn.data.readers.heif import read_heif

        return read_heif(content, page, channels_as_they_are=as_channels)
    return read_with_opencv(content, kind, page, as_channels)


def _pixels_of(values: NDArray[Any]) -> Pixels:
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    dtype, samples = values.dtype, values.shape[2]
    if dtype.kind not in "uif" or dtype.itemsize > 4 or dtype == np.float16:
        if dtype.kind != "f":
            raise Refusal(f"raw pixels must be uint8, uint16, int16, uint32, int32 or floats, received {dtype}")
        values = values.astype(np.float32)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise Refusal("it has NaN or infinite values")
    if values.dtype == np.int8:
        values = values.astype(np.int16)
    if min(values.shape) < 1:
        raise Refusal(f"it is an array without pixels, of shape {values.shape}")
    kind = {1: "grey", 3: "rgb", 4: "rgb"}.get(samples, "channels")
    return Pixels(values, kind, alpha=samples == 4)  # type: ignore[arg-type]


def _content(source: Path | Any) -> NDArray[np.uint8]:
    if isinstance(source, Path):
        return _read_bytes(source)
    if hasattr(source, "read"):
        content = source.read(MAX_FILE_BYTES + 1)
        if not isinstance(content, bytes | bytearray):
            raise UndecodableImage(None, "the file object does not return bytes: open it in binary mode")
    else:
        content = source
    encoded = np.frombuffer(content, dtype=np.uint8)
    if encoded.size > MAX_FILE_BYTES:
        raise UndecodableImage(None, "it is larger than 1 GiB")
    if encoded.size == 0:
        raise UndecodableImage(None, "it is empty")
    return encoded


def _read_bytes(path: Path) -> NDArray[np.uint8]:
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            kind = (
                "a folder without images directly in it (--recursive includes its subfolders)"
                if stat.S_ISDIR(status.st_mode)
                else "not a regular file"
            )
            raise UndecodableImage(path, f"it is {kind}")
        if status.st_size > MAX_FILE_BYTES:
            raise UndecodableImage(path, f"it is larger than 1 GiB ({status.st_size} bytes)")
        with open(path, "rb", buffering=0) as file:
            content = file.readall()
    except OSError as error:
        raise UndecodableImage(path, error.strerror or str(error)) from error
    except UndecodableImage:
        raise
    except ValueError as error:
        raise UndecodableImage(path, "its name contains a null byte") from error
    if not content:
        raise UndecodableImage(path, "it is empty")
    return np.frombuffer(content, np.uint8)
