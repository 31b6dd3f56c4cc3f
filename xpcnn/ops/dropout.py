"""Dropout with keyed masks, which can be redrawn wherever they are needed."""

from __future__ import annotations

from collections.abc import Callable

from xpcnn import random
from xpcnn.backend import Array, ArrayModule, to_device
from xpcnn.ops.dispatch import with_kernels
from xpcnn.ops.workspace import Workspace
from xpcnn.recording import made_each_time


@with_kernels("cuda", "cpu")
def dropout(
    xp: ArrayModule, x: Array, keep: float, key: Callable[[], random.MaskKey], workspace: Workspace
) -> tuple[Array, Callable[[Array], Array]]:
    """Keep each value with probability ``keep``, divided by it, and set the others to 0.

    x: (n, ...), rows of a batch; key: returns the mask's key, called on every pass.
    """
    mask = made_each_time(lambda: to_device(xp, random.keep_mask(x.shape, keep, key())))
    scaled_mask = workspace.like(x)
    xp.multiply(mask, 1.0 / keep, out=scaled_mask)

    def backward(dy: Array) -> Array:
        dx = workspace.like(dy)
        return xp.multiply(dy, scaled_mask, out=dx)

    y = workspace.like(x)
    return xp.multiply(x, scaled_mask, out=y), backward
