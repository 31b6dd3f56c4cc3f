"""A convolution, optionally fused with max pooling, bias and ReLU or ReLU6."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from xpcnn.backend import Array, ArrayModule
from xpcnn.ops.activations import relu, relu6
from xpcnn.ops.correlation import correlation
from xpcnn.ops.dispatch import with_kernels
from xpcnn.ops.pooling import extreme_pool
from xpcnn.ops.window import Window
from xpcnn.ops.workspace import Workspace, channel_rows

#: backward(dy, dweight, dbias, input_gradient) writes the gradients of the weight and, if there is one, the bias, and
#: returns the input's gradient, or None if it was not requested.
Backward = Callable[[Array, Array, Array | None, bool], Array | None]


#: The activations that are fused with a convolution.
_ACTIVATIONS = {"relu": relu, "relu6": relu6}


@with_kernels("cuda", "cpu")
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
    """Correlate images with filters, then max-pool over ``pool``, add the bias and apply an activation, each if given.

    x: (n, channels, height, width); weight: (filters, channels / groups, kh, kw); bias: (filters,); y: (n, filters,
    rows, columns). activation: "linear", "relu" or "relu6"; like the bias, it never changes which cell is the largest,
    so both come last, on the pooled output.
    padding_mode: "zeros" or "edge". Without ``training``, pooling keeps nothing for backward.
    stored: the dtype of y, if not the weight's, for kernels that can round it; this code cannot.
    """
    y, correlation_backward = correlation(xp, x, weight, window, workspace, groups=groups, padding_mode=padding_mode)
    if pool is not None:
        y, pool_backward = extreme_pool(xp, y, pool, workspace, largest=True, training=training)
    if bias is not None:
        y += bias[:, None, None]
    if activation != "linear":
        y, activation_backward = _ACTIVATIONS[activation](xp, y, workspace, y)

    def backward(dy: Array, dweight: Array, dbias: Array | None, input_gradient: bool) -> Array | None:
        if activation != "linear":
            dy = activation_backward(dy)
        if dbias is not None:
            channel_rows(dy).sum(axis=1, out=dbias)
        if pool is not None:
            dy = pool_backward(dy)
        return correlation_backward(dy, dweight, input_gradient)

    return y, backward
