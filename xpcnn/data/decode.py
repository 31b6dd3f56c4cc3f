"""One image file to one array of bytes: decoding, bit depth, channel order, size."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpcnn.data.opencv import MAX_PIXELS, load_opencv

MAX_FILE_BYTES = 2**30


class UndecodableImage(ValueError):  # noqa: N818 (it names the file, not the failure)
    """A file that cannot be read as an image; ``path`` says which and ``reason`` says why."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path} cannot be read as an image: {reason}.")
        self.path = path
        self.reason = reason


@dataclass(frozen=True)
class Decoding:
    """The size and the channels that every image of a set is decoded to.

    height, width: in pixels. channels: 1 (grey) or 3 (red, green, blue). An image of another size is
    stretched to this one, its sides in whatever proportion, by pixel area where it shrinks and linearly where
    it grows.

    Raises ValueError for sizes below 1, more than 2**27 pixels, or another number of channels.

    >>> Decoding.from_json(Decoding(height=64, width=64, channels=3).to_json())
    Decoding(height=64, width=64, channels=3)
    """

    height: int
    width: int
    channels: int

    def __post_init__(self) -> None:
        whole = all(type(value) is int for value in (self.height, self.width, self.channels))
        if not whole or min(self.height, self.width) < 1 or self.height * self.width > MAX_PIXELS:
            raise ValueError(
                "Images are decoded to a whole height and width from 1 on, of 2**27 pixels at most. "
                f"Received: {self.height!r} x {self.width!r} with {self.channels!r} channels."
            )
        if self.channels not in (1, 3):
            raise ValueError(f"Images are decoded to 1 channel (grey) or 3 (colour). Received: {self.channels!r}.")

    def to_json(self) -> dict[str, Any]:
        """Return the fields as a dictionary that JSON can hold."""
        return {**asdict(self), "resizing": "stretch"}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Decoding:
        """Return the decoding that :meth:`to_json` wrote; raise ValueError for anything else."""
        expected = {"height", "width", "channels", "resizing"}
        if not isinstance(fields, Mapping) or set(fields) != expected or fields["resizing"] != "stretch":
            raise ValueError(
                "A decoding holds height, width, channels and the resizing 'stretch', and nothing else. "
                f"Received: {str(fields)[:200]}."
            )
        return cls(fields["height"], fields["width"], fields["channels"])


def read_image(path: str | os.PathLike[str], decoding: Decoding) -> NDArray[np.uint8]:
    """Decode one file to uint8 (channels, height, width), in the order red, green, blue.

    The rotation that a camera notes (EXIF) is applied, transparency dropped, a palette looked up, 16 bits
    scaled to 8 (65535 to 255), the size stretched as :class:`Decoding` says. Of several pages or frames the
    first is read.

    Raises :class:`UndecodableImage` for a file that is missing, unreadable, empty, truncated or no image.
    """
    path = Path(path)
    return _channels_first(_stretch(_decode(path, _read_bytes(path), decoding), decoding.height, decoding.width))


def resize(images: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Stretch uint8 images (n, channels, h, w) to (n, channels, height, width), as :func:`read_image`
    does."""
    resized = np.empty((*images.shape[:2], height, width), dtype=np.uint8)
    for image, target in zip(images, resized, strict=True):
        target[...] = _channels_first(_stretch(image.transpose(1, 2, 0), height, width))
    return resized


def _read_bytes(path: Path) -> NDArray[np.uint8]:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise UndecodableImage(path, "it is not a regular file")
        if status.st_size > MAX_FILE_BYTES:
            raise UndecodableImage(path, f"it is larger than 1 GiB ({status.st_size} bytes)")
        encoded = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise UndecodableImage(path, error.strerror or str(error)) from error
    if encoded.size == 0:
        raise UndecodableImage(path, "it is empty")
    return encoded


def _decode(path: Path, encoded: NDArray[np.uint8], decoding: Decoding) -> NDArray[np.uint8]:
    cv2 = load_opencv()
    colour = cv2.IMREAD_GRAYSCALE if decoding.channels == 1 else cv2.IMREAD_COLOR
    try:
        # From memory: imread accepts a truncated JPEG and fills the rest with grey.
        pixels = cv2.imdecode(encoded, colour | cv2.IMREAD_ANYDEPTH)
    except cv2.error as error:
        raise UndecodableImage(path, f"OpenCV refuses it ({' '.join(error.err.split())})") from error
    if pixels is None:
        raise UndecodableImage(path, "it is truncated, damaged, or in no format that OpenCV knows")
    if pixels.dtype == np.uint16:
        pixels = cv2.convertScaleAbs(pixels, alpha=1 / 257)  # rounded; of an image of 2**27 pixels no second copy
    if pixels.dtype != np.uint8:
        raise UndecodableImage(path, f"its pixels are {pixels.dtype}, not of 8 or 16 bits")
    rgb: NDArray[np.uint8] = pixels[:, :, ::-1] if decoding.channels == 3 else pixels[:, :, np.newaxis]
    return rgb


def _stretch(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Stretch (h, w, channels): first shrink what is too large, then enlarge what is too small."""
    if image.shape[:2] == (height, width):
        return image
    cv2 = load_opencv()
    image = np.ascontiguousarray(image)
    h, w, channels = image.shape
    shrunk = cv2.resize(image, (min(w, width), min(h, height)), interpolation=cv2.INTER_AREA)
    stretched = cv2.resize(shrunk, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(stretched, dtype=np.uint8).reshape(height, width, channels)


def _channels_first(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(image.transpose(2, 0, 1))
