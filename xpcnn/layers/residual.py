"""The residual block, which adds its input to its output."""

from __future__ import annotations

from collections.abc import Sequence

from xpcnn.backend import ArrayModule
from xpcnn.layers.activation import activation_part
from xpcnn.layers.base import Graph, Layer, listed
from xpcnn.layers.merging import Add
from xpcnn.parameters import Shape


class Residual(Layer):
    """A block of layers added to its input: y = activation(shortcut(x) + layers(x)).

    He et al., "Deep residual learning for image recognition", 2015.

    layers: the main branch, in order; blocks may be nested. shortcut: layers of the shortcut branch, such as a
    projection, [Conv2D(64, 1, strides=2), BatchNorm()]; by default the identity. activation: a name or a layer, applied
    to the sum.

    Both branches must have the same output shape. Raises ValueError at build if they do not.

    >>> from xpcnn.layers import Conv2D, ReLU
    >>> Residual([Conv2D(8, 3, padding="same"), ReLU()]).connect((8, 6, 6))
    (8, 6, 6)
    >>> Residual([Conv2D(16, 3, strides=2, padding=1)], shortcut=[Conv2D(16, 1, strides=2)]).connect((8, 6, 6))
    (16, 3, 3)
    """

    _fixed = frozenset({"layers", "shortcut", "activation"})

    def __init__(
        self,
        layers: Sequence[Layer],
        shortcut: Sequence[Layer] | None = None,
        activation: str | Layer | None = None,
        *,
        name: str | None = None,
        xp: ArrayModule | str | None = None,
    ) -> None:
        super().__init__(name=name, xp=xp)
        self.layers = listed(layers, "Residual takes a list of at least one layer")
        self.shortcut = listed(shortcut, "shortcut must be a list of layers") if shortcut else None
        self.activation = activation
        self._around = self.shortcut or ()
        self._add = Add()
        self._add.hidden = True
        self._activation = activation_part(activation)

    def sublayers(self) -> Sequence[Layer]:
        """Return the main branch, the shortcut, the sum and the activation."""
        return [*self.layers, *self._around, self._add, *self._activation]

    def expand(self, graph: Graph, x: int) -> int:
        """Add both branches, their sum and the activation."""
        y, around = graph.chain(self.layers, x), graph.chain(self._around, x)
        self._compare(graph.shapes[y], graph.shapes[around], graph.shapes[x])
        return graph.chain(self._activation, graph.add(self._add, around, y))

    def build(self, input_shape: Shape) -> Shape:
        """Build both branches and compare their shapes."""
        y, around = _shape_after(self.layers, input_shape), _shape_after(self._around, input_shape)
        self._compare(y, around, input_shape)
        return _shape_after(self._activation, y)

    def _compare(self, y: Shape, around: Shape, input_shape: Shape) -> None:
        if y != around:
            what = f"its shortcut, which returns {around}" if self.shortcut else "its input"
            raise self.refuse(
                f"its layers return {y}, which cannot be added to {what}",
                input_shape,
                f'Make its last layer return {around}, for instance with padding="same".',
            )


def _shape_after(layers: Sequence[Layer], shape: Shape) -> Shape:
    for layer in layers:
        shape = layer.connect(shape)
    return shape
