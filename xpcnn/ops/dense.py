"""The product of a fully connected layer, with an optional bias and ReLU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from xpcnn.backend import Array, ArrayModule
from xpcnn.ops.activations import relu as relu_
from xpcnn.ops.dispatch import with_kernels
from xpcnn.ops.workspace import Workspace

#: Same as :data:`xpcnn.ops.convolution.Backward`.
Backward = Callable[[Array, Array, Array | None, bool], Array | None]


@with_kernels("cuda")
def dense(
    xp: ArrayModule, x: Array, weight: Array, bias: Array | None, workspace: Workspace, *, relu: bool = False,
    stored: Any = None,
) -> tuple[Array, Backward]:  # fmt: skip
    """Multiply by the weight, add the bias and apply ReLU, the last two if given.

    x: (n, features); weight: (units, features); bias: (units,); y: (n, units).
    stored: as in :func:`xpcnn.ops.convolution.convolution`.
    """
    y = workspace.batch_last((x.shape[0], len(weight)), x.dtype)
    xp.matmul(weight, x.T, out=y.T)
    if bias is not None:
        y += bias
    if relu:
        y, relu_backward = relu_(xp, y, workspace, y)

    def backward(dy: Array, dweight: Array, dbias: Array | None, input_gradient: bool) -> Array | None:
        if relu:
            dy = relu_backward(dy)
        xp.matmul(dy.T, x, out=dweight)
        if dbias is not None:
            dy.sum(axis=0, out=dbias)
        if not input_gradient:
            return None
        dx = workspace.like(x)
        xp.matmul(weight.T, dy.T, out=dx.T)
        return dx

    return y, backward
