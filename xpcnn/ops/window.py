"""The geometry of a window that slides over images: kernel, strides, padding, dilation."""

from __future__ import annotations

import reprlib
from dataclasses import dataclass, replace
from typing import TypeAlias

from xpcnn.backend import Array, ArrayModule
from xpcnn.ops.workspace import Workspace
from xpcnn.registry import check_int

#: The most rows or columns that a window spans or moves by; more would overflow the strides of arrays.
MOST = 2**31 - 1

Pair: TypeAlias = tuple[int, int]
Padding: TypeAlias = tuple[Pair, Pair]


def pair(value: int | tuple[int, int] | list[int], what: str, least: int = 1) -> Pair:
    """Return (rows, columns) for an int or a pair; anything else raises a ValueError that names ``what``."""
    values = value if isinstance(value, tuple | list) else (value, value)
    if len(values) != 2:
        raise ValueError(f"{what} must be a whole number or (rows, columns). Received: {value!r}.")
    rows, columns = check_int(what, values[0], least), check_int(what, values[1], least)
    if max(rows, columns) > MOST:
        raise ValueError(f"{what} must be at most {MOST:,}. Received: {reprlib.repr(value)}.")
    return rows, columns


@dataclass(frozen=True)
class Window:
    """A window with its padding resolved to ((top, bottom), (left, right))."""

    kernel: Pair
    strides: Pair = (1, 1)
    padding: Padding = ((0, 0), (0, 0))
    dilation: Pair = (1, 1)

    @property
    def extent(self) -> Pair:
        """Rows and columns of the input that the window spans."""
        (kh, kw), (dh, dw) = self.kernel, self.dilation
        return (kh - 1) * dh + 1, (kw - 1) * dw + 1

    @property
    def is_padded(self) -> bool:
        """Whether anything is padded at all."""
        return self.padding != ((0, 0), (0, 0))

    @property
    def shares_rows(self) -> bool:
        """Whether vertically adjacent windows overlap and see consecutive rows."""
        return self.dilation[0] == 1 and self.strides[0] < self.kernel[0]

    def output_size(self, height: int, width: int) -> Pair:
        """Return the output's (rows, columns): whole windows only, any remainder at the edge is dropped."""
        (top, bottom), (left, right) = self.padding
        rows, columns = self.extent
        return (
            (height + top + bottom - rows) // self.strides[0] + 1,
            (width + left + right - columns) // self.strides[1] + 1,
        )

    @property
    def reach(self) -> Padding | None:
        """The padding of an output with which, for strides of 1, each input cell sees all windows that see it.

        None if it is negative.
        """
        (rows, columns), ((top, bottom), (left, right)) = self.extent, self.padding
        around = (rows - 1 - top, rows - 1 - bottom), (columns - 1 - left, columns - 1 - right)
        return around if min(*around[0], *around[1]) >= 0 else None

    @property
    def unpadded(self) -> Window:
        """The same window without padding, for images that are already padded."""
        return replace(self, padding=((0, 0), (0, 0)))

    def cells(self, images: Array, axis: int) -> list[Array]:
        """View the cells of all windows along one axis (2 for rows, 3 for columns) of already padded images."""
        size, stride, step = self.kernel[axis - 2], self.strides[axis - 2], self.dilation[axis - 2]
        windows = (images.shape[axis] - (size - 1) * step - 1) // stride + 1
        before: tuple[slice, ...] = (slice(None),) * axis
        firsts = (cell * step for cell in range(size))
        return [images[(*before, slice(first, first + (windows - 1) * stride + 1, stride))] for first in firsts]


def check_padding(padding: str | int | tuple[int, int] | list[int]) -> str | Pair:
    """Return "valid", "same" or, for an int or a pair, (rows, columns); raise ValueError for anything else."""
    if not isinstance(padding, str):
        return pair(padding, "padding", least=0)
    if padding not in ("valid", "same"):
        raise ValueError(f'padding must be "valid", "same", a whole number or (rows, columns). Received: {padding!r}.')
    return padding


def resolve_padding(padding: str | Pair, kernel: Pair, strides: Pair, dilation: Pair, size: Pair) -> Padding:
    """Return ((top, bottom), (left, right)) for "valid", "same" or (rows, columns).

    "same" gives ceil(size / stride) outputs; if the padding is odd, the extra row or column goes at the end.
    """
    if isinstance(padding, tuple):
        rows, columns = padding
        return (rows, rows), (columns, columns)
    if padding == "valid":
        return (0, 0), (0, 0)
    ends = []
    for k, s, d, n in zip(kernel, strides, dilation, size, strict=True):
        total = max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
        ends.append((total // 2, total - total // 2))
    return ends[0], ends[1]


def pad(xp: ArrayModule, x: Array, padding: Padding, mode: str | float, workspace: Workspace) -> Array:
    """Return images (n, channels, height, width) padded with ``mode`` or, for "edge", with the repeated edge."""
    (top, bottom), (left, right) = padding
    if padding == ((0, 0), (0, 0)):
        return x
    n, channels, height, width = x.shape
    padded = workspace.batch_last((n, channels, height + top + bottom, width + left + right), x.dtype)
    rows, columns = slice(top, top + height), slice(left, left + width)
    padded[..., rows, columns] = x
    if mode == "edge":
        padded[..., :top, columns] = x[..., :1, :]
        padded[..., top + height :, columns] = x[..., -1:, :]
        padded[..., :left] = padded[..., left : left + 1]
        padded[..., left + width :] = padded[..., left + width - 1 : left + width]
    else:
        padded[..., :top, :] = mode
        padded[..., top + height :, :] = mode
        padded[..., rows, :left] = mode
        padded[..., rows, left + width :] = mode
    return padded


def unpad(dpadded: Array, padding: Padding, mode: str | float) -> Array:
    """Return the input's gradient from that of :func:`pad`'s result; what a repeated edge receives goes to the edge."""
    (top, bottom), (left, right) = padding
    rows = slice(top, dpadded.shape[2] - bottom)
    columns = slice(left, dpadded.shape[3] - right)
    if mode == "edge":
        last_row, last_column = dpadded.shape[2] - bottom, dpadded.shape[3] - right
        if left:
            dpadded[..., left] += dpadded[..., :left].sum(axis=3)
        if right:
            dpadded[..., last_column - 1] += dpadded[..., last_column:].sum(axis=3)
        if top:
            dpadded[..., top, :] += dpadded[..., :top, :].sum(axis=2)
        if bottom:
            dpadded[..., last_row - 1, :] += dpadded[..., last_row:, :].sum(axis=2)
    return dpadded[..., rows, columns]
