"""A TIFF page's pixel format: size, samples, depth, and its strips or tiles."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from xpcnn.data.opencv import MAX_PIXELS
from xpcnn.data.pixels import Refusal
from xpcnn.data.readers.tiff_directory import Directory

#: The bytes of a page of 2**27 pixels with four 32-bit samples.
MAX_BYTES: Final = 16 * MAX_PIXELS
_FORMATS: Final = {1: "unsigned", 2: "signed", 3: "floating point", 4: "unsigned"}
_DTYPES: Final = {
    "unsigned": {1: "u1", 2: "u1", 4: "u1", 8: "u1", 12: "u2", 16: "u2", 32: "u4"},
    "signed": {8: "i1", 16: "i2", 32: "i4"},
    "floating point": {16: "f2", 32: "f4", 64: "f8"},
}


@dataclass(frozen=True)
class Form:
    """The format of a page's pixels.

    samples: per pixel. bits: per sample. dtype: of the stored samples. planar: each sample has its own strips or tiles.
    tile_height, tile_width: of a strip, of which the last may be shorter, or of a tile, which never is.
    """

    height: int
    width: int
    samples: int
    bits: int
    dtype: np.dtype[np.generic]
    photometric: int
    compression: int
    predictor: int
    planar: bool
    tiled: bool
    tile_height: int
    tile_width: int

    @property
    def grid(self) -> tuple[int, int, int]:
        """The numbers of planes, rows and columns of strips or tiles."""
        planes = self.samples if self.planar else 1
        return planes, math.ceil(self.height / self.tile_height), math.ceil(self.width / self.tile_width)

    @property
    def segment_samples(self) -> int:
        """The samples per pixel in a strip or tile."""
        return 1 if self.planar else self.samples

    @property
    def row_bytes(self) -> int:
        """The bytes of a row of a strip or tile."""
        return math.ceil(self.tile_width * self.segment_samples * self.bits / 8)

    @property
    def page_bytes(self) -> int:
        """The bytes of the uncompressed page."""
        return self.height * math.ceil(self.width * self.segment_samples * self.bits / 8) * self.grid[0]


def read_form(directory: Directory) -> Form:
    """Return the format that a page declares; raise Refusal for an invalid or unsupported one."""
    if "form" not in directory.made:
        directory.made["form"] = _read_form(directory)
    form: Form = directory.made["form"]
    return form


def _read_form(directory: Directory) -> Form:
    height, width = directory.number(257, 0), directory.number(256, 0)
    samples, planar = directory.number(277, 1), directory.number(284, 1)
    if not height or not width or not samples:
        raise Refusal(f"it is damaged: it declares {height} x {width} pixels of {samples} samples")
    if height * width > MAX_PIXELS:
        raise Refusal(f"it is larger than 2**27 pixels ({height} x {width})")
    if planar not in (1, 2) or directory.number(32997, 1) != 1:
        raise Refusal("its samples are in an order or a depth that xpcnn does not read")
    if directory.number(266, 1) != 1:
        raise Refusal("its bits are in the reverse order (FillOrder 2), which xpcnn does not read")
    bits, dtype = _depth(directory, samples)
    if height * width * samples * dtype.itemsize > MAX_BYTES:
        raise Refusal(f"it is larger than 2 GiB ({height} x {width} pixels of {samples} samples of {bits} bits)")
    if 262 not in directory:
        raise Refusal("it does not say what its samples mean (PhotometricInterpretation is missing)")
    tiled = 322 in directory
    tile_height = directory.number(323, 0) if tiled else min(directory.number(278, height), height)
    tile_width = directory.number(322, 0) if tiled else width
    if not tile_height or not tile_width:
        raise Refusal(f"it is damaged: its strips or tiles are {tile_height} x {tile_width} pixels")
    if tile_height * tile_width > MAX_PIXELS:
        raise Refusal(f"its tiles are larger than 2**27 pixels ({tile_height} x {tile_width})")
    return Form(
        height=height,
        width=width,
        samples=samples,
        bits=bits,
        dtype=dtype,
        photometric=directory.number(262, 0),
        compression=directory.number(259, 1),
        predictor=directory.number(317, 1),
        planar=planar == 2 and samples > 1,
        tiled=tiled,
        tile_height=tile_height,
        tile_width=tile_width,
    )


def _depth(directory: Directory, samples: int) -> tuple[int, np.dtype[np.generic]]:
    """Return the bits of a sample and its dtype."""
    depths = directory.numbers(258)[:samples] or [1]
    formats = directory.numbers(339)[:samples] or [1]
    if len(depths) not in (1, samples) or len({*depths}) > 1 or len({*formats}) > 1:
        raise Refusal(f"its samples differ in depth or kind (bits {_few(depths)}, formats {_few(formats)})")
    kind = _FORMATS.get(formats[0])
    if kind is None:
        raise Refusal(f"its samples are complex or of an unknown kind (SampleFormat {formats[0]})")
    if depths[0] not in _DTYPES[kind]:
        known = ", ".join(map(str, _DTYPES[kind]))
        raise Refusal(f"its samples are {kind} numbers of {depths[0]} bits, but xpcnn reads {known}")
    return depths[0], np.dtype(_DTYPES[kind][depths[0]])


def _few(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers[:4])) + (", …" if len(numbers) > 4 else "")
