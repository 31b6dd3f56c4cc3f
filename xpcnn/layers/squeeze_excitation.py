"""The squeeze-and-excitation block, which scales each channel by what the whole image shows."""

from __future__ import annotations

from collections.abc import Sequence

from xpcnn.backend import ArrayModule
from xpcnn.layers.base import Graph, Layer, listed
from xpcnn.layers.merging import Multiply
from xpcnn.layers.pooling import AdaptiveAveragePool2D
from xpcnn.parameters import Shape


class SqueezeExcitation(Layer):
    """A block that multiplies each channel by a gate, y = x layers(average of x over the image).

    Hu, Shen and Sun, "Squeeze-and-excitation networks", 2018.

    layers: from the average, (channels, 1, 1), to the gate of the same shape, usually a 1x1 convolution to fewer
    channels and one back, which ends in a sigmoid. Raises ValueError at build for a gate of another shape.

    >>> from xpcnn.layers import Conv2D
    >>> gate = [Conv2D(4, 1, activation="relu"), Conv2D(16, 1, activation="sigmoid")]
    >>> SqueezeExcitation(gate).connect((16, 8, 8))
    (16, 8, 8)
    """

    _fixed = frozenset({"layers"})

    def __init__(
        self, layers: Sequence[Layer], *, name: str | None = None, xp: ArrayModule | str | None = None
    ) -> None:
        super().__init__(name=name, xp=xp)
        self.layers = listed(layers, "SqueezeExcitation takes a list of at least one layer")
        self._squeeze, self._multiply = AdaptiveAveragePool2D(1), Multiply()
        self._squeeze.hidden = self._multiply.hidden = True

    def sublayers(self) -> Sequence[Layer]:
        """Return the average, the layers of the gate and the product."""
        return [self._squeeze, *self.layers, self._multiply]

    def expand(self, graph: Graph, x: int) -> int:
        """Add the gate and its product with the input."""
        return graph.add(self._multiply, x, graph.chain([self._squeeze, *self.layers], x))

    def build(self, input_shape: Shape) -> Shape:
        """Build the gate."""
        shape = input_shape
        for layer in (self._squeeze, *self.layers):
            shape = layer.connect(shape)
        return self._multiply.connect(input_shape, shape)
