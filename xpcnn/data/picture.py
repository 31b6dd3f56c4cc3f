"""From a file's pixels to a dataset's format: channels, size and range of values, with the file's facts."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xpcnn.data.decoding import Decoding, Range
from xpcnn.data.digests import SIZE
from xpcnn.data.opencv import load_opencv
from xpcnn.data.pixels import Pixels, Refusal
from xpcnn.data.resizing import resized

#: Scales 16-bit values to bytes if no range is given.
_BYTE_OF_16_BITS = 1 / 257


class Facts(NamedTuple):
    """The properties of an image's file.

    height, width: upright, before resizing. samples: the number of channels in the file, without transparency. kind:
    "grey", "rgb" or "channels". dtype: of its values. pages: their number. low, high: the minimum and maximum of each
    channel after resizing and before mapping to bytes; empty for 8-bit values. digest: of the file's bytes, in
    hexadecimal. clipped: the fraction of values outside the range.
    """

    height: int
    width: int
    samples: int
    kind: str
    dtype: str
    pages: int
    low: tuple[float, ...]
    high: tuple[float, ...]
    digest: str
    clipped: float = 0.0

    @classmethod
    def from_json(cls, values: list[Any]) -> Facts:
        """Return the facts that JSON stored as a list; raise TypeError for anything else."""
        plain: list[Any] = [tuple(value) if isinstance(value, list) else value for value in values]
        fields = cls(*plain)
        numbers = (*fields.low, *fields.high, fields.clipped)
        whole = all(type(value) is int for value in (fields.height, fields.width, fields.samples, fields.pages))
        texts = all(isinstance(value, str) for value in (fields.kind, fields.dtype, fields.digest))
        if not whole or not texts or not all(type(value) in (int, float) for value in numbers):
            raise TypeError
        if len(bytes.fromhex(fields.digest)) != SIZE:
            raise ValueError
        return fields

    @property
    def is_deep(self) -> bool:
        """Whether its values are not 8-bit."""
        return self.dtype != "uint8"


class Picture(NamedTuple):
    """A decoded image, (channels, height, width), and the facts of its file."""

    image: NDArray[Any]
    facts: Facts


def make(pixels: Pixels, decoding: Decoding, digest: bytes, raw: bool = False) -> Picture:
    """Convert an image to a decoding's channels, size and range: uint8, or if ``raw`` unscaled float32.

    Raises :class:`Refusal` if it lacks channels, or has values that no range maps to bytes.
    """
    h, w, samples = pixels.values.shape
    chosen = _channels(pixels, decoding)
    if chosen.dtype not in (np.uint8, np.uint16, np.float32):
        chosen = chosen.astype(np.float32)
    sized = resized(chosen, decoding.height, decoding.width, decoding.resizing)
    low, high = ((), ()) if sized.dtype == np.uint8 else _extremes(sized)
    clipped = 0.0
    image: NDArray[Any]
    if raw:
        image = sized.astype(np.float32)
    elif decoding.ranges is not None:
        image, clipped = map_to_bytes(sized, decoding.ranges), _clipped(sized, decoding.ranges)
    else:
        image = _bytes(sized, pixels.values.dtype)
    colours = samples - 1 if pixels.alpha and not decoding.as_channels else samples
    dtype = "uint8" if pixels.values.dtype == np.uint8 else pixels.values.dtype.name  # looking up a name takes 3 us
    facts = Facts(h, w, colours, pixels.kind, dtype, pixels.pages, low, high, digest.hex(), clipped)
    return Picture(np.ascontiguousarray(image.transpose(2, 0, 1)), facts)


def map_to_bytes(values: NDArray[Any], ranges: tuple[Range, ...]) -> NDArray[np.uint8]:
    """Map values (…, channels) linearly from each channel's (low, high) to 0..255, rounded and clipped."""
    low, high = np.array(ranges, dtype=np.float64).T
    scaled = (values.astype(np.float32) - low.astype(np.float32)) * (255 / (high - low)).astype(np.float32)
    levels: NDArray[np.uint8] = np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
    return levels


def _channels(pixels: Pixels, decoding: Decoding) -> NDArray[Any]:
    """Return (h, w, channels) with the file's depth."""
    values, wanted = pixels.values, decoding.channels
    if decoding.as_channels:
        if values.shape[2] < wanted:
            raise Refusal(f"it has {_count(values.shape[2])}, and {wanted} are expected")
        return values[:, :, :wanted]
    samples = values.shape[2] - pixels.alpha
    if pixels.kind == "channels" and samples != 3:
        raise Refusal(
            f"it has {_count(samples)}, which are not colours: use them as they are (--channels, as_channels=True)"
        )
    if samples == 1:
        return values[:, :, :1] if wanted == 1 else values[:, :, :1].repeat(3, axis=2)
    colours = values[:, :, :3]
    return colours if wanted == 3 else _grey(colours)


def _grey(colours: NDArray[Any]) -> NDArray[Any]:
    """Return the luminance 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601) of red, green and blue, (h, w, 1)."""
    cv2 = load_opencv()
    if colours.dtype not in (np.uint8, np.uint16, np.float32):
        colours = colours.astype(np.float32)
    if colours.strides[2] < 0:  # stored as blue, green, red, as OpenCV decodes: no copy
        grey = cv2.cvtColor(np.ascontiguousarray(colours[:, :, ::-1]), cv2.COLOR_BGR2GRAY)
    else:
        grey = cv2.cvtColor(np.ascontiguousarray(colours), cv2.COLOR_RGB2GRAY)
    return np.asarray(grey).reshape(*colours.shape[:2], 1)


def _bytes(sized: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[np.uint8]:
    """Return 8-bit values as they are and 16-bit values scaled from their full range; refuse others."""
    if sized.dtype == np.uint8:
        return sized
    if dtype != np.uint16:
        raise Refusal(
            f"its values are {dtype}, and no range says which are black and white: give one (--range LOW HIGH, "
            "range=(low, high))"
        )
    cv2 = load_opencv()
    # rounds, without a second copy of an image of 2**27 pixels
    return np.asarray(cv2.convertScaleAbs(np.ascontiguousarray(sized), alpha=_BYTE_OF_16_BITS)).reshape(sized.shape)


def _extremes(sized: NDArray[Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return tuple(sized.min(axis=(0, 1)).tolist()), tuple(sized.max(axis=(0, 1)).tolist())


def _clipped(sized: NDArray[Any], ranges: tuple[Range, ...]) -> float:
    low, high = np.array(ranges).T
    return float(((sized < low) | (sized > high)).mean())


def _count(channels: int) -> str:
    return "one channel" if channels == 1 else f"{channels} channels"
