"""ReLU with one kernel forward and one backward."""

from __future__ import annotations

from xpcnn.backend import Array, ArrayModule
from xpcnn.ops.activations import Backward
from xpcnn.ops.cuda.compiler import kernel
from xpcnn.ops.workspace import Workspace, to_batch_last


def relu(xp: ArrayModule, x: Array, workspace: Workspace, y: Array | None = None) -> tuple[Array, Backward]:
    """See :func:`xpcnn.ops.activations.relu`."""
    x = to_batch_last(x, workspace)
    y = workspace.like(x) if y is None else y
    kernel(xp, "activations", "relu", x.dtype).for_each(x.size, x, y, xp.uint64(x.size))
    return y, lambda dy: relu_gradient(xp, dy, y, workspace)


def relu_gradient(xp: ArrayModule, dy: Array, y: Array, workspace: Workspace) -> Array:
    """Return dy where y is above 0, else 0."""
    dy, y, dx = to_batch_last(dy, workspace), to_batch_last(y, workspace), workspace.like(dy)
    kernel(xp, "activations", "relu_gradient", dy.dtype).for_each(dy.size, dy, y, dx, xp.uint64(dy.size))
    return dx
