"""A convolution with optional pooling, bias and activation, all in one forward kernel if it pools 2x2 squares."""

from __future__ import annotations

from typing import Any

from xpcnn.backend import Array, ArrayModule
from xpcnn.ops import convolution as generic
from xpcnn.ops.convolution import Backward
from xpcnn.ops.cuda import correlation, tensor_products
from xpcnn.ops.cuda.activations import gradient_of
from xpcnn.ops.cuda.pooling import pooled, unpooled
from xpcnn.ops.cuda.products import product
from xpcnn.ops.window import Window, pad, unpad
from xpcnn.ops.workspace import Workspace, channel_rows, to_batch_last

#: A window of one cell, whose convolution is a matrix product.
POINT = Window((1, 1))
#: Pooling that is computed within the convolution's kernel.
SQUARES = Window((2, 2), (2, 2))


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
    """See :func:`xpcnn.ops.convolution.convolution`."""
    on_tensor_cores = tensor_products.suit(xp, x.dtype, groups)
    if not on_tensor_cores and not correlation.fits(window, x.dtype.itemsize):
        return generic.convolution.__wrapped__(  # type: ignore[attr-defined,no-any-return]
            xp, x, weight, bias, window, workspace,
            groups=groups, padding_mode=padding_mode, pool=pool, activation=activation, training=training,
            stored=stored,
        )  # fmt: skip
    if window == POINT and groups == 1 and pool is None:
        return _pointwise(xp, x, weight, bias, workspace, activation, weight.dtype if stored is None else stored)
    edge = padding_mode == "edge"
    images = to_batch_last(pad(xp, x, window.padding, "edge", workspace) if edge else x, workspace)
    seen = window.unpadded if edge else window
    size = seen.output_size(images.shape[2], images.shape[3])
    within = pool if pool == SQUARES else None
    after = None if within else pool
    y, winners = correlation.correlate(
        xp, images, weight, None if after else bias, seen, workspace, groups=groups,
        activation="linear" if after else activation, pooled=within.output_size(*size) if within else None,
        training=training, stored=weight.dtype if stored is None or after else stored,
    )  # fmt: skip
    if after is not None:
        y, winners = pooled(
            xp, y, bias, after, workspace, largest=True, activation=activation, training=training, stored=stored
        )

    def backward(dy: Array, dweight: Array, dbias: Array | None, input_gradient: bool) -> Array | None:
        if pool is not None:
            dy = unpooled(xp, dy, y, winners, pool, size, workspace, activation=activation)
        else:
            dy = gradient_of(xp, activation, dy, y, workspace)
        correlation.weight_gradient(xp, images, dy, dweight, dbias, seen, groups=groups)
        if not input_gradient:
            return None
        size_of_images = (images.shape[2], images.shape[3])
        dx = correlation.input_gradient(
            xp, dy, weight, seen, size_of_images, workspace, groups=groups, stored=images.dtype
        )
        return unpad(dx, window.padding, "edge") if edge else dx

    return y, backward


def _pointwise(
    xp: ArrayModule, x: Array, weight: Array, bias: Array | None, workspace: Workspace, activation: str, stored: Any
) -> tuple[Array, Backward]:
    """Apply a 1x1 convolution as a matrix product: the same at every pixel of every image."""
    images = to_batch_last(x, workspace)
    n, _, *size = images.shape
    y = workspace.batch_last((n, len(weight), *size), stored)
    product(xp, weight[:, :, 0, 0], channel_rows(images), channel_rows(y), bias=bias, activation=activation)

    def backward(dy: Array, dweight: Array, dbias: Array | None, input_gradient: bool) -> Array | None:
        rows = channel_rows(gradient_of(xp, activation, dy, y, workspace))
        product(xp, rows, channel_rows(images).T, dweight[:, :, 0, 0], row_sums=dbias)
        if not input_gradient:
            return None
        dx = workspace.like(images)
        product(xp, weight[:, :, 0, 0].T, rows, channel_rows(dx))
        return dx

    return y, backward
