"""A convolution with optional pooling, bias and ReLU, all in one forward kernel if it pools 2x2 squares."""

from __future__ import annotations

from typing import Any

from xpcnn.backend import Array, ArrayModule
from xpcnn.ops import convolution as generic
from xpcnn.ops.activations import relu6
from xpcnn.ops.convolution import Backward
from xpcnn.ops.cuda import correlation, tensor_products
from xpcnn.ops.cuda.activations import relu_gradient
from xpcnn.ops.cuda.dense import dense
from xpcnn.ops.cuda.pooling import pooled, unpooled
from xpcnn.ops.window import Window, pad, unpad
from xpcnn.ops.workspace import Workspace, channel_rows, to_batch_last

#: A window of one cell, whose convolution is a matrix product.
POINT = Window((1, 1))


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
    if activation == "relu6":
        y, convolution_backward = convolution(
            xp, x, weight, bias, window, workspace,
            groups=groups, padding_mode=padding_mode, pool=pool, training=training, stored=stored,
        )  # fmt: skip
        y, relu6_backward = relu6(xp, y, workspace, y)
        return y, lambda dy, *others: convolution_backward(relu6_backward(dy), *others)
    relu = activation == "relu"
    on_tensor_cores = tensor_products.suit(xp, x.dtype, groups)
    if not on_tensor_cores and not correlation.fits(window, x.dtype.itemsize):
        return generic.convolution.__wrapped__(  # type: ignore[attr-defined,no-any-return]
            xp, x, weight, bias, window, workspace,
            groups=groups, padding_mode=padding_mode, pool=pool, activation=activation, training=training,
            stored=stored,
        )  # fmt: skip
    if window == POINT and groups == 1 and pool is None:
        return _pointwise(xp, x, weight, bias, workspace, relu=relu, stored=stored)
    edge = padding_mode == "edge"
    images = to_batch_last(pad(xp, x, window.padding, "edge", workspace) if edge else x, workspace)
    seen = window.unpadded if edge else window
    size = seen.output_size(images.shape[2], images.shape[3])
    in_squares = pool is not None and pool == Window((2, 2), (2, 2)) and not on_tensor_cores
    y, winners = correlation.correlate(
        xp, images, weight, bias if pool is None or in_squares else None, seen, workspace, groups=groups,
        relu=relu and (pool is None or in_squares), pooled=pool.output_size(*size) if pool and in_squares else None,
        training=training, stored=weight.dtype if stored is None or pool is not None else stored,
    )  # fmt: skip
    if pool is not None and not in_squares:
        y, winners = pooled(xp, y, bias, pool, workspace, largest=True, relu=relu, training=training, stored=stored)

    def backward(dy: Array, dweight: Array, dbias: Array | None, input_gradient: bool) -> Array | None:
        if pool is not None:
            dy = unpooled(xp, dy, y, winners, pool, size, workspace, relu=relu)
        elif relu:
            dy = relu_gradient(xp, dy, y, workspace)
        dy = to_batch_last(dy, workspace)
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
    xp: ArrayModule, x: Array, weight: Array, bias: Array | None, workspace: Workspace, *, relu: bool, stored: Any
) -> tuple[Array, Backward]:
    """Apply a 1x1 convolution as a fully connected layer at every pixel of every image."""
    images = to_batch_last(x, workspace)
    n, _, *size = images.shape
    y, dense_backward = dense(xp, channel_rows(images).T, weight[:, :, 0, 0], bias, workspace, relu=relu, stored=stored)

    def images_of(rows: Array) -> Array:
        return rows.T.reshape(-1, *size, n).transpose(3, 0, 1, 2)

    def backward(dy: Array, dweight: Array, dbias: Array | None, input_gradient: bool) -> Array | None:
        dy = channel_rows(to_batch_last(dy, workspace)).T
        dx = dense_backward(dy, dweight[:, :, 0, 0], dbias, input_gradient)
        return None if dx is None else images_of(dx)

    return images_of(y), backward
