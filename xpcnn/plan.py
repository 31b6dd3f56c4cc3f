"""The plan: parts of a program that are cheaper together, joined once, when a network is built.

Bias, ReLU and max pooling commute, so a convolution is pooled first, and bias and ReLU are done on what that leaves.
The layers that the user wrote stay as they are; a joined part computes what they would.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from xpcnn.backend import Array
from xpcnn.layers import BatchNorm, Conv2D, Dense, MaxPool2D
from xpcnn.layers.activation import applies
from xpcnn.layers.base import Arrays, Backward, Context, Layer
from xpcnn.ops.activations import relu


class Joined(Layer):
    """A convolution or a product with what follows it: max pooling, bias and ReLU, in this order whatever their own."""

    def __init__(self, layer: Conv2D | Dense, pool: MaxPool2D | None, relu: Layer | None) -> None:
        super().__init__(name=layer.name, xp=layer.xp)
        self.layer, self.pool, self.relu = layer, pool, relu
        self.declarations = layer.declarations
        self.number = layer.number
        self.input_shape = layer.input_shape
        self.output_shape = (pool or layer).output_shape
        self._following: dict[str, Any] = {"relu": relu is not None}
        if pool is not None:
            self._following["pool"] = pool.window

    @property
    def needs_input_gradient(self) -> bool:
        """As of the layer that this stands for."""
        return self.layer.needs_input_gradient

    @needs_input_gradient.setter
    def needs_input_gradient(self, needed: bool) -> None:
        self.layer.needs_input_gradient = needed

    def forward(self, params: Arrays, x: Array, context: Context) -> tuple[Array, Backward]:
        """Compute what all of them would, one after the other."""
        return self.layer.joined(params, x, context, **self._following)


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

    A fully connected layer is joined to its ReLU, which is done in place after another max pooling or a normalisation.
    """
    rest = list(layers)
    for index in range(len(rest) - 1):
        if applies(rest[index], "relu") and type(rest[index + 1]) is MaxPool2D:
            rest[index], rest[index + 1] = rest[index + 1], rest[index]
    joined: list[Layer] = []
    while rest:
        layer = rest.pop(0)
        if type(layer) in (Conv2D, Dense):
            pool = rest.pop(0) if type(layer) is Conv2D and rest and type(rest[0]) is MaxPool2D else None
            relu = rest.pop(0) if rest and applies(rest[0], "relu") else None
            if pool is not None or relu is not None:
                layer = Joined(cast(Conv2D | Dense, layer), cast(MaxPool2D | None, pool), relu)
        elif applies(layer, "relu") and joined and type(joined[-1]) in (BatchNorm, MaxPool2D):
            layer = ReLUInPlace(layer)
        joined.append(layer)
    return tuple(joined)
