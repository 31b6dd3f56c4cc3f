"""The plan: parts of a program that are cheaper together, joined once, when a network is built.

Bias, ReLU and max pooling commute, so a convolution is pooled first, and bias and ReLU are done on what that leaves.
The layers that the user wrote stay as they are; a joined part computes what they would.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from xpcnn.backend import Array
from xpcnn.layers import BatchNorm, Conv2D, MaxPool2D
from xpcnn.layers.activation import applies
from xpcnn.layers.base import Arrays, Backward, Context, Layer
from xpcnn.ops.activations import relu
from xpcnn.ops.convolution import convolution
from xpcnn.ops.pooling import extreme_pool
from xpcnn.ops.workspace import channel_rows


class JoinedConvolution(Layer):
    """A convolution with what follows it: max pooling, bias and ReLU, in this order whatever theirs was."""

    def __init__(self, convolution: Conv2D, pool: MaxPool2D | None, relu: bool) -> None:
        super().__init__(name=convolution.name, xp=convolution.xp)
        self.convolution, self.pool, self.relu = convolution, pool, relu
        self.declarations = convolution.declarations
        self.number = convolution.number
        self.input_shape = convolution.input_shape
        self.output_shape = (pool or convolution).output_shape

    def forward(self, params: Arrays, x: Array, context: Context) -> tuple[Array, Backward]:
        """Convolve, pool, add the bias and cut off below 0."""
        conv, workspace = self.convolution, context.workspace
        y, convolution_backward = convolution(
            self.xp, x, params["weight"], conv.window, workspace, groups=conv.groups, padding_mode=conv.padding_mode
        )
        if self.pool is not None:
            y, pool_backward = extreme_pool(
                self.xp, y, self.pool.window, workspace, largest=True, training=context.training
            )
        if conv.use_bias:
            y += params["bias"][:, None, None]
        if self.relu:
            y, relu_backward = relu(self.xp, y, workspace, y)

        def backward(dy: Array, gradients: Arrays) -> Array:
            if self.relu:
                dy = relu_backward(dy)
            if conv.use_bias:
                channel_rows(dy).sum(axis=1, out=gradients["bias"])
            if self.pool is not None:
                dy = pool_backward(dy)
            return convolution_backward(dy, gradients["weight"], self.needs_input_gradient)

        return y, backward


class ReLUInPlace(Layer):
    """ReLU over the output of a layer that has no more use for it, written where that lies."""

    def __init__(self, activation: Layer) -> None:
        super().__init__(name=activation.name, xp=activation.xp)
        self.input_shape = self.output_shape = activation.output_shape

    def forward(self, params: Arrays, x: Array, context: Context) -> tuple[Array, Backward]:
        """Cut off below 0."""
        y, backward = relu(self.xp, x, context.workspace, x)
        return y, lambda dy, gradients: backward(dy)


def join(layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """Return the program with every convolution joined to the max pooling and the ReLU that follow it, in any order.

    ReLU right after another max pooling, or after batch normalisation, is done in place.
    """
    rest = list(layers)
    for index in range(len(rest) - 1):
        if applies(rest[index], "relu") and type(rest[index + 1]) is MaxPool2D:
            rest[index], rest[index + 1] = rest[index + 1], rest[index]
    joined: list[Layer] = []
    while rest:
        layer = rest.pop(0)
        if type(layer) is Conv2D:
            pool = rest.pop(0) if rest and type(rest[0]) is MaxPool2D else None
            relu = rest.pop(0) if rest and applies(rest[0], "relu") else None
            if pool is not None or relu is not None:
                layer = JoinedConvolution(layer, cast(MaxPool2D | None, pool), relu is not None)
        elif applies(layer, "relu") and joined and type(joined[-1]) in (BatchNorm, MaxPool2D):
            layer = ReLUInPlace(layer)
        joined.append(layer)
    return tuple(joined)
