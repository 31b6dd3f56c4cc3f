"""Merging several inputs: sums, means, products and concatenations, each returning (y, backward)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise

from xpcnn.backend import Array, ArrayModule
from xpcnn.ops.dispatch import with_kernels
from xpcnn.ops.workspace import Workspace

#: backward(dy) returns the gradients of all inputs.
Backward = Callable[[Array], tuple[Array, ...]]


@with_kernels("cuda")
def add(xp: ArrayModule, inputs: Sequence[Array], workspace: Workspace) -> tuple[Array, Backward]:
    """y = Σ x, for inputs of the same shape."""
    first, *others = inputs
    y = xp.add(first, others[0], out=workspace.like(first))
    for x in others[1:]:
        y += x
    return y, lambda dy: (dy,) * len(inputs)


def average(xp: ArrayModule, inputs: Sequence[Array], workspace: Workspace) -> tuple[Array, Backward]:
    """y = Σ x / count, for inputs of the same shape."""
    y, _ = add(xp, inputs, workspace)
    y /= len(inputs)

    def backward(dy: Array) -> tuple[Array, ...]:
        return (xp.divide(dy, len(inputs), out=workspace.like(dy)),) * len(inputs)

    return y, backward


def multiply(xp: ArrayModule, x: Array, factor: Array, workspace: Workspace) -> tuple[Array, Backward]:
    """y = x factor, for a factor of the shape of ``x``, or one per channel: (n, channels) or (n, channels, 1, 1)."""
    each = factor[:, :, None, None] if factor.ndim < x.ndim else factor
    y = xp.multiply(x, each, out=workspace.like(x))

    def backward(dy: Array) -> tuple[Array, Array]:
        dfactor = xp.multiply(dy, x, out=workspace.like(x))
        dx = xp.multiply(dy, each, out=workspace.like(x))
        return dx, dfactor if factor.shape == x.shape else dfactor.sum(axis=(2, 3)).reshape(factor.shape)

    return y, backward


def concatenate(xp: ArrayModule, inputs: Sequence[Array], workspace: Workspace) -> tuple[Array, Backward]:
    """Concatenate the channels of inputs: (n, channels, …) each, all else equal."""
    ends = [*accumulate((x.shape[1] for x in inputs), initial=0)]
    n, _, *size = inputs[0].shape
    y = workspace.batch_last((n, ends[-1], *size), inputs[0].dtype)
    spans = [slice(start, stop) for start, stop in pairwise(ends)]
    for span, x in zip(spans, inputs, strict=True):
        y[:, span] = x
    return y, lambda dy: tuple(dy[:, span] for span in spans)
