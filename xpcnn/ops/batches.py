"""Batches gathered from a set of images that is already on the device.

Training with NumPy does not use this module: its NumPy code is the reference for the CUDA kernels, and the fallback
for array modules without them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from xpcnn.backend import Array, ArrayModule
from xpcnn.ops.dispatch import with_kernels
from xpcnn.ops.workspace import Workspace


@with_kernels("cuda")
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
    """Return some images of a set, transformed geometrically and normalised: (x - mean) / std.

    images: (any, channels, height, width), uint8 or float; indices: int32 (n,); places: int32 (n, 5), as drawn by
    :class:`xpcnn.data.augmentation.GeometricAugmentation`, or None; mean, std: (channels,), or None for both.
    """
    _, channels, height, width = images.shape
    x = workspace.batch_last((len(indices), channels, height, width), dtype)
    if places is None:
        x[...] = xp.take(images, indices, axis=0)
    else:
        exchanged, up, left, down, right = (places[:, i, None, None] for i in range(5))
        row, column = xp.arange(height)[:, None], xp.arange(width)[None, :]
        row, column = xp.where(exchanged != 0, column, row), xp.where(exchanged != 0, row, column)
        row = xp.clip(xp.where(up != 0, height - 1 - row, row) + down, 0, height - 1)
        column = xp.clip(xp.where(left != 0, width - 1 - column, column) + right, 0, width - 1)
        plane = (indices[:, None] * channels + xp.arange(channels))[:, :, None, None]
        x[...] = xp.take(images.reshape(-1), plane * (height * width) + (row * width + column)[:, None])
    if mean is not None:
        x -= mean[:, None, None]
        x /= std[:, None, None]  # type: ignore[index]
    return x


@with_kernels("cuda")
def next_rows(xp: ArrayModule, order: Array, number: Array, batch_size: int, n: int) -> Array:
    """Return the int32 row numbers of a batch: n entries of ``order``, starting at ``number * batch_size``."""
    return xp.take(order, number * batch_size + xp.arange(n, dtype=np.int32))


@with_kernels("cuda")
def count_step(xp: ArrayModule, losses: Array, loss: Array, number: Array, step: Array) -> None:
    """Write the loss of step ``number`` of the epoch into ``losses``, and increment both step counters in place."""
    xp.copyto(losses, loss, where=xp.arange(len(losses), dtype=np.int32) == number)
    number += 1
    step += 1
