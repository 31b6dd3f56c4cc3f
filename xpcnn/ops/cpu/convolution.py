"""A convolution with what may follow it: direct sums or a faster way, then pooling, bias and activation on the way."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from xpcnn.backend import Array, ArrayModule
from xpcnn.ops import convolution as generic
from xpcnn.ops.convolution import Backward
from xpcnn.ops.cpu import depthwise, pointwise, winograd, winograd2d
from xpcnn.ops.cpu.activations import bias_activation_gradient, sum_channels
from xpcnn.ops.cpu.bounds import bounds, unbounded
from xpcnn.ops.cpu.compiler import flat
from xpcnn.ops.cpu.correlation import Rows, correlate, turned, weight_gradient
from xpcnn.ops.cpu.pooling import fits, pooled, write_unpooled
from xpcnn.ops.window import Padding, Pair, Window, pad, unpad
from xpcnn.ops.workspace import Workspace, channel_rows, to_batch_last

_NO_BORDER: Padding = ((0, 0), (0, 0))
#: Modules with ways that are faster than direct sums for some convolutions, in order of preference.
WAYS = (pointwise, depthwise, winograd2d, winograd)


def convolution(
    xp: ArrayModule,
    x: Array,
    weight: Array,
    bias: Array | None,
    window: Window,
    workspace: Workspace,
    *,
    groups: int = 1,
    padding_mode: str = "zeros",
    pool: Window | None = None,
    activation: str = "linear",
    training: bool = True,
    stored: Any = None,
) -> tuple[Array, Backward]:
    """As :func:`xpcnn.ops.convolution.convolution`."""
    if pool is not None and (not fits(pool) or activation == "relu6"):
        plain: Any = generic.convolution
        return plain.__wrapped__(
            xp, x, weight, bias, window, workspace,
            groups=groups, padding_mode=padding_mode, pool=pool, activation=activation, training=training,
        )  # fmt: skip
    limits, relu = bounds("linear" if pool else activation, x.dtype), activation == "relu"
    edge = padding_mode == "edge"
    images = to_batch_last(pad(xp, x, window.padding, "edge", workspace) if edge else x, workspace)
    seen = window.unpadded if edge else window
    n, _, height, width = images.shape
    rows, columns = seen.output_size(height, width)
    y = workspace.batch_last((n, len(weight), rows, columns), x.dtype)
    ways = (way for way in WAYS if way.suits(images, weight, seen, groups, (rows, columns)))
    fast: Any = next(ways, None)
    if fast:
        fast.correlate(images, weight, bias, y, seen, limits, workspace)
    else:
        source = _rows(arrange(images, seen, workspace), seen, groups)
        filters = weight.reshape(groups, len(weight) // groups, -1)
        correlate(source, filters, bias, flat(y), rows, columns * n, limits, workspace)
    if pool is not None:
        y, winners = pooled(y, pool, workspace, relu=relu, training=training)

    def backward(dy: Array, dweight: Array, dbias: Array | None, input_gradient: bool) -> Array | None:
        dy = to_batch_last(dy, workspace)
        sums = np.empty(len(weight), dy.dtype) if dbias is None else dbias
        reach = seen.reach if seen.strides == (1, 1) else None
        border = _NO_BORDER if fast or reach is None or not input_gradient else reach
        if pool is None and activation == "linear" and border == _NO_BORDER:
            spread = dy
            if dbias is not None:
                sum_channels(channel_rows(dy), sums)
        else:
            spread = workspace.batch_last((n, len(weight), rows + sum(border[0]), columns + sum(border[1])), dy.dtype)
            _clear(spread, border)
        wide, tall = spread.shape[3] * n, spread.shape[2]
        place = border[0][0] * wide + border[1][0] * n, wide, wide * tall
        if pool is not None:
            write_unpooled(dy, y, winners, pool, spread, place, (rows, columns), sums, relu=relu)
        elif spread is not dy:
            bias_activation_gradient(
                flat(dy), flat(y), limits, flat(spread), sums, len(weight), rows, columns * n, *place
            )
        if fast:
            fast.weight_gradient(images, spread, dweight, seen, workspace)
        else:
            planes = place[0] + np.arange(len(weight) // groups) * place[2]
            slopes = Rows(flat(spread), planes, wide, len(planes) * place[2])
            dfilters = dweight.reshape(groups, len(planes), -1)
            weight_gradient(source, slopes, dfilters, rows, columns * n, workspace)
        if not input_gradient:
            return None
        if fast:
            dx = workspace.like(images)
            fast.input_gradient(spread, weight, dx, seen, workspace)
        else:
            dx = _input_gradient(spread, weight, seen, (height, width), groups, workspace)
        return unpad(dx, window.padding, "edge") if edge else dx

    return y, backward


def _clear(images: Array, border: Padding) -> None:
    """Write zeros into a border of images."""
    (top, bottom), (left, right) = border
    height, width = images.shape[2:]
    inside = slice(top, height - bottom)
    images[:, :, :top] = 0
    images[:, :, height - bottom :] = 0
    images[:, :, inside, :left] = 0
    images[:, :, inside, width - right :] = 0


def arrange(images: Array, window: Window, workspace: Workspace) -> Array:
    """Return images with a border of zeros as (n, channels, rows, phases, columns), for strides that skip columns.

    Columns that lie a stride apart become neighbours: column c is in phase c modulo the stride. Nothing is copied for
    a stride of 1 without padding.
    """
    n, channels, height, width = images.shape
    (top, bottom), (left, right) = window.padding
    stride = window.strides[1]
    if not window.is_padded and stride == 1:
        return images[:, :, :, np.newaxis]
    columns = -(-(width + left + right) // stride)
    arranged = workspace.batch_last((n, channels, height + top + bottom, stride, columns), images.dtype)
    rows = slice(top, top + height)
    arranged[:, :, :top] = 0
    arranged[:, :, top + height :] = 0
    for phase in range(stride):
        first = -(-(left - phase) // stride) if phase < left else 0  # the first column inside the image
        inside = images[..., first * stride + phase - left :: stride]
        place = arranged[:, :, rows, phase]
        place[..., :first] = 0
        place[..., first : first + inside.shape[3]] = inside
        place[..., first + inside.shape[3] :] = 0
    return arranged


def _rows(arranged: Array, window: Window, groups: int) -> Rows:
    n, channels, height, stride, columns = arranged.shape
    own, plane = channels // groups, height * stride * columns * n
    offsets = _offsets(window, own, height, columns, n)
    return Rows(flat(arranged), offsets, window.strides[0] * stride * columns * n, own * plane)


@functools.lru_cache(256)
def _offsets(window: Window, channels: int, height: int, columns: int, n: int) -> Array:
    """Return where each cell of the first window is, in (channels, height, stride, columns, n)."""
    (kh, kw), (_, stride), (dh, dw) = window.kernel, window.strides, window.dilation
    row = np.arange(kh)[:, None] * dh
    column = np.arange(kw) * dw
    place = (row * stride + column % stride) * columns + column // stride
    plane = np.arange(channels)[:, None, None] * (height * stride * columns)
    offsets: Array = ((plane + place) * n).astype(np.int64).ravel()
    return offsets


def _input_gradient(
    spread: Array, weight: Array, window: Window, size: Pair, groups: int, workspace: Workspace
) -> Array:
    """Correlate the output's gradient, which may have its border already, with filters turned by half a turn."""
    n, filters = spread.shape[:2]
    (kh, kw), (dh, dw), (top, _), (left, _) = window.kernel, window.dilation, *window.padding
    whole = size[0] + (kh - 1) * dh, size[1] + (kw - 1) * dw
    if window.strides != (1, 1) or spread.shape[2:] != whole:
        spread = _spread(spread, whole, ((kh - 1) * dh - top, (kw - 1) * dw - left), window.strides, workspace)
    channels = weight.shape[1]
    dx = workspace.batch_last((n, channels * groups, *size), spread.dtype)
    own = turned(weight.reshape(groups, filters // groups, *weight.shape[1:])).reshape(groups, channels, -1)
    source = _rows(spread[:, :, :, np.newaxis], Window((kh, kw), dilation=(dh, dw)), groups)
    correlate(source, own, None, flat(dx), size[0], size[1] * n, unbounded(dx.dtype), workspace)
    return dx


def _spread(dy: Array, size: Pair, first: Pair, strides: Pair, workspace: Workspace) -> Array:
    """Return an array of a size, 0 but for dy from ``first`` on, in steps of the strides; what lies outside is cut."""
    n, filters, rows, columns = dy.shape
    spread = workspace.batch_last((n, filters, *size), dy.dtype)
    spread[...] = 0
    (to_rows, from_rows), (to_columns, from_columns) = (
        _overlap(f, s, count, end) for f, s, count, end in zip(first, strides, (rows, columns), size, strict=True)
    )
    spread[:, :, to_rows, to_columns] = dy[:, :, from_rows, from_columns]
    return spread


def _overlap(first: int, stride: int, count: int, end: int) -> tuple[slice, slice]:
    """Return where the elements first, first + stride, … lie from 0 to ``end``, and which of ``count`` these are."""
    begin = max(0, -(first // stride))
    stop = max(begin, min(count, -(-(end - first) // stride)))
    start = first + begin * stride
    return slice(start, start + (stop - begin) * stride, stride), slice(begin, stop)
