"""A batch gathered, laid anew and normalised in one kernel."""

from __future__ import annotations

from typing import Any

from xpcnn.backend import Array, ArrayModule
from xpcnn.ops.cuda.compiler import c_name, check_size, kernel
from xpcnn.ops.workspace import Workspace


def gather(
    xp: ArrayModule,
    images: Array,
    indices: Array,
    places: Array | None,
    mean: Array | None,
    deviation: Array | None,
    dtype: Any,
    workspace: Workspace,
) -> Array:
    """As :func:`xpcnn.ops.batches.gather`."""
    x = workspace.batch_last((len(indices), *images.shape[1:]), dtype)
    check_size(x)
    kernel(xp, "batches", "gather", dtype, SOURCE=c_name(images.dtype)).for_each(
        x.size, images, indices, places, mean, deviation, x, *x.shape
    )
    return x
