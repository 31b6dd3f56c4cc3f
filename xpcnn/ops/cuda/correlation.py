"""Cross-correlation and its gradients with kernels that need no im2col: how each is divided into threads."""

from __future__ import annotations

import math
from typing import Any

from xpcnn.backend import Array, ArrayModule
from xpcnn.ops.cuda import depthwise, tensor_products, tiles
from xpcnn.ops.cuda.compiler import (
    SHARED_BYTES,
    ceil_divide,
    check_size,
    kernel,
    many_blocks,
    many_threads,
    multiprocessors,
)
from xpcnn.ops.cuda.conv_shape import ConvShape, steps_of
from xpcnn.ops.cuda.parts import add_parts
from xpcnn.ops.window import Pair, Window
from xpcnn.ops.workspace import Workspace

#: Kernel sizes whose loops are unrolled; the loops of others run at their size at run time.
UNROLLED = ((1, 1), (3, 3), (5, 5))
#: Most sums of filter gradients that a thread holds: with 96 it takes so many registers that few threads fit the GPU.
MOST_SUMS = 48
#: Most threads that share the channels of one output position.
MOST_PARTS = 8
#: The widest kernel whose gradient fits in shared memory.
WIDEST = 128


def fits(window: Window, itemsize: int) -> bool:
    """Return whether the weights of four filters fit in shared memory."""
    return 4 * math.prod(window.kernel) * itemsize <= SHARED_BYTES and window.kernel[1] <= WIDEST


def correlate(
    xp: ArrayModule,
    x: Array,
    weight: Array,
    bias: Array | None,
    window: Window,
    workspace: Workspace,
    *,
    groups: int,
    activation: str,
    pooled: Pair | None,
    training: bool,
    stored: Any,
) -> tuple[Array, Array | None]:
    """Return y and, if it is ``pooled`` in 2x2 squares to this size, which cell of each square was the largest.

    stored: the dtype of y.
    """
    n, channels, *size = x.shape
    of = ConvShape(
        n, groups, channels // groups, (size[0], size[1]), len(weight) // groups,
        window.output_size(size[0], size[1]), steps_of(weight, groups),
    )  # fmt: skip
    y = workspace.batch_last((n, len(weight), *(pooled or of.rows_and_columns)), stored)
    winners = workspace.batch_last(y.shape, xp.uint8) if pooled and training else None
    if depthwise.suit(of, window) and pooled is None:
        depthwise.correlate(xp, of, window, activation, x, weight, bias, y)
    else:
        _launch(xp, of, window, (1, 1), x, weight, bias, y, winners, activation, pooled)
    return y, winners


