"""The planes of a TIFF file that belong together, as described by ImageJ, OME or tifffile, if at all.

Every description is checked against the actual pages; one that does not match is refused, not guessed at.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from xml.etree import ElementTree

import numpy as np

from xpcnn.data.pixels import Refusal
from xpcnn.data.readers.tiff_codecs import NONE
from xpcnn.data.readers.tiff_directory import MOST_PAGES, Directory
from xpcnn.data.readers.tiff_form import read_form

_MOST_AXES: Final = 32
_DOES_NOT_FIT: Final = "the description of its planes does not match its pages"


@dataclass(frozen=True)
class Plane:
    """One plane of a stack. shift: bytes from its directory's data to its own."""

    directory: Directory
    shift: int = 0


@dataclass(frozen=True)
class Stack:
    """The planes of a file's first image, the last axis fastest; a plane in another file is None.

    axes: what the planes differ in: C (channels), Z, T, and other axes that the writer named; "I" is unnamed.
    others: the planes outside the stack.
    """

    axes: str
    sizes: tuple[int, ...]
    planes: Sequence[Plane | None]
    others: Sequence[Plane] = field(default=())

    @property
    def unnamed(self) -> bool:
        """Whether nothing says what the planes differ in."""
        return all(size == 1 or axis in "IQ" for axis, size in zip(self.axes, self.sizes, strict=True))

    def pictures(self, channels: str) -> list[list[Plane | None]]:
        """Return the planes of each image in order; planes along the axes in ``channels`` are channels of one image."""
        order = sorted(range(len(self.axes)), key=lambda axis: self.axes[axis] in channels)
        numbers = np.arange(len(self.planes)).reshape(self.sizes).transpose(order)
        width = math.prod(size for axis, size in zip(self.axes, self.sizes, strict=True) if axis in channels)
        return [[self.planes[number] for number in row] for row in numbers.reshape(-1, width).tolist()]


def read_stack(directories: Sequence[Directory]) -> Stack:
    """Return how the pages of a file belong together."""
    if 33629 in directories[0]:  # UIC2Tag: planes without directories follow
        raise Refusal("it is a stack of MetaMorph (STK), which xpcnn does not read; save it again with ImageJ")
    description = directories[0].text(270)
    if description.startswith("ImageJ="):
        return _imagej(description, directories)
    if description.endswith("OME>"):
        return _ome(description, directories)
    if description.startswith('{"shape":'):
        return _shaped(description, directories)
    # Bits of NewSubfileType: 1 for a smaller version of another page, 4 for a mask.
    whole = [directory for directory in directories if not directory.number(254, 0) & 5]
    if not whole and 330 in directories[0]:
        raise Refusal("its first page is only a small version of its image, as in a camera's raw file")
    whole = whole or [*directories]
    return Stack("I", (len(whole),), [Plane(directory) for directory in whole])


def _imagej(description: str, directories: Sequence[Directory]) -> Stack:
    said = {
        key: int(value)
        for key, value in re.findall(r"^(images|channels|slices|frames)=(\d{1,9})\r?$", description, re.M)
    }
    sizes = {"T": said.get("frames", 1), "Z": said.get("slices", 1), "C": said.get("channels", 1)}
    if sizes["C"] == read_form(directories[0]).samples:
        sizes["C"] = 1  # red, green and blue of one page
    order = re.search(r"^order=([cztCZT]{3})\r?$", description, re.M)
    axes = order.group(1)[::-1].upper() if order else "TZC"
    if sorted(axes) != ["C", "T", "Z"]:
        raise Refusal(_DOES_NOT_FIT)
    if math.prod(sizes.values()) == 1:
        axes, sizes = "I", {"I": max(said.get("images", 1), len(directories))}
    return _stacked(axes, tuple(sizes[axis] for axis in axes), directories)


def _shaped(description: str, directories: Sequence[Directory]) -> Stack:
    """Read tifffile's description: the shape of the whole array, and sometimes the names of its axes."""
    try:
        said = json.loads(description)
        shape = [int(size) for size in said["shape"]]
        axes = str(said.get("axes", "")).upper()
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise Refusal(_DOES_NOT_FIT) from error
    if len(shape) > _MOST_AXES or not all(0 < size < 2**32 for size in shape):
        raise Refusal(_DOES_NOT_FIT)
    form = read_form(directories[0])
    count, over = divmod(math.prod(shape), form.height * form.width * form.samples)
    if over or count < 1:
        raise Refusal(_DOES_NOT_FIT)
    if len(axes) != len(shape):
        return _stacked("I", (count,), directories)
    sizes = {axis: size for axis, size in zip(axes, shape, strict=True) if axis not in "YXS"}
    if form.samples > 1 and sizes.get("C") == form.samples and math.prod(sizes.values()) == count * form.samples:
        del sizes["C"]
    if math.prod(sizes.values()) != count or len(axes) != len({*axes}):
        raise Refusal(_DOES_NOT_FIT)
    return _stacked("".join(sizes) or "I", tuple(sizes.values()) or (1,), directories)


