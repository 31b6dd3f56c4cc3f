"""A batch gathered, transformed geometrically and normalised in one kernel."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpcnn.backend import Array, ArrayModule
from xpcnn.ops.cuda.compiler import Kernel, c_name, check_size, kernel
from xpcnn.ops.workspace import Workspace


def gather(
    xp: ArrayModule,
    images: Array,
    indices: Array,
    places: Array | None,
    mean: Array | None,
    std: Array | None,
    dtype: Any,
    workspace: Workspace,
) -> Array:
    """See :func:`xpcnn.ops.batches.gather`."""
    x = workspace.batch_last((len(indices), *images.shape[1:]), dtype)
    check_size(x)
    _kernel(xp, "gather", dtype, images.dtype).for_each(x.size, images, indices, places, mean, std, x, *x.shape)
    return x


def next_rows(xp: ArrayModule, order: Array, number: Array, batch_size: int, n: int) -> Array:
    """See :func:`xpcnn.ops.batches.next_rows`."""
    rows = xp.empty(n, dtype=np.int32)
    _kernel(xp, "next_rows", np.float32).for_each(n, order, number, rows, batch_size, n)
    return rows


def count_step(xp: ArrayModule, losses: Array, loss: Array, number: Array, step: Array) -> None:
    """See :func:`xpcnn.ops.batches.count_step`."""
    _kernel(xp, "count_step", losses.dtype)((1,), (1,), losses, loss, number, step)


def _kernel(xp: ArrayModule, name: str, dtype: Any, source: Any = np.uint8) -> Kernel:
    return kernel(xp, "batches", name, dtype, SOURCE=c_name(source))
