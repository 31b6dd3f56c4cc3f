"""How a dataset's images become arrays of one shape; saved with the model, so that prediction does the same."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias, cast

import numpy as np

from xpcnn.data.opencv import MAX_PIXELS
from xpcnn.data.pixels import Page

Resizing: TypeAlias = Literal["stretch", "crop", "pad"]
Range: TypeAlias = tuple[float, float]

RESIZINGS = ("stretch", "crop", "pad")
MOST_CHANNELS = 512
#: The decoding of version 0.1.0, and the current one.
FIRST, LATEST = 1, 2
_EPSILON, _TINY, _MOST = (float(getattr(np.finfo(np.float32), name)) for name in ("eps", "tiny", "max"))
#: The fields that version 0.1.0 wrote.
_FIRST_FIELDS = {"height", "width", "channels", "resizing"}


@dataclass(frozen=True)
class Decoding:
    """The shape, channels and range of values to which every image of a dataset is decoded.

    height, width: in pixels. channels: 1 (grey), 3 (red, green, blue), or any number with ``as_channels``.
    resizing: how to fit an image of another aspect ratio: "stretch" it, "crop" it to the largest centred part of the
    right aspect ratio, or "pad" it on both sides by repeating its edge. Images are then shrunk by area interpolation
    and enlarged by linear interpolation.
    as_channels: take the first channels of a file as they are, such as those of a fluorescence microscope, instead of
    as colours. range: the values (low, high) to map linearly to 0 and 255, as one pair or as one per channel; values
    outside are clipped. None: 8-bit values stay as they are, 16-bit values are mapped from 0..65535, and others are
    refused. page: the page of a stack, counted from 0, or "max" or "mean" for a projection of all pages.
    generation: 2, or 1 for the decoding of version 0.1.0.

    Raises ValueError for sizes below 1, more than 2**27 pixels, or any other invalid argument.

    >>> Decoding.from_json(Decoding(height=64, width=64, channels=1, range=(0, 4095)).to_json()).range
    ((0.0, 4095.0),)
    """

    height: int
    width: int
    channels: int
    resizing: Resizing = "stretch"
    as_channels: bool = False
    range: tuple[Range, ...] | Range | None = None
    page: Page = 0
    generation: int = LATEST

    def __post_init__(self) -> None:
        whole = all(type(value) is int for value in (self.height, self.width, self.channels))
        if not whole or min(self.height, self.width) < 1 or self.height * self.width > MAX_PIXELS:
            raise ValueError(
                "height and width must be integers from 1 on, with at most 2**27 pixels. "
                f"Received: {self.height!r} x {self.width!r} with {self.channels!r} channels."
            )
        if type(self.as_channels) is not bool:
            raise ValueError(f"as_channels must be True or False. Received: {self.as_channels!r}.")
        if not self.as_channels and self.channels not in (1, 3):
            raise ValueError(
                f"channels must be 1 (grey) or 3 (colour), or any number with as_channels. Received: {self.channels!r}."
            )
        if not 1 <= self.channels <= MOST_CHANNELS or self.channels * self.height * self.width > 4 * MAX_PIXELS:
            raise ValueError(
                f"An image may have 1 to {MOST_CHANNELS} channels and 2**29 values. Received: {self.channels!r} of "
                f"{self.height!r} x {self.width!r}."
            )
        if self.resizing not in RESIZINGS:
            raise ValueError(f"resizing must be one of {', '.join(RESIZINGS)}. Received: {str(self.resizing)[:80]!r}.")
        if self.page not in ("max", "mean") and (type(self.page) is not int or self.page < 0):
            raise ValueError(f'page must be an integer from 0 on, "max" or "mean". Received: {str(self.page)[:80]!r}.')
        if type(self.generation) is not int or self.generation not in (FIRST, LATEST):
            raise ValueError(
                f"This version of xpcnn supports the generations {FIRST} and {LATEST}. Received: {self.generation!r}."
            )
        object.__setattr__(self, "range", _ranges(self.range, self.channels))
        if self.generation == FIRST and asdict(self) != asdict(self) | _FIRST_DEFAULTS:
            raise ValueError(
                "Version 0.1.0 decoded the first page, by stretching, to 8-bit grey or colour. Received: "
                f"{str(asdict(self))[:200]}."
            )

    @property
    def ranges(self) -> tuple[Range, ...] | None:
        """The range of each channel, or None."""
        return cast("tuple[Range, ...] | None", self.range)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        return self.channels, self.height, self.width

    def to_json(self) -> dict[str, Any]:
        """Return the fields as a JSON-serialisable dictionary; for generation 1, those that version 0.1.0 wrote."""
        fields = asdict(self)
        if self.generation == FIRST:
            return {name: fields[name] for name in ("height", "width", "channels", "resizing")}
        if fields["range"] is not None:
            fields["range"] = [list(pair) for pair in fields["range"]]
        return fields

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Decoding:
        """Return the decoding that :meth:`to_json` wrote, in any version; raise ValueError for anything else."""
        expected = set(cls.__dataclass_fields__)
        if isinstance(fields, Mapping) and set(fields) == _FIRST_FIELDS:
            fields = {**fields, "generation": FIRST}
        elif not isinstance(fields, Mapping) or set(fields) != expected:
            raise ValueError(
                f"A decoding has exactly the fields {', '.join(cls.__dataclass_fields__)}. "
                f"Received: {str(fields)[:200]}."
            )
        if "range" in fields and isinstance(fields["range"], list):
            fields = {**fields, "range": _tuples(fields["range"])}
        return cls(**fields)


_FIRST_DEFAULTS = {"resizing": "stretch", "as_channels": False, "range": None, "page": 0}


def _tuples(pairs: list[Any]) -> tuple[Any, ...]:
    return tuple(tuple(pair) if isinstance(pair, list) else pair for pair in pairs)


def _ranges(given: Any, channels: int) -> tuple[Range, ...] | None:
    """Return one range per channel, or raise ValueError."""
    if given is None:
        return None
    pairs = (given,) if isinstance(given, tuple) and not any(isinstance(one, tuple) for one in given) else given
    try:
        floats = [(float(low), float(high)) for low, high in pairs]
        plain = all(type(value) in (int, float) for pair in pairs for value in pair)
    except (TypeError, ValueError, OverflowError):
        floats, plain = [], False
    finite = all(math.isfinite(low) and math.isfinite(high) and low < high for low, high in floats)
    if not plain or not finite or len(floats) not in (1, channels):
        raise ValueError(
            "range must be two finite numbers (low, high) with low < high, or one such pair for each of the "
            f"{channels} channels. Received: {str(given)[:200]}."
        )
    for low, high in floats:
        least = max(_EPSILON * max(abs(low), abs(high)), _TINY)
        if not 255 * least <= high - low <= _MOST:
            raise ValueError(
                "The range is too narrow for the size of its values, or too wide, for float32 to tell 256 levels "
                f"apart. Received: {low:.17g} to {high:.17g}. Subtract an offset from all images, or scale them."
            )
    return tuple(floats * channels if len(floats) == 1 else floats)