def input_gradient(
    xp: ArrayModule, dy: Array, weight: Array, window: Window, size: Pair, workspace: Workspace, *, groups: int,
    stored: Any,
) -> Array:  # fmt: skip
    """Return the gradient of images of this size: dy, its cells a stride apart, correlated with rotated kernels.

    stored: its dtype.
    """
    n, filters = dy.shape[:2]
    steps = group, filter_, channel, row, column = steps_of(weight, groups)
    places = (dy.shape[2], dy.shape[3])
    dx = workspace.batch_last((n, groups * weight.shape[1], *size), stored)
    of = ConvShape(n, groups, weight.shape[1], size, filters // groups, places, steps)
    if depthwise.suit(of, window):
        depthwise.input_gradient(xp, of, window, dy, weight, dx)
        return dx
    turned_steps = (group, channel, filter_, -row, -column)
    turned = ConvShape(n, groups, filters // groups, places, weight.shape[1], size, turned_steps)
    (down, right), ((top, _), (left, _)) = window.extent, window.padding
    around = Window(window.kernel, (1, 1), ((down - 1 - top, 0), (right - 1 - left, 0)), window.dilation)
    last = weight.reshape(-1)[math.prod(window.kernel) - 1 :]
    _launch(xp, turned, around, window.strides, dy, last, None, dx, None, "linear", None)
    return dx


def weight_gradient(
    xp: ArrayModule, x: Array, dy: Array, dweight: Array, dbias: Array | None, window: Window, *, groups: int
) -> None:
    """Write the gradients of the filters and of the bias, if there is one."""
    n, channels, *size = x.shape
    of = ConvShape(
        n, groups, channels // groups, (size[0], size[1]), dy.shape[1] // groups, (dy.shape[2], dy.shape[3]),
        steps_of(dweight, groups),
    )  # fmt: skip
    if tensor_products.suit(xp, x.dtype, groups):
        tensor_products.weight_gradient(xp, of, window, x, dy, dweight, dbias)
        return
    check_size(x, dy)
    if depthwise.suit(of, window):
        parts, launch = depthwise.weight_gradient(xp, of, window, x.dtype)
    elif tiles.suit_gradient(of, window, x.dtype):
        parts, launch = tiles.weight_gradient(xp, of, window)
    else:
        parts, launch = _strips(xp, of, window, x.dtype)
    if parts == 1:
        launch(x, dy, dweight, dbias, step=0)
        return
    sums = xp.empty((parts, dweight.size + dy.shape[1]), x.dtype)
    launch(x, dy, sums, None if dbias is None else sums[0, dweight.size :], step=sums.shape[1])
    add_parts(xp, sums, dweight, dbias)


def _strips(xp: ArrayModule, of: ConvShape, window: Window, dtype: Any) -> tuple[int, Any]:
    """Return how many parts the sums are cut into, and a function that launches ``weight_gradient``."""
    filters = 8 if of.filters > 4 and 8 * window.kernel[1] <= MOST_SUMS else 4
    channels_at_once = max(1, min(8, MOST_SUMS // (filters * window.kernel[1]), of.channels))
    channels_at_once = 2 ** int(math.log2(channels_at_once))
    rows, columns = of.rows_and_columns
    length = columns if rows * of.n >= 8192 else min(columns, 8)
    items = rows * ceil_divide(columns, length) * of.n
    threads = min(256, ceil_divide(items, 32) * 32)
    blocks = ceil_divide(of.filters, filters) * ceil_divide(of.channels, channels_at_once)
    others = of.groups * window.kernel[0]
    parts = max(1, min(many_blocks(xp) // (blocks * others), ceil_divide(items, threads)))
    constants = {"FILTERS": filters, "CHANNELS": channels_at_once, "KERNEL_WIDTH": window.kernel[1]}

    def launch(*arrays: Array | None, step: int) -> None:
        kernel(xp, "weight_gradient", "weight_gradient", dtype, **constants)(
            (parts * blocks, 1, others), (threads,), *arrays, of.structure(window), length, parts, step
        )

    return parts, launch


def _launch(
    xp: ArrayModule,
    of: ConvShape,
    window: Window,
    spread: Pair,
    x: Array,
    weight: Array,
    bias: Array | None,
    y: Array,
    winners: Array | None,
    activation: str,
    pooled: Pair | None,
) -> None:
    """Launch the kernel that computes y: on tensor cores, else ``correlate_tiles`` where that is faster, or not."""
    if tensor_products.suit(xp, x.dtype, of.groups):
        tensor_products.correlate(xp, of, window, spread, activation, x, weight, bias, y, winners, pooled)
        return
    check_size(x, y)
    if tiles.suit(xp, of, window, spread, pooled, x.dtype):
        tiles.correlate(xp, of, window, activation, pooled, x, weight, bias, y, winners)
        return
    taps, item_bytes = math.prod(window.kernel), x.dtype.itemsize
    filters = of.filters_at_once
    while filters > 4 and filters * taps * item_bytes > SHARED_BYTES:
        filters -= 4
    rows, columns = of.rows_and_columns
    blocks_of_filters = of.groups * ceil_divide(of.filters, filters)
    many = columns >= 4 and rows * columns * of.n * blocks_of_filters >= 4 * many_threads(xp)
    down, right = (2, 2) if pooled else (1, 4) if many else (1, 1)
    items = ceil_divide(rows, down) * ceil_divide(columns, right) * of.n
    # With little work, each thread sums fewer filters, and several share the channels.
    while filters > 4 and ceil_divide(items, 128) * blocks_of_filters < multiprocessors(xp):
        filters -= 4
        blocks_of_filters = of.groups * ceil_divide(of.filters, filters)
    parts, most = 1, min(of.channels, MOST_PARTS)
    while 2 * parts <= most and parts * items * blocks_of_filters < many_threads(xp):
        parts *= 2
    while parts > 1 and filters * down * right * 16 * max(8, parts) * item_bytes > SHARED_BYTES:
        parts //= 2
    lanes = max(32, min(128, 256 // parts))
    exchanged = filters * down * right * lanes * parts // 2
    at_once = max(1, min(of.channels, (SHARED_BYTES * 3 // 4 // item_bytes) // (taps * filters)))
    constants = {
        "FILTERS": filters, "PLACES_DOWN": down, "PLACES_RIGHT": right, "POOLED": int(pooled is not None),
        "SPREAD": int(spread != (1, 1)), "BLOCK": lanes * parts,
    }  # fmt: skip
    if window.kernel in UNROLLED:
        constants |= {"KERNEL_HEIGHT": window.kernel[0], "KERNEL_WIDTH": window.kernel[1]}
    kernel(xp, "correlate", "correlate", x.dtype, **constants)(
        (ceil_divide(items, lanes), ceil_divide(of.filters, filters), of.groups), (lanes, parts),
        x, weight, bias, y, winners, of.structure(window, spread, activation=activation, pooled=pooled), at_once,
        shared=max(at_once * taps * filters, exchanged if parts > 1 else 0),
    )  # fmt: skip
