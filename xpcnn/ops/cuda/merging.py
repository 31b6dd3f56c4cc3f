"""Sums of images that are stored in 16 bits; CuPy's own kernel adds all others."""

from __future__ import annotations

from collections.abc import Sequence

from xpcnn.backend import Array, ArrayModule
from xpcnn.ops import merging as generic
from xpcnn.ops.cuda.compiler import kernel
from xpcnn.ops.merging import Backward
from xpcnn.ops.workspace import Workspace, to_batch_last
from xpcnn.precision import STORED


def add(xp: ArrayModule, inputs: Sequence[Array], workspace: Workspace) -> tuple[Array, Backward]:
    """See :func:`xpcnn.ops.merging.add`."""
    if not all(x.dtype in STORED.values() for x in inputs):
        return generic.add.__wrapped__(xp, inputs, workspace)  # type: ignore[attr-defined,no-any-return]
    first, *others = (to_batch_last(x, workspace) for x in inputs)
    y = workspace.like(first)
    for x in others:
        kernel(xp, "merging", "add", y.dtype).for_each(y.size, first, x, y, xp.uint64(y.size))
        first = y
    return y, lambda dy: (dy,) * len(inputs)
