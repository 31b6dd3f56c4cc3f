"""Memory that is reused from step to step, so that no large array is allocated twice."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable
from typing import Any

from xpcnn.backend import Array, ArrayModule, is_host
from xpcnn.recording import watched

#: Most bytes that lowered convolution inputs may take at any one time, over all threads of a run.
COLUMN_BUDGET = 64 * 2**20
#: Most bytes that one thread lowers at once: of 1, 2, 4 and 8 MB, 2 was the fastest or as fast as any.
CACHE_BYTES = 2 * 2**20
#: Elements that go through a chain of operations at once, so that intermediate results take this much scratch memory
#: and not that of a whole layer's images. It costs no time; with 65,536, steps took up to 13 % longer.
BLOCK = 262_144


class Workspace:
    """Hands out uninitialised arrays, and reuses their memory for the same sequence of requests after a :meth:`reset`.

    The page faults of a fresh one-megabyte array cost more than most operations on it, so on the host the k-th request
    after a reset gets the memory of the k-th request before it. On a device the array module's memory pool does this.
    One workspace serves one thread at a time; its arrays are valid until they are reclaimed or the next reset.

    scratch_of: a workspace of the same thread with which to share scratch memory, so that the memory for lowered
    columns depends on the number of threads and not on that of workspaces.
    """

    def __init__(
        self, xp: ArrayModule, column_budget: int = COLUMN_BUDGET, scratch_of: Workspace | None = None
    ) -> None:
        self.xp = xp
        #: Most bytes that one convolution may lower at once (but always at least one output row).
        self.column_bytes = min(column_budget, CACHE_BYTES) if is_host(xp) else column_budget
        self._blocks: list[Array] = []
        self._free: set[int] = set()
        #: The block given to each request since the last reset, and to each request before that reset.
        self._given: list[int] = []
        self._given_before: list[int] = []
        self._scratch: dict[Hashable, Array] = {} if scratch_of is None else scratch_of._scratch

    def reset(self) -> None:
        """Reclaim every array that was handed out."""
        self._free = set(range(len(self._blocks)))
        self._given, self._given_before = [], self._given + self._given_before[len(self._given) :]

    @property
    def requests(self) -> int:
        """How many arrays were handed out since the last reset."""
        return len(self._given)

    def reclaim(self, live: Iterable[Array], requests: int = 0) -> None:
        """Reclaim all arrays except those of the first ``requests`` and those whose memory ``live`` arrays use."""
        if not is_host(self.xp):
            return
        held, owners = set(self._given[:requests]), {id(_owner(array)) for array in live}
        self._free = {
            number for number, block in enumerate(self._blocks) if number not in held and id(block) not in owners
        }

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """Return an uninitialised C-contiguous array."""
        if not is_host(self.xp):
            return self.xp.empty(shape, dtype=dtype)
        size = _bytes(shape, self.xp.dtype(dtype))
        block = self._choose(size)
        if self._blocks[block].size < size:
            self._blocks[block] = self.xp.empty(size, dtype=self.xp.uint8)
        self._free.remove(block)
        self._given.append(block)
        return _part(self._blocks[block], shape, self.xp.dtype(dtype))

    def _choose(self, size: int) -> int:
        """Return a free block: the same request's last one, one at most twice as large as needed, or a new one."""
        request = len(self._given)
        before = self._given_before[request] if request < len(self._given_before) else None
        if before in self._free:
            return before
        fitting = [block for block in self._free if size <= self._blocks[block].size <= 2 * size]
        if fitting:
            return min(fitting, key=lambda block: (self._blocks[block].size, block))
        self._blocks.append(self.xp.empty(size, dtype=self.xp.uint8))
        self._free.add(len(self._blocks) - 1)
        return len(self._blocks) - 1

    def scratch(self, shape: tuple[int, ...], dtype: Any, use: Hashable) -> Array:
        """Return an uninitialised array, valid until the next call for the same use."""
        if not is_host(self.xp):
            return self.xp.empty(shape, dtype=dtype)
        size = _bytes(shape, self.xp.dtype(dtype))
        if use not in self._scratch or self._scratch[use].size < size:
            self._scratch[use] = self.xp.empty(size, dtype=self.xp.uint8)
        return _part(self._scratch[use], shape, self.xp.dtype(dtype))

    def batch_last(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """Return an uninitialised array (n, …) with memory order (…, n), so that the images of a batch are adjacent.

        Layers pass arrays on in this layout: a shift by a column or a row is a long contiguous copy, channels are rows
        of a matrix, and flat features are a matrix without a copy.
        """
        n, *others = shape
        return _batch_first(self.empty((*others, n), dtype))

    def like(self, x: Array) -> Array:
        """Return an uninitialised array with the shape and dtype of ``x``, the batch last in memory."""
        return self.batch_last(x.shape, x.dtype)

    def scratch_batch_last(self, shape: tuple[int, ...], dtype: Any, use: Hashable) -> Array:
        """Return an array as :meth:`batch_last` does, valid until the next call for the same use."""
        n, *others = shape
        return _batch_first(self.scratch((*others, n), dtype, use))


def _owner(array: Array) -> Any:
    """Return the object that owns the memory of an array."""
    while getattr(array, "base", None) is not None:
        array = array.base
    return array


def _bytes(shape: tuple[int, ...], dtype: Any) -> int:
    return int(math.prod(shape) * dtype.itemsize)


def _part(block: Array, shape: tuple[int, ...], dtype: Any) -> Array:
    """View the first bytes of a block as an array."""
    return watched(block[: _bytes(shape, dtype)].view(dtype).reshape(shape))


def _batch_first(array: Array) -> Array:
    """View (…, n) as (n, …)."""
    return array.transpose(array.ndim - 1, *range(array.ndim - 1))


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


def strided(xp: ArrayModule, x: Array, shape: tuple[int, ...], strides: tuple[int, ...]) -> Array:
    """View the memory of ``x`` with any shape and strides in bytes."""
    return watched(xp.lib.stride_tricks.as_strided(x, shape, strides))


def channel_blocks(xp: ArrayModule, x: Array) -> list[slice]:
    """Cut the channels of (n, channels, …) into blocks that fit the cache; on a device, one block holds all."""
    n, channels, *size = x.shape
    at_once = max(1, BLOCK // max(1, n * math.prod(size))) if is_host(xp) else channels
    return [slice(first, min(first + at_once, channels)) for first in range(0, channels, at_once)]


def copy_pixels(xp: ArrayModule, target: Array, source: Array) -> None:
    """Copy between batch-last arrays (n, …), in one of which neighbouring pixels are not adjacent in memory.

    On the host the n values of a pixel are copied as one element, three times as fast as one by one.
    """
    if is_host(xp) and target.strides[0] == source.strides[0] == target.itemsize:
        target, source = _pixels(target), _pixels(source)
    xp.copyto(target, source)


def _pixels(array: Array) -> Array:
    """View (n, …) as (…), with the n values of a pixel as one element."""
    batch_last = array.transpose(*range(1, array.ndim), 0)
    return batch_last.view(f"V{len(array) * array.itemsize}")[..., 0]
