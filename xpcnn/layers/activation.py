"""Activation layers."""

from __future__ import annotations

from xpcnn.backend import Array, ArrayModule
from xpcnn.layers.base import Arrays, Backward, Context, Layer
from xpcnn.ops import activations
from xpcnn.registry import check_float, is_known


class Activation(Layer):
    """Apply an activation function by name, as listed in :data:`xpcnn.ops.activations.ACTIVATIONS`.

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


class ReLU6(Activation):
    """Rectified linear unit with a ceiling, min(max(x, 0), 6) (Krizhevsky, 2010)."""

    def __init__(self, *, name: str | None = None, xp: ArrayModule | str | None = None) -> None:
        super().__init__("relu6", name=name, xp=xp)


class ELU(Activation):
    """Exponential linear unit: x above 0, exp(x) - 1 below (Clevert, Unterthiner and Hochreiter, 2016)."""

    def __init__(self, *, name: str | None = None, xp: ArrayModule | str | None = None) -> None:
        super().__init__("elu", name=name, xp=xp)


class GELU(Activation):
    """Gaussian error linear unit, x times the normal distribution's Φ(x) (Hendrycks and Gimpel, 2016)."""

    def __init__(self, *, name: str | None = None, xp: ArrayModule | str | None = None) -> None:
        super().__init__("gelu", name=name, xp=xp)


class SiLU(Activation):
    """Sigmoid linear unit, x sigmoid(x), also called swish (Elfwing, Uchibe and Doya, 2018)."""

    def __init__(self, *, name: str | None = None, xp: ArrayModule | str | None = None) -> None:
        super().__init__("silu", name=name, xp=xp)


class HardSwish(Activation):
    """Piecewise approximation of SiLU, x min(max(x + 3, 0), 6) / 6 (Howard et al., 2019)."""

    def __init__(self, *, name: str | None = None, xp: ArrayModule | str | None = None) -> None:
        super().__init__("hard_swish", name=name, xp=xp)


class Sigmoid(Activation):
    """Logistic function, 1 / (1 + exp(-x))."""

    def __init__(self, *, name: str | None = None, xp: ArrayModule | str | None = None) -> None:
        super().__init__("sigmoid", name=name, xp=xp)


class HardSigmoid(Activation):
    """Piecewise linear approximation of the logistic function, min(max(x + 3, 0), 6) / 6 (Howard et al., 2019)."""

    def __init__(self, *, name: str | None = None, xp: ArrayModule | str | None = None) -> None:
        super().__init__("hard_sigmoid", name=name, xp=xp)


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
    """Return whether a layer applies this activation and nothing else: a custom subclass may do more."""
    return isinstance(layer, Activation) and is_known(layer) and layer.activation == activation


def activation_part(activation: str | Layer | None) -> list[Layer]:
    """Return the layers for an ``activation`` argument: none, one made from its name, or the layer given."""
    if activation is None or activation == "linear":
        return []
    if isinstance(activation, Layer):
        return [activation]
    part = Activation(activation)
    part.hidden = True
    return [part]
