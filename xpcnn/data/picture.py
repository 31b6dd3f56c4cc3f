"""From what a file holds to what a set takes: channels, size, scale of values, and what is to be told of it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xpcnn.data.decoding import Decoding, Range
from xpcnn.data.digests import SIZE
from xpcnn.data.opencv import load_opencv
from xpcnn.data.pixels import Pixels, Refusal
from xpcnn.data.resizing import resized

#: Values of 16 bits become bytes by this, where no range is given.
_BYTE_OF_16_BITS = 1 / 257


class Facts(NamedTuple):
    """What was found in a picture's file.

    height, width: upright, before it was brought to size. samples: how many channels the file has, transparency left
    out. kind: "grey", "rgb" or "channels". dtype: of its values. pages: how many it has. low, high: the least and
    greatest value of each channel of the picture as brought to size, before it was mapped; empty for 8 bits. digest: of
    the file's bytes, in hexadecimal. clipped: the part of the values that were outside the range.
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
        """Return the facts that JSON made a list of; raise TypeError for anything else."""
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
        """Whether its values are not of 8 bits."""
        return self.dtype != "uint8"


class Picture(NamedTuple):
    """A decoded picture, (channels, height, width), and what was found in its file."""

    image: NDArray[Any]
    facts: Facts


def make(pixels: Pixels, decoding: Decoding, digest: bytes, raw: bool = False) -> Picture:
    """Bring a picture to the channels, the size and the scale of a decoding: uint8, or if ``raw`` unscaled float32.

    Raises :class:`Refusal` where it has not the channels, or values that no range maps to bytes.
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
    dtype = "uint8" if pixels.values.dtype == np.uint8 else pixels.values.dtype.name  # a name takes 3 us to make
    facts = Facts(h, w, colours, pixels.kind, dtype, pixels.pages, low, high, digest.hex(), clipped)
    return Picture(np.ascontiguousarray(image.transpose(2, 0, 1)), facts)


def map_to_bytes(values: NDArray[Any], ranges: tuple[Range, ...]) -> NDArray[np.uint8]:
    """Spread values (…, channels) from each channel's (low, high) over 0 to 255, rounded; those outside are clipped."""
    low, high = np.array(ranges, dtype=np.float64).T
    scaled = (values.astype(np.float32) - low.astype(np.float32)) * (255 / (high - low)).astype(np.float32)
    levels: NDArray[np.uint8] = np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
    return levels


def _channels(pixels: Pixels, decoding: Decoding) -> NDArray[Any]:
    """Return (h, w, channels) in the depth of the file."""
    values, wanted = pixels.values, decoding.channels
    if decoding.as_channels:
        if values.shape[2] < wanted:
            raise Refusal(f"it has {_count(values.shape[2])}, and {wanted} are expected")
        return values[:, :, :wanted]
    samples = values.shape[2] - pixels.alpha
    if pixels.kind == "channels" and samples != 3:
        raise Refusal(
            f"it has {_count(samples)}, which are no colours: take them as they are (--channels, as_channels=True)"
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
    if colours.strides[2] < 0:  # blue, green, red in memory, as OpenCV decodes: no copy
        grey = cv2.cvtColor(np.ascontiguousarray(colours[:, :, ::-1]), cv2.COLOR_BGR2GRAY)
    else:
        grey = cv2.cvtColor(np.ascontiguousarray(colours), cv2.COLOR_RGB2GRAY)
    return np.asarray(grey).reshape(*colours.shape[:2], 1)


def _bytes(sized: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[np.uint8]:
    """Return values of 8 bits as they are, and of 16 bits by their whole range; refuse others."""
    if sized.dtype == np.uint8:
        return sized
    if dtype != np.uint16:
        raise Refusal(
            f"its values are {dtype}, and no range says which are black and white: give it (--range LOW HIGH, "
            "range=(low, high))"
        )
    cv2 = load_opencv()
    # rounded; of an image of 2**27 pixels no second copy
    return np.asarray(cv2.convertScaleAbs(np.ascontiguousarray(sized), alpha=_BYTE_OF_16_BITS)).reshape(sized.shape)


def _extremes(sized: NDArray[Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return tuple(sized.min(axis=(0, 1)).tolist()), tuple(sized.max(axis=(0, 1)).tolist())


def _clipped(sized: NDArray[Any], ranges: tuple[Range, ...]) -> float:
    low, high = np.array(ranges).T
    return float(((sized < low) | (sized > high)).mean())


def _count(channels: int) -> str:
    return "one channel" if channels == 1 else f"{channels} channels"
