"""A stack of layers whose output is added to its input."""

from __future__ import annotations

from collections.abc import Sequence

from xpcnn.backend import ArrayModule
from xpcnn.layers.base import Layer
from xpcnn.parameters import Shape


class Save(Layer):
    """Marks where the network keeps its value for the :class:`Add` of the same stack."""

    hidden = True


class Add(Layer):
    """Marks where the network adds the value kept by its :class:`Save`."""

    hidden = True

    def __init__(self, save: Save, stack: Residual) -> None:
        super().__init__()
        self.save, self.stack = save, stack

    def build(self, input_shape: Shape) -> Shape:
        """Compare the two shapes."""
        kept = self.save.input_shape
        if input_shape != kept:
            raise self.stack.refuse(
                f"its stack gives {input_shape}, which cannot be added to its input",
                kept,
                f'Let its last layer give {kept}, for instance with padding="same".',
            )
        return input_shape


class Residual(Layer):
    """A stack of layers added to its input: y = x + layers(x) (He et al., "Deep residual learning", 2015).

    The stack must give the shape it was given. Raises ValueError at build where it does not.

    >>> from xpcnn.layers import Conv2D, ReLU
    >>> Residual([Conv2D(8, 3, padding="same"), ReLU()]).connect((8, 6, 6))
    (8, 6, 6)
    """

    def __init__(
        self, layers: Sequence[Layer], *, name: str | None = None, xp: ArrayModule | str | None = None
    ) -> None:
        super().__init__(name=name, xp=xp)
        self.layers = list(layers)
        wrong = [layer for layer in self.layers if not isinstance(layer, Layer)]
        if not self.layers or wrong:
            raise ValueError(f"Residual takes a list of at least one layer. Received: {layers!r}.")
        save = Save()
        self._parts: list[Layer] = [save, *self.layers, Add(save, self)]

    def parts(self) -> list[Layer]:
        """Return save, the stack, add."""
        return self._parts

    def build(self, input_shape: Shape) -> Shape:
        """Build the stack and compare shapes."""
        shape = input_shape
        for part in self.parts():
            shape = part.connect(shape)
        return shape
