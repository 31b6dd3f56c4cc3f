"""Activation layers."""

from __future__ import annotations

from xpcnn.backend import Array, ArrayModule
from xpcnn.layers.base import Arrays, Backward, Context, Layer
from xpcnn.ops import activations
from xpcnn.registry import check_float


class Activation(Layer):
    """Apply an activation function by name: linear, relu, leaky_relu, sigmoid, tanh or softmax (over axis 1).

    Input and output have the same shape. Raises ValueError for an unknown name.

    >>> Activation("relu").connect((8, 4, 4))
    (8, 4, 4)
    """

    _fixed = frozenset({"activation"})

    def __init__(self, activation: str, *, name: str | None = None, xp: ArrayModule | str | None = None) -> None:
        super().__init__(name=name, xp=xp)
        self.activation = activation
        self._function = activations.get(activation)

    def forward(self, params: Arrays, x: Array, context: Context, *, in_place: bool = False) -> tuple[Array, Backward]:
        """Apply the function; with ``in_place``, ReLU overwrites its input."""
        own = (x,) if in_place else ()
        y, backward = self._function(context.xp, x, context.workspace, *own)
        return y, lambda dy, gradients: backward(dy)


class ReLU(Activation):
    """Rectified linear unit, max(x, 0) (Nair and Hinton, 2010)."""

    def __init__(self, *, name: str | None = None, xp: ArrayModule | str | None = None) -> None:
        super().__init__("relu", name=name, xp=xp)


class Sigmoid(Activation):
    """Logistic function, 1 / (1 + exp(-x))."""

    def __init__(self, *, name: str | None = None, xp: ArrayModule | str | None = None) -> None:
        super().__init__("sigmoid", name=name, xp=xp)


class Tanh(Activation):
    """Hyperbolic tangent."""

    def __init__(self, *, name: str | None = None, xp: ArrayModule | str | None = None) -> None:
        super().__init__("tanh", name=name, xp=xp)


class Softmax(Activation):
    """Softmax over axis 1, exp(x) / Σ exp(x), with its full Jacobian in backward."""

    def __init__(self, *, name: str | None = None, xp: ArrayModule | str | None = None) -> None:
        super().__init__("softmax", name=name, xp=xp)


class LeakyReLU(Layer):
    """Leaky rectified linear unit: x above 0, slope x below (Maas, Hannun and Ng, 2013)."""

    def __init__(self, slope: float = 0.01, *, name: str | None = None, xp: ArrayModule | str | None = None) -> None:
        super().__init__(name=name, xp=xp)
        self.slope = check_float("slope", slope)

    def forward(self, params: Arrays, x: Array, context: Context) -> tuple[Array, Backward]:
        """Scale values below 0."""
        y, backward = activations.leaky_relu(context.xp, x, context.workspace, self.slope)
        return y, lambda dy, gradients: backward(dy)


def applies(layer: Layer, activation: str | None) -> bool:
    """Return whether a layer applies this activation and nothing else: of exactly this class, not a subclass."""
    return type(layer) in (Activation, ReLU, Sigmoid, Tanh, Softmax) and getattr(layer, "activation", "") == activation


def activation_part(activation: str | Layer | None) -> list[Layer]:
    """Return the layers for an ``activation`` argument: none, one made from its name, or the layer given."""
    if activation is None or activation == "linear":
        return []
    if isinstance(activation, Layer):
        return [activation]
    part = Activation(activation)
    part.hidden = True
    return [part]
