"""Memory that a step uses again and again, so that no large array is allocated twice."""

from __future__ import annotations

import math
import threading
from typing import Any

from xpcnn.backend import Array, ArrayModule, is_host

#: Bytes that what convolutions lower may take at any one time, on all threads of a run together.
COLUMN_BUDGET = 64 * 2**20
#: Bytes that one thread lowers at once: less costs time, since rows are lowered again, and more gains none.
CACHE_BYTES = 4 * 2**20

#: The scratch memory of each thread: however many workspaces a run borrows, threads alone bound the columns.
_of_thread = threading.local()


class Workspace:
    """Hands out uninitialised arrays in the order they are asked for, the same memory after each :meth:`reset`.

    A fresh array of a megabyte costs more in page faults than most operations on it, so on the host the k-th
    request after a reset gets the memory of the k-th request before it. On a device the module's own memory pool
    does that work. One workspace serves one thread at a time; its arrays are valid until the next reset.
    """

    def __init__(self, xp: ArrayModule, column_budget: int = COLUMN_BUDGET) -> None:
        self.xp = xp
        #: Bytes that one convolution may lower at once (but always at least one row of output).
        self.column_bytes = min(column_budget, CACHE_BYTES) if is_host(xp) else column_budget
        self._blocks: list[Array] = []
        self._next = 0

    def reset(self) -> None:
        """Take back every array that was handed out."""
        self._next = 0

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """Return an uninitialised C-contiguous array."""
        if not is_host(self.xp):
            return self.xp.empty(shape, dtype=dtype)
        dtype = self.xp.dtype(dtype)
        size = math.prod(shape) * dtype.itemsize
        if self._next == len(self._blocks):
            self._blocks.append(self.xp.empty(size, dtype=self.xp.uint8))
        elif self._blocks[self._next].size < size:
            self._blocks[self._next] = self.xp.empty(size, dtype=self.xp.uint8)
        block = self._blocks[self._next]
        self._next += 1
        return block[:size].view(dtype).reshape(shape)

    def scratch(self, shape: tuple[int, ...], dtype: Any, number: int = 0) -> Array:
        """Return an uninitialised array, valid until the next call with the same number on the same thread."""
        if not is_host(self.xp):
            return self.xp.empty(shape, dtype=dtype)
        dtype = self.xp.dtype(dtype)
        size = math.prod(shape) * dtype.itemsize
        blocks: Any = _of_thread.__dict__  # of this thread alone
        if number not in blocks or blocks[number].size < size:
            blocks[number] = self.xp.empty(size, dtype=self.xp.uint8)
        return blocks[number][:size].view(dtype).reshape(shape)

    def batch_last(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """Return an uninitialised array (n, …) whose memory is ordered (…, n): neighbours are the images of a batch.

        This is the layout in which layers pass arrays on. A shift by a column or a row is a long contiguous copy,
        channels are rows of a matrix, and flat features are a matrix without a copy.
        """
        n, *others = shape
        array = self.empty((*others, n), dtype)
        return array.transpose(array.ndim - 1, *range(array.ndim - 1))

    def like(self, x: Array) -> Array:
        """Return an uninitialised array of the shape and dtype of ``x``, the batch last in memory."""
        return self.batch_last(x.shape, x.dtype)


def to_batch_last(x: Array, workspace: Workspace) -> Array:
    """Return ``x`` with the batch last in memory; copied only if it is not."""
    if x.transpose(*range(1, x.ndim), 0).flags.c_contiguous:
        return x
    y = workspace.like(x)
    y[...] = x
    return y


def channel_rows(x: Array) -> Array:
    """View (n, channels, …) as (channels, everything else); copied only if it must be."""
    return x.transpose(*range(1, x.ndim), 0).reshape(x.shape[1], -1)
