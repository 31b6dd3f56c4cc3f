"""A TIFF page's stored samples: its strips or tiles, each checked and decoded, then assembled."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpcnn.data.pixels import Refusal
from xpcnn.data.readers import tiff_codecs
from xpcnn.data.readers.tiff_directory import Directory, Order
from xpcnn.data.readers.tiff_form import Form
from xpcnn.data.readers.tiff_jpeg import decode_jpeg

#: Compressions to which the predictor tag applies; for others it has no meaning.
_PREDICTED = (tiff_codecs.LZW, *tiff_codecs.DEFLATE, 34925, 34926, 50000)


@dataclass(frozen=True)
class Segment:
    """One strip or tile: the offset of its data, and its position in the page."""

    offset: int
    count: int
    plane: int
    top: int
    left: int
    rows: int


def read_samples(directory: Directory, form: Form, shift: int = 0) -> NDArray[Any]:
    """Return a page's samples, (height, width, samples), in native byte order.

    shift: bytes from the declared offset to the data, for the later planes of an ImageJ stack.
    """
    of_bytes = tiff_codecs.gives_bytes(form.compression)
    segments = [*_segments(directory, form, shift)]
    samples = np.empty((form.height, form.width, form.samples), form.dtype)
    for segment in segments:
        data = directory.content[segment.offset : segment.offset + segment.count]
        shape = segment.rows, form.tile_width, form.segment_samples
        if form.compression == tiff_codecs.JPEG:
            pixels = decode_jpeg(data, directory.data(347), form, shape)
        elif of_bytes:
            data = tiff_codecs.decompress(form.compression, data, segment.rows * form.row_bytes)
            pixels = _unpredicted(data, directory.order, form, shape)
        else:
            pixels = tiff_codecs.decode_pixels(form.compression, data, shape, form.dtype)
        target = samples[segment.top :, segment.left :, segment.plane : segment.plane + form.segment_samples]
        target = target[: segment.rows, : form.tile_width]
        target[...] = pixels[: target.shape[0], : target.shape[1]]
    return samples


def stored_bytes(directory: Directory, form: Form) -> int:
    """Return the number of bytes in the file that a page's strips or tiles take."""
    return sum(directory.numbers(325 if form.tiled else 279))


def _segments(directory: Directory, form: Form, shift: int) -> Iterator[Segment]:
    """Yield the strips or tiles of a page; raise Refusal unless all of them can exist."""
    planes, rows, columns = form.grid
    offsets, counts = (directory.numbers(tag) for tag in ((324, 325) if form.tiled else (273, 279)))
    needed = planes * rows * columns
    if not counts and form.compression == tiff_codecs.NONE and needed == 1:
        counts = [form.page_bytes]
    if (len(offsets), len(counts)) != (needed, needed):
        raise Refusal(f"it is damaged: it declares {len(offsets)} strips or tiles where {needed} belong")
    size = directory.content.size
    if sum(counts) > size:
        raise Refusal("it is truncated or damaged: its strips or tiles are larger than itself")
    grid = itertools.product(range(planes), range(rows), range(columns))
    for (plane, row, column), offset, count in zip(grid, offsets, counts, strict=True):
        if not offset or not count or offset + shift + count > size:
            raise Refusal("part of it is missing: a strip or tile is empty or lies beyond its end")
        top = row * form.tile_height
        height = form.tile_height if form.tiled else min(form.tile_height, form.height - top)
        if not tiff_codecs.can_hold(form.compression, count, height * form.row_bytes):
            raise Refusal(f"it is truncated or damaged: a strip or tile of {count} bytes cannot hold its pixels")
        yield Segment(offset + shift, count, plane, top, column * form.tile_width, height)


def _unpredicted(data: NDArray[np.uint8], order: Order, form: Form, shape: tuple[int, int, int]) -> NDArray[Any]:
    """Return the samples in decoded bytes, with the predictor undone."""
    predictor = form.predictor if form.compression in _PREDICTED else 1
    kind, width = form.dtype.kind, form.dtype.itemsize
    if predictor == 1:
        return _unpacked(data, order, form, shape)
    if predictor == 2 and form.bits in (8, 16, 32):
        whole = data.view(f"{order}u{width}").astype(f"u{width}").reshape(shape)
        return np.cumsum(whole, axis=1, dtype=whole.dtype).view(form.dtype)
    if predictor == 3 and kind == "f":
        rows, columns, samples = shape
        data = data.reshape(rows, columns * width, samples)
        planes = np.cumsum(data, axis=1, dtype=np.uint8).reshape(rows, width, columns * samples)
        return np.ascontiguousarray(planes.transpose(0, 2, 1)).view(f">f{width}").astype(form.dtype).reshape(shape)
    raise Refusal(f"it has predictor {predictor} with {form.bits} bits per sample, which xpcnn does not read")


def _unpacked(data: NDArray[np.uint8], order: Order, form: Form, shape: tuple[int, int, int]) -> NDArray[Any]:
    if form.bits >= 8 and form.bits != 12:
        return data.view(form.dtype.newbyteorder(order)).reshape(shape)
    data = data.reshape(shape[0], form.row_bytes)
    if form.bits == 12:
        data = np.pad(data, ((0, 0), (0, -form.row_bytes % 3))).astype(np.uint16)
        first, middle, last = data[:, 0::3], data[:, 1::3], data[:, 2::3]
        values = np.stack([first << 4 | middle >> 4, (middle & 15) << 8 | last], axis=-1)
    else:
        shifts = np.arange(8 - form.bits, -1, -form.bits, dtype=np.uint8)
        values = data[:, :, np.newaxis] >> shifts & np.uint8(2**form.bits - 1)
    return values.reshape(shape[0], -1)[:, : shape[1] * shape[2]].reshape(shape)
