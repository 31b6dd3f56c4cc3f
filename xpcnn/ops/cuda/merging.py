"""Sums of images, which may be stored in 16 bits."""

from __future__ import annotations

from collections.abc import Sequence

from xpcnn.backend import Array, ArrayModule
from xpcnn.ops.cuda.compiler import kernel
from xpcnn.ops.merging import Backward
from xpcnn.ops.workspace import Workspace, to_batch_last


def add(xp: ArrayModule, inputs: Sequence[Array], workspace: Workspace) -> tuple[Array, Backward]:
    """See :func:`xpcnn.ops.merging.add`."""
    first, *others = (to_batch_last(x, workspace) for x in inputs)
    y = workspace.like(first)
    for x in others:
        kernel(xp, "merging", "add", y.dtype).for_each(y.size, first, x, y, xp.uint64(y.size))
        first = y
    return y, lambda dy: (dy,) * len(inputs)
