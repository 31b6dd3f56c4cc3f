"""Pooling with one kernel forward and one backward."""

from __future__ import annotations

import math
from typing import Any

from xpcnn.backend import Array, ArrayModule
from xpcnn.ops.cuda.activations import NUMBERS
from xpcnn.ops.cuda.compiler import Kernel, c_name, ceil_divide, check_size, kernel, stored_name, structure
from xpcnn.ops.pooling import Backward
from xpcnn.ops.window import Pair, Window
from xpcnn.ops.workspace import Workspace, to_batch_last

#: Windows whose kernels are compiled for their size, since dividing by a constant is cheap.
SQUARES = (Window((2, 2), (2, 2)), Window((3, 3), (3, 3)))
#: Threads of a block, as in global_average.cu.
IMAGES, LANES = 32, 8


def extreme_pool(
    xp: ArrayModule, x: Array, window: Window, workspace: Workspace, *, largest: bool, training: bool = True
) -> tuple[Array, Backward]:
    """See :func:`xpcnn.ops.pooling.extreme_pool`."""
    size = (x.shape[2], x.shape[3])
    y, winners = pooled(xp, x, None, window, workspace, largest=largest, activation="linear", training=training)
    return y, lambda dy: unpooled(xp, dy, y, winners, window, size, workspace, activation="linear")


def pooled(
    xp: ArrayModule,
    x: Array,
    bias: Array | None,
    window: Window,
    workspace: Workspace,
    *,
    largest: bool,
    activation: str,
    training: bool,
    stored: Any = None,
) -> tuple[Array, Array | None]:
    """Return the largest (or smallest) cell of each window, with bias and activation if given, and which it was.

    stored: the dtype of the first, by default that of ``x``.
    """
    x = to_batch_last(x, workspace)
    n, channels, height, width = x.shape
    y = workspace.batch_last((n, channels, *window.output_size(height, width)), x.dtype if stored is None else stored)
    winners = workspace.batch_last(y.shape, winner_dtype(xp, window)) if training else None
    check_size(x, y)
    of = structure_of(window, x.shape, y.shape, largest=largest, activation=activation)
    of_x = {} if x.dtype == y.dtype else {"X_STORED": stored_name(x.dtype)}  # else compiled with unpool
    kernel_for(xp, "pooling", "pool", window, y.dtype, **of_x).for_each(y.size, x, bias, y, winners, of)
    return y, winners


def unpooled(
    xp: ArrayModule,
    dy: Array,
    y: Array,
    winners: Array | None,
    window: Window,
    size: Pair,
    workspace: Workspace,
    *,
    activation: str,
) -> Array:
    """Return the gradient of images of this size; raise RuntimeError if no winners were kept."""
    if winners is None:
        raise RuntimeError("This pooling ran without training=True, so it has no backward pass.")
    dy = to_batch_last(dy, workspace)
    dx = workspace.batch_last((*dy.shape[:2], *size), dy.dtype)
    of = structure_of(window, dx.shape, dy.shape, activation=activation)
    kernel_for(xp, "pooling", "unpool", window, dy.dtype).for_each(dx.size, dy, y, winners, dx, of)
    return dx


def global_average_pool(xp: ArrayModule, x: Array, workspace: Workspace) -> tuple[Array, Backward]:
    """See :func:`xpcnn.ops.pooling.global_average_pool`."""
    x = to_batch_last(x, workspace)
    check_size(x)
    n, channels, height, width = x.shape
    y = workspace.batch_last((n, channels), x.dtype)
    kernel(xp, "global_average", "global_average", x.dtype)(
        (channels, ceil_divide(n, IMAGES)), (IMAGES, LANES), x, y, height * width, n
    )

    def backward(dy: Array) -> Array:
        dy, dx = to_batch_last(dy, workspace), workspace.like(x)
        kernel(xp, "global_average", "global_average_gradient", dy.dtype).for_each(
            dx.size, dy, dx, height * width, n, dx.size
        )
        return dx

    return y, backward


def winner_dtype(xp: ArrayModule, window: Window) -> type:
    """Return the smallest integer type that can index the cells of a window."""
    cells = math.prod(window.kernel)
    return xp.uint8 if cells <= 2**8 else xp.uint16 if cells <= 2**16 else xp.uint32  # type: ignore[no-any-return]


def kernel_for(xp: ArrayModule, source: str, name: str, window: Window, dtype: Any, **constants: str) -> Kernel:
    """Return a kernel of a source that includes pooling.cuh, compiled for a window."""
    known = {"POOL": window.kernel[0]} if window in SQUARES else {}
    return kernel(xp, source, name, dtype, WINNER=c_name(winner_dtype(xp, window)), **known, **constants)


def structure_of(
    window: Window, x: tuple[int, ...], y: tuple[int, ...], *, largest: bool = True, activation: str
) -> Array:
    """Return the structure Pooling of pooling.cuh for images of shape ``x``, pooled to shape ``y``."""
    (top, _), (left, _) = window.padding
    return structure(
        n=x[0], channels=x[1], height=x[2], width=x[3], rows=y[2], columns=y[3],
        pool_height=window.kernel[0], pool_width=window.kernel[1],
        stride_down=window.strides[0], stride_right=window.strides[1], top=top, left=left,
        largest=largest, activation=NUMBERS[activation],
    )  # fmt: skip
