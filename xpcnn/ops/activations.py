"""Activation functions: each takes (xp, x, workspace) and returns (y, backward)."""

from __future__ import annotations

import math
from collections.abc import Callable

from xpcnn.backend import Array, ArrayModule
from xpcnn.hints import did_you_mean
from xpcnn.ops.dispatch import with_kernels
from xpcnn.ops.erf import erf
from xpcnn.ops.workspace import Workspace

Backward = Callable[[Array], Array]
Function = Callable[[ArrayModule, Array, Workspace], tuple[Array, Backward]]


def linear(xp: ArrayModule, x: Array, workspace: Workspace) -> tuple[Array, Backward]:
    """y = x."""
    return x, lambda dy: dy


@with_kernels("cuda", "cpu")
def relu(xp: ArrayModule, x: Array, workspace: Workspace, y: Array | None = None) -> tuple[Array, Backward]:
    """y = max(x, 0); the derivative at 0 is 0. y: the array to write to, by default a new one."""
    y = workspace.like(x) if y is None else y
    xp.clip(x, 0.0, float("inf"), out=y)  # in NumPy, three times as fast as a maximum with a scalar

    def backward(dy: Array) -> Array:
        dx = workspace.like(dy)
        return xp.multiply(dy, y > 0, out=dx)

    return y, backward


@with_kernels("cuda", "cpu")
def relu6(xp: ArrayModule, x: Array, workspace: Workspace, y: Array | None = None) -> tuple[Array, Backward]:
    """y = min(max(x, 0), 6); y: as of :func:`relu` (Krizhevsky, "Convolutional deep belief networks", 2010)."""
    y = workspace.like(x) if y is None else y
    xp.clip(x, 0.0, 6.0, out=y)

    def backward(dy: Array) -> Array:
        dx = workspace.like(dy)
        xp.multiply(dy, y > 0, out=dx)
        return xp.multiply(dx, y < 6, out=dx)

    return y, backward


@with_kernels("cuda")
def leaky_relu(xp: ArrayModule, x: Array, workspace: Workspace, slope: float = 0.01) -> tuple[Array, Backward]:
    """y = x above 0, slope x below (Maas, Hannun and Ng, 2013)."""
    y = xp.where(x > 0, x, slope * x)

    def backward(dy: Array) -> Array:
        return xp.where(x > 0, dy, slope * dy)

    return y, backward


@with_kernels("cuda")
def sigmoid(xp: ArrayModule, x: Array, workspace: Workspace) -> tuple[Array, Backward]:
    """y = 1 / (1 + exp(-x)), computed as exp(min(x, 0)) / (1 + exp(-|x|)), which can neither overflow nor cancel."""
    y = workspace.like(x)
    xp.minimum(x, 0, out=y)
    xp.exp(y, out=y)
    y /= 1.0 + xp.exp(-xp.abs(x))
    return y, lambda dy: dy * y * (1.0 - y)


@with_kernels("cuda")
def hard_sigmoid(xp: ArrayModule, x: Array, workspace: Workspace) -> tuple[Array, Backward]:
    """y = min(max(x + 3, 0), 6) / 6 (Howard et al., "Searching for MobileNetV3", 2019)."""
    y = xp.add(x, 3.0, out=workspace.like(x))
    xp.clip(y, 0.0, 6.0, out=y)
    y /= 6.0
    return y, lambda dy: dy * ((y > 0) & (y < 1)) / 6.0


@with_kernels("cuda")
def hard_swish(xp: ArrayModule, x: Array, workspace: Workspace) -> tuple[Array, Backward]:
    """y = x hard_sigmoid(x) (Howard et al., "Searching for MobileNetV3", 2019)."""
    gate, gate_backward = hard_sigmoid(xp, x, workspace)
    y = xp.multiply(x, gate, out=workspace.like(x))
    return y, lambda dy: dy * gate + gate_backward(dy) * x


@with_kernels("cuda")
def silu(xp: ArrayModule, x: Array, workspace: Workspace) -> tuple[Array, Backward]:
    """y = x sigmoid(x), also called swish (Elfwing, Uchibe and Doya, 2018)."""
    gate, gate_backward = sigmoid(xp, x, workspace)
    y = xp.multiply(x, gate, out=workspace.like(x))
    return y, lambda dy: dy * gate + gate_backward(dy) * x


@with_kernels("cuda")
def gelu(xp: ArrayModule, x: Array, workspace: Workspace) -> tuple[Array, Backward]:
    """y = x Φ(x), with the normal distribution's Φ(x) = (1 + erf(x / √2)) / 2 (Hendrycks and Gimpel, 2016)."""
    below = 0.5 * (1.0 + erf(xp, x * 0.5**0.5))
    near = xp.clip(x, -40.0, 40.0)  # whose square is a number in single precision
    density = xp.exp(-0.5 * near * near) / (2 * math.pi) ** 0.5
    y = xp.multiply(x, below, out=workspace.like(x))
    return y, lambda dy: dy * (below + x * density)


@with_kernels("cuda")
def elu(xp: ArrayModule, x: Array, workspace: Workspace) -> tuple[Array, Backward]:
    """y = x above 0, exp(x) - 1 below (Clevert, Unterthiner and Hochreiter, 2016)."""
    below = xp.expm1(xp.minimum(x, 0))
    y = xp.where(x > 0, x, below)
    return y, lambda dy: dy * (1.0 + below)


@with_kernels("cuda")
def tanh(xp: ArrayModule, x: Array, workspace: Workspace) -> tuple[Array, Backward]:
    """y = tanh(x)."""
    y = workspace.like(x)
    xp.tanh(x, out=y)
    return y, lambda dy: dy * (1.0 - y * y)


def softmax(xp: ArrayModule, x: Array, workspace: Workspace) -> tuple[Array, Backward]:
    """y = exp(x) / Σ exp(x) along axis 1, shifted by the maximum so that it cannot overflow.

    Backward is the product with the full Jacobian: dx = y (dy - Σ dy y).
    """
    y = workspace.like(x)
    xp.subtract(x, x.max(axis=1, keepdims=True), out=y)
    xp.exp(y, out=y)
    y /= y.sum(axis=1, keepdims=True)

    def backward(dy: Array) -> Array:
        return y * (dy - (dy * y).sum(axis=1, keepdims=True))

    return y, backward


ACTIVATIONS: dict[str, Function] = {
    "linear": linear,
    "relu": relu,
    "relu6": relu6,
    "leaky_relu": leaky_relu,
    "elu": elu,
    "gelu": gelu,
    "silu": silu,
    "hard_swish": hard_swish,
    "sigmoid": sigmoid,
    "hard_sigmoid": hard_sigmoid,
    "tanh": tanh,
    "softmax": softmax,
}


def get(name: str) -> Function:
    """Return the activation function called ``name``; for an unknown one, raise ValueError listing those that exist."""
    try:
        return ACTIVATIONS[name]
    except (KeyError, TypeError):
        hint = did_you_mean("activation", name, [*ACTIVATIONS])
        raise ValueError(f"There is no activation {name!r}.{hint} Use one of: {', '.join(ACTIVATIONS)}.") from None
