"""Every activation of one number with one kernel forward and one backward."""

from __future__ import annotations

from xpcnn.backend import Array, ArrayModule
from xpcnn.ops.activations import Backward
from xpcnn.ops.cuda.compiler import kernel
from xpcnn.ops.workspace import Workspace, to_batch_last

#: The activations that kernels apply to what they write, as activation.cuh numbers them.
NUMBERS = {"linear": 0, "relu": 1, "relu6": 2}


def relu(xp: ArrayModule, x: Array, workspace: Workspace, y: Array | None = None) -> tuple[Array, Backward]:
    """See :func:`xpcnn.ops.activations.relu`."""
    return _activated(xp, "RELU", x, workspace, y)


def relu6(xp: ArrayModule, x: Array, workspace: Workspace, y: Array | None = None) -> tuple[Array, Backward]:
    """See :func:`xpcnn.ops.activations.relu6`."""
    return _activated(xp, "RELU6", x, workspace, y)


def leaky_relu(xp: ArrayModule, x: Array, workspace: Workspace, slope: float = 0.01) -> tuple[Array, Backward]:
    """See :func:`xpcnn.ops.activations.leaky_relu`."""
    return _activated(xp, "LEAKY_RELU", x, workspace, keeps_input=True, slope=float(slope))


def elu(xp: ArrayModule, x: Array, workspace: Workspace) -> tuple[Array, Backward]:
    """See :func:`xpcnn.ops.activations.elu`."""
    return _activated(xp, "ELU", x, workspace)


def gelu(xp: ArrayModule, x: Array, workspace: Workspace) -> tuple[Array, Backward]:
    """See :func:`xpcnn.ops.activations.gelu`."""
    return _activated(xp, "GELU", x, workspace, keeps_input=True)


def silu(xp: ArrayModule, x: Array, workspace: Workspace) -> tuple[Array, Backward]:
    """See :func:`xpcnn.ops.activations.silu`."""
    return _activated(xp, "SILU", x, workspace, keeps_input=True)


def hard_swish(xp: ArrayModule, x: Array, workspace: Workspace) -> tuple[Array, Backward]:
    """See :func:`xpcnn.ops.activations.hard_swish`."""
    return _activated(xp, "HARD_SWISH", x, workspace, keeps_input=True)


def sigmoid(xp: ArrayModule, x: Array, workspace: Workspace) -> tuple[Array, Backward]:
    """See :func:`xpcnn.ops.activations.sigmoid`."""
    return _activated(xp, "SIGMOID", x, workspace)


def hard_sigmoid(xp: ArrayModule, x: Array, workspace: Workspace) -> tuple[Array, Backward]:
    """See :func:`xpcnn.ops.activations.hard_sigmoid`."""
    return _activated(xp, "HARD_SIGMOID", x, workspace)


def tanh(xp: ArrayModule, x: Array, workspace: Workspace) -> tuple[Array, Backward]:
    """See :func:`xpcnn.ops.activations.tanh`."""
    return _activated(xp, "TANH", x, workspace)


def gradient_of(xp: ArrayModule, activation: str, dy: Array, y: Array, workspace: Workspace) -> Array:
    """Return the gradient of the input of one of ``NUMBERS``, with the batch last, given its output."""
    if activation == "linear":
        return to_batch_last(dy, workspace)
    return _gradient(xp, activation.upper(), dy, y, workspace)


def _activated(
    xp: ArrayModule, function: str, x: Array, workspace: Workspace, y: Array | None = None, *,
    keeps_input: bool = False, slope: float = 0.0,
) -> tuple[Array, Backward]:  # fmt: skip
    """Return y and a backward that reads the input or the output."""
    x = to_batch_last(x, workspace)
    y = workspace.like(x) if y is None else y
    kernel(xp, "activations", "activate", x.dtype, FUNCTION=function).for_each(x.size, x, y, slope, xp.uint64(x.size))
    kept = x if keeps_input else y
    return y, lambda dy: _gradient(xp, function, dy, kept, workspace, slope)


def _gradient(
    xp: ArrayModule, function: str, dy: Array, kept: Array, workspace: Workspace, slope: float = 0.0
) -> Array:
    """Return the gradient of the input of a function, given what activations.cu says that it reads."""
    dy, kept, dx = to_batch_last(dy, workspace), to_batch_last(kept, workspace), workspace.like(dy)
    kernel(xp, "activations", "activate_gradient", dy.dtype, FUNCTION=function).for_each(
        dy.size, dy, kept, dx, slope, xp.uint64(dy.size)
    )
    return dx
