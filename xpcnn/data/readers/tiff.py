"""Images in TIFF files of one or more pages: decoded correctly, or refused with the reason.

xpcnn's own code reads the container and the common compressions, and checks each strip and tile: libtiff and most
readers silently leave missing parts black or grey. tifffile is only used for names: hostile files cost it unbounded
time and memory, and it omits what it can't read (see ``tiff_directory``).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from xpcnn.data.pixels import Page, Pixels, Refusal
from xpcnn.data.readers.tiff_colours import kind_of, to_pixels
from xpcnn.data.readers.tiff_directory import read_directories
from xpcnn.data.readers.tiff_form import MAX_BYTES, read_form
from xpcnn.data.readers.tiff_segments import read_samples, stored_bytes
from xpcnn.data.readers.tiff_stack import Plane, Stack, read_stack


def read_tiff(
    content: bytes | bytearray | memoryview | NDArray[np.uint8], page: Page = 0, all_pages_as_channels: bool = False
) -> Pixels:
    """Decode one image of a TIFF file.

    content: the whole file. page: the number of a page, counted from 0, or "max" or "mean" for a projection of all
    pages. Pages are counted in the order of the stack that ImageJ, OME or tifffile describes, or else of the file;
    pages outside the stack follow after it, and projections ignore them. Channels, the axis C, are not pages but an
    image's samples, unless its pages already have several samples. Smaller versions of a page are not counted.
    all_pages_as_channels: use the pages of a stack as the channels of one image if they are grey and nothing identifies
    them as slices or time points.

    Raises Refusal for content that is not a TIFF file, is truncated or damaged, or is of an unsupported kind.
    """
    try:
        return _read(np.frombuffer(content, np.uint8), page, all_pages_as_channels)
    except MemoryError as error:
        raise Refusal("there is not enough memory for it") from error


def describe(content: bytes | bytearray | memoryview | NDArray[np.uint8]) -> tuple[int, bool, int]:
    """Return the first page's compression, whether its samples are in separate planes, and the bits per sample.

    Raises Refusal for content whose first page cannot be read.
    """
    form = read_form(read_directories(np.frombuffer(content, np.uint8))[0])
    return form.compression, form.planar, form.bits


def _read(content: NDArray[np.uint8], page: Page, all_pages_as_channels: bool) -> Pixels:
    stack = read_stack(read_directories(content))
    pictures = stack.pictures(_channel_axes(stack, all_pages_as_channels))
    others: list[list[Plane | None]] = [[plane] for plane in stack.others]
    pages = len(pictures) + len(others)
    if page == "max" or page == "mean":
        _check_apart(content.size, itertools.chain.from_iterable(pictures))
        picture = _combined((_picture(planes) for planes in pictures), page)
    elif 0 <= page < pages:
        picture = _picture([*pictures, *others][page])
    else:
        raise Refusal(f"it has no page {page}: it holds {pages}, counted from 0 on")
    return replace(picture, pages=pages)


def _channel_axes(stack: Stack, all_pages_as_channels: bool) -> str:
    first = next((plane for plane in stack.planes if plane is not None), None)
    if first is None:
        raise Refusal("its planes are in other files")
    form = read_form(first.directory)
    if form.samples > 1 or kind_of(first.directory, form)[0] != "grey":
        return ""
    return "CIQ" if all_pages_as_channels and stack.unnamed else "C"


def _picture(planes: Sequence[Plane | None]) -> Pixels:
    """Return one plane as it is, or several grey ones as channels."""
    present = [plane for plane in planes if plane is not None]
    if len(present) < len(planes):
        raise Refusal("part of it is missing: it lies in another file")
    forms = [read_form(plane.directory) for plane in present]
    if sum(form.height * form.width * form.dtype.itemsize for form in forms) > MAX_BYTES:
        raise Refusal(f"it is larger than 2 GiB ({len(forms)} channels of {forms[0].height} x {forms[0].width} pixels)")
    if len(present) == 1:
        return _plane(present[0])
    _check_apart(present[0].directory.content.size, present)
    parts: list[NDArray[Any]] = []
    for plane in present:
        part = _plane(plane)
        if part.kind != "grey" or part.alpha:
            raise Refusal("its channels are not grey planes of their own")
        parts.append(part.values)
        _check_alike(parts[0], part.values)
    return Pixels(np.concatenate(parts, axis=2), "channels")


def _check_apart(left: int, planes: Iterable[Plane | None]) -> None:
    """Raise Refusal for planes that share their data, or a small file could cause endless work."""
    for plane in planes:
        left -= stored_bytes(plane.directory, read_form(plane.directory)) if plane is not None else 0
        if left < 0:
            raise Refusal("it is damaged: its pages share strips or tiles")


def _plane(plane: Plane) -> Pixels:
    form = read_form(plane.directory)
    kind_of(plane.directory, form)  # refuses before any work is done
    return to_pixels(plane.directory, form, read_samples(plane.directory, form, plane.shift))


def _combined(pictures: Iterator[Pixels], how: Literal["max", "mean"]) -> Pixels:
    """Return the maximum or the mean of images, holding only one of them beside the result."""
    first = next(pictures)
    dtype, count = first.values.dtype, 1
    total = first.values if how == "max" else first.values.astype(np.float64 if dtype.kind == "f" else np.int64)
    for picture in pictures:
        _check_alike(first.values, picture.values)
        if (picture.kind, picture.alpha) != (first.kind, first.alpha):
            raise Refusal(f"its pages are of different kinds, {first.kind} and {picture.kind}")
        count += 1
        if how == "max":
            np.maximum(total, picture.values, out=total)
        else:
            total += picture.values
    if how == "mean":
        mean = total / count
        total = (np.rint(mean) if dtype.kind != "f" else mean).astype(dtype)
    return replace(first, values=total)


def _check_alike(one: NDArray[Any], other: NDArray[Any]) -> None:
    if (one.shape, one.dtype) != (other.shape, other.dtype):
        raise Refusal(
            f"its pages or channels differ: {one.shape[0]} x {one.shape[1]} {one.dtype} and "
            f"{other.shape[0]} x {other.shape[1]} {other.dtype}"
        )