def _stacked(axes: str, sizes: tuple[int, ...], directories: Sequence[Directory]) -> Stack:
    """Return the stack of the first pages, or of consecutive planes after the only page."""
    count, first = math.prod(sizes), directories[0]
    if 1 <= count <= len(directories):
        planes = [Plane(directory) for directory in directories]
        return Stack(axes, sizes, planes[:count], planes[count:])
    form = read_form(first)
    offsets, size = first.numbers(273), form.page_bytes
    follow = not form.tiled and [*np.cumsum([*offsets[:1], *first.numbers(279)[:-1]])] == offsets
    if len(directories) > 1 or form.compression != NONE or not follow or not offsets:
        raise Refusal(f"{_DOES_NOT_FIT}: it declares {count} planes and holds {len(directories)}")
    if offsets[0] + count * size > first.content.size:
        raise Refusal(f"it is truncated: its description declares {count} planes, more than it can hold")
    if count > MOST_PAGES:
        raise Refusal(f"it holds more than {MOST_PAGES} planes")
    return Stack(axes, sizes, [Plane(first, number * size) for number in range(count)])


def _ome(description: str, directories: Sequence[Directory]) -> Stack:
    try:
        root = ElementTree.fromstring(description)
    except (ElementTree.ParseError, ValueError) as error:
        raise Refusal(f"it is damaged: its description in OME-XML cannot be read ({error})") from error
    pixels = root.find("{*}Image/{*}Pixels")
    if pixels is None:
        raise Refusal("its description in OME-XML is in another file, or does not describe its pixels")
    form = read_form(directories[0])
    axes = pixels.get("DimensionOrder", "")[:1:-1]
    sizes = {axis: _whole(pixels, f"Size{axis}", 1) for axis in "XYCTZ"}
    if sorted(axes) != ["C", "T", "Z"] or (sizes["Y"], sizes["X"]) != (form.height, form.width):
        raise Refusal(_DOES_NOT_FIT)
    sizes["C"], over = divmod(sizes["C"], form.samples)
    shape = tuple(sizes[axis] for axis in axes)
    count = math.prod(shape)
    if over or not 1 <= count <= MOST_PAGES:
        raise Refusal(_DOES_NOT_FIT)
    table = _ome_table(root, pixels, axes, shape, len(directories))
    planes = [Plane(directories[number]) if number >= 0 else None for number in table]
    taken = {*table}
    others = [Plane(directory) for number, directory in enumerate(directories) if number not in taken]
    return Stack(axes, shape, planes, others)


def _ome_table(root: Any, pixels: Any, axes: str, shape: tuple[int, ...], pages: int) -> list[int]:
    """Return the number of the page with each plane, -1 for one in another file."""
    count = math.prod(shape)
    blocks = pixels.findall("{*}TiffData")
    if not blocks:
        return _ome_pages(0, count, pages)
    uuids = {uuid.text for uuid in pixels.findall("{*}TiffData/{*}UUID")}
    own = root.get("UUID") or next(iter(uuids), None)
    table = [-1] * count
    for block in blocks:
        place = 0
        for axis, size in zip(axes, shape, strict=True):
            first = _whole(block, f"First{axis}", 0)
            if first >= size:
                raise Refusal(_DOES_NOT_FIT)
            place = place * size + first
        length = _whole(block, "PlaneCount", _whole(block, "NumPlanes", 1 if block.get("IFD") else count))
        uuid = block.find("{*}UUID")
        if uuid is not None and uuid.text != own:
            continue
        if place + length > count or any(page >= 0 for page in table[place : place + length]):
            raise Refusal(_DOES_NOT_FIT)
        table[place : place + length] = _ome_pages(_whole(block, "IFD", 0), length, pages)
    return table


def _ome_pages(first: int, count: int, pages: int) -> list[int]:
    if first + count > pages:
        raise Refusal(f"{_DOES_NOT_FIT}: it declares {first + count} planes and holds {pages}")
    return [*range(first, first + count)]


def _whole(element: Any, name: str, default: int) -> int:
    text = element.get(name, str(default))
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise Refusal(_DOES_NOT_FIT)
    return int(text)
