"""Dropout with a kernel that draws the mask on the fly, forward and again backward."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from xpcnn import random
from xpcnn.backend import Array, ArrayModule
from xpcnn.ops.cuda.compiler import check_size, kernel
from xpcnn.ops.workspace import Workspace, to_batch_last


def dropout(
    xp: ArrayModule, x: Array, keep: float, key: Callable[[], random.MaskKey], workspace: Workspace
) -> tuple[Array, Callable[[Array], Array]]:
    """See :func:`xpcnn.ops.dropout.dropout`."""
    of = key()
    seed = np.uint64(random.check_seed(of.seed))
    step = xp.full((), of.step, xp.uint64) if isinstance(of.step, int) else of.step
    check_size(x)

    def masked(values: Array) -> Array:
        values, result = to_batch_last(values, workspace), workspace.like(values)
        kernel(xp, "dropout", "dropout", values.dtype).for_each(
            values.size, values, result, step, seed, np.uint64(of.stream), np.uint32(random.keep_threshold(keep)),
            1.0 / keep, len(values), values.size // len(values), np.uint64(of.first_row),
        )  # fmt: skip
        return result

    return masked(x), masked
