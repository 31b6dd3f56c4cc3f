"""The matrix products of a fully connected layer, forward and backward."""

from __future__ import annotations

from typing import Any

from xpcnn.backend import Array, ArrayModule
from xpcnn.ops.cuda.activations import gradient_of
from xpcnn.ops.cuda.products import product
from xpcnn.ops.dense import Backward
from xpcnn.ops.workspace import Workspace, to_batch_last


def dense(
    xp: ArrayModule, x: Array, weight: Array, bias: Array | None, workspace: Workspace, *, relu: bool = False,
    stored: Any = None,
) -> tuple[Array, Backward]:  # fmt: skip
    """See :func:`xpcnn.ops.dense.dense`."""
    x = to_batch_last(x, workspace)
    activation = "relu" if relu else "linear"
    y = workspace.batch_last((len(x), len(weight)), weight.dtype if stored is None else stored)
    product(xp, weight, x.T, y.T, bias=bias, activation=activation)

    def backward(dy: Array, dweight: Array, dbias: Array | None, input_gradient: bool) -> Array | None:
        dy = gradient_of(xp, activation, dy, y, workspace)
        product(xp, dy.T, x, dweight, row_sums=dbias)
        if not input_gradient:
            return None
        dx = workspace.like(x)
        product(xp, weight.T, dy.T, dx.T)
        return dx

    return y, backward
