"""Direct correlation with the batch last: the sums of a tile of filters and places stay in registers.

A row of output is one long row of columns times images, and each cell of a kernel reads a row of input shifted by its
offset, so any number of images fills whole vectors. The input's gradient is a correlation too.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from xpcnn.backend import Array
from xpcnn.ops.cpu.bounds import Bounds
from xpcnn.ops.cpu.compiler import VECTOR_BYTES, kernel, lanes
from xpcnn.ops.cpu.tile import add_outer, add_products, add_sums, filled, write_rows, zeros
from xpcnn.ops.workspace import Workspace

#: Tiles that fill the registers, by the bytes of a vector: (filters, vectors) of a correlation, and of one whose rows
#: are too short for those; (filters, cells) of a weight gradient. Those of one filter are for groups of a few.
CORRELATION_TILES = {64: ((8, 2), (5, 4), (1, 8)), 32: ((4, 3), (5, 2), (1, 8)), 16: ((4, 3), (5, 2), (1, 8))}[
    VECTOR_BYTES
]
NARROW_TILES = ((8, 1), (5, 1), (1, 1))
GRADIENT_TILES = {64: ((4, 6), (5, 5), (1, 5)), 32: ((3, 4), (5, 2), (1, 5)), 16: ((3, 4), (5, 2), (1, 5))}[
    VECTOR_BYTES
]


class Rows(NamedTuple):
    """Images whose rows lie one after the other in memory, and where a window's cells are in them.

    images: flat; offsets: of each cell (channels, rows, columns of the kernel) in the first row of output, in elements;
    step: from one row of output to the next; group: from one group of channels to the next.
    """

    images: Array
    offsets: Array
    step: int
    group: int = 0


def tile_for(filters: int, across: int, tiles: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Return the tile that computes few filters and vectors (or cells) too many, and loads few for its products.

    across: vectors of a row, or cells.
    """

    def cost(tile: tuple[int, int]) -> float:
        height, width = tile
        computed = -(-filters // height) * height * -(-across // width) * width
        return computed * (1 + (height + width) / (height * width) / 2)

    return min(tiles, key=cost)


def correlation_tile(filters: int, length: int, dtype: np.dtype[Any]) -> tuple[int, int] | None:
    """Return the tile for rows of a length; None if they are too short for any."""
    vectors = length // lanes(dtype)
    fitting = [tile for tile in CORRELATION_TILES if tile[1] <= vectors]
    return tile_for(filters, -(-length // lanes(dtype)), fitting) if fitting else None


def correlate(
    x: Rows, weight: Array, bias: Array | None, y: Array, rows: int, length: int, bounds: Bounds, workspace: Workspace
) -> None:
    """Write the correlation of images with filters, plus the bias.

    weight: (groups, filters, cells); y: flat, (groups, filters, rows, length): the columns of a row times the images;
    bounds: numbers outside of these are written as these.
    """
    groups, filters, _ = weight.shape
    wide = correlation_tile(filters, length, y.dtype)
    tile = tile_for(filters, -(-length // lanes(y.dtype)), NARROW_TILES) if wide is None else wide
    compute = _narrow_correlation if wide is None else _correlation
    packed, start = tiled(weight, tile[0], workspace), padded(bias, groups, filters, tile[0], y.dtype, workspace)
    geometry = groups, filters, rows, length, x.step, x.group
    compute(*tile)(x.images, packed, start, y, x.offsets, bounds, geometry)


def turned(weight: Array) -> Array:
    """View the filters of the input's gradient: channels and filters swapped, kernels rotated by 180 degrees."""
    return weight[..., ::-1, ::-1].swapaxes(-4, -3)


def tiled(weight: Array, height: int, workspace: Workspace) -> Array:
    """Return arrays (number, filters, …) in blocks of ``height`` filters, (number, blocks, …, height), flat.

    Filters that the last block lacks are zeros.
    """
    number, filters, *cells = weight.shape
    blocks, whole = -(-filters // height), filters // height
    packed = workspace.scratch((number, blocks, *cells, height), weight.dtype, "filters")
    of_block = np.moveaxis(packed, -1, 2)
    of_block[:, :whole] = weight[:, : whole * height].reshape(number, whole, height, *cells)
    if whole < blocks:
        packed[:, whole] = 0
        of_block[:, whole, : filters - whole * height] = weight[:, whole * height :]
    return packed.reshape(-1)


def padded(bias: Array | None, groups: int, filters: int, height: int, dtype: Any, workspace: Workspace) -> Array:
    """Return the bias of all filters of all blocks, flat, zeros where there is none."""
    start = workspace.scratch((groups, filters + -filters % height), dtype, "bias")
    start[...] = 0
    if bias is not None:
        start[:, :filters] = bias.reshape(groups, filters)
    return start.reshape(-1)


def weight_gradient(x: Rows, dy: Rows, dweight: Array, rows: int, length: int, workspace: Workspace) -> None:
    """Write the gradient of the filters, (groups, filters, cells).

    dy: its offsets are those of each filter's plane.
    """
    groups, filters, cells = dweight.shape
    height, width = tile = tile_for(filters, cells, GRADIENT_TILES)
    planes = np.concatenate((dy.offsets, np.repeat(dy.offsets[-1:], -filters % height)))
    offsets = np.concatenate((x.offsets, np.zeros(-cells % width, np.int64)))
    vector = lanes(dweight.dtype)
    of_tile = -(-height * width // vector) * vector
    sums = workspace.scratch((groups, len(planes) // height, len(offsets) // width, of_tile), dweight.dtype, "sums")
    sums[...] = 0
    geometry = groups, rows, length, x.step, dy.step, x.group, dy.group
    if length >= vector:
        _gradient(*tile)(x.images, dy.images, sums.reshape(-1), planes, offsets, geometry)
    if length % vector:
        _narrow_gradient(*tile)(x.images, dy.images, sums.reshape(-1), planes, offsets, geometry)
    dweight[...] = untiled(sums, tile, filters, cells)


def untiled(sums: Array, tile: tuple[int, int], filters: int, cells: int) -> Array:
    """Return sums (number, blocks of filters, blocks of cells, tile) as matrices (number, filters, cells)."""
    number, down, across, _ = sums.shape
    tiles = sums[..., : tile[0] * tile[1]].reshape(number, down, across, *tile).swapaxes(2, 3)
    return tiles.reshape(number, down * tile[0], across * tile[1])[:, :filters, :cells]


@functools.cache
def _correlation(height: int, width: int) -> Callable[..., None]:
    """Return the kernel for tiles of ``height`` filters and ``width`` vectors."""

    def correlation(x: Any, weight: Any, bias: Any, y: Any, offsets: Any, bounds: Any, geometry: Any) -> None:
        groups, filters, rows, length, step, apart = geometry
        together = width * (VECTOR_BYTES // x.itemsize)
        cells, plane, padded_filters = len(offsets), rows * length, len(bias) // groups
        for group in range(groups):
            for row in range(rows):
                for first in range(0, filters, height):
                    for left in range(0, length, together):
                        column = min(left, length - together)  # the last tile computes some places again
                        sums = filled(height, width, bias, group * padded_filters + first)
                        at, start = (group * padded_filters + first) * cells, group * apart + row * step + column
                        for cell in range(cells):
                            sums = add_outer(sums, weight, at, 1, x, start + offsets[cell], None)
                            at += height
                        place = (group * filters + first) * plane + row * length + column
                        write_rows(sums, y, place, plane, filters - first, bounds, None)

    return kernel(correlation)


@functools.cache
def _narrow_correlation(height: int, width: int) -> Callable[..., None]:
    """Return the kernel for rows that are shorter than such a tile."""

    def correlation(x: Any, weight: Any, bias: Any, y: Any, offsets: Any, bounds: Any, geometry: Any) -> None:
        groups, filters, rows, length, step, apart = geometry
        together = width * (VECTOR_BYTES // x.itemsize)
        cells, plane, padded_filters = len(offsets), rows * length, len(bias) // groups
        for group in range(groups):
            for row in range(rows):
                for first in range(0, filters, height):
                    for column in range(0, length, together):
                        sums = filled(height, width, bias, group * padded_filters + first)
                        at, start = (group * padded_filters + first) * cells, group * apart + row * step + column
                        for cell in range(cells):
                            sums = add_outer(sums, weight, at, 1, x, start + offsets[cell], length - column)
                            at += height
                        place = (group * filters + first) * plane + row * length + column
                        write_rows(sums, y, place, plane, filters - first, bounds, length - column)

    return kernel(correlation)


@functools.cache
def _gradient(height: int, width: int) -> Callable[..., None]:
    """Return the kernel for tiles of ``height`` filters and ``width`` cells, whose sums are added up after each row."""

    def gradient(x: Any, dy: Any, sums: Any, planes: Any, offsets: Any, geometry: Any) -> None:
        groups, rows, length, step, dy_step, apart, dy_apart = geometry
        vector = VECTOR_BYTES // x.itemsize
        for row in range(rows):
            at = 0
            for group in range(groups):
                for first in range(0, len(planes), height):
                    for cell in range(0, len(offsets), width):
                        tile = zeros(height, width, x)
                        dy_at, x_at = group * dy_apart + row * dy_step, group * apart + row * step
                        end = dy_at + length - length % vector
                        while dy_at < end:  # LLVM would unroll a range until its addresses fill the registers
                            tile = add_products(tile, dy, dy_at, planes, first, x, x_at, offsets, cell, None)
                            dy_at += vector
                            x_at += vector
                        at += add_sums(tile, sums, at)

    return kernel(gradient)


@functools.cache
def _narrow_gradient(height: int, width: int) -> Callable[..., None]:
    """Return the kernel for what is left of each row, less than a vector."""

    def gradient(x: Any, dy: Any, sums: Any, planes: Any, offsets: Any, geometry: Any) -> None:
        groups, rows, length, step, dy_step, apart, dy_apart = geometry
        rest = length % (VECTOR_BYTES // x.itemsize)
        for row in range(rows):
            at = 0
            for group in range(groups):
                dy_at = group * dy_apart + row * dy_step + length - rest
                x_at = group * apart + row * step + length - rest
                for first in range(0, len(planes), height):
                    for cell in range(0, len(offsets), width):
                        tile = zeros(height, width, x)
                        tile = add_products(tile, dy, dy_at, planes, first, x, x_at, offsets, cell, rest)
                        at += add_sums(tile, sums, at)

    return kernel(gradient)
