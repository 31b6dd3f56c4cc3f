"""Copies of several arrays in one launch."""

from __future__ import annotations

from collections.abc import Sequence

from xpcnn.backend import Array, ArrayModule
from xpcnn.ops.cuda.compiler import THREADS, ceil_divide, check_size, kernel

#: How many arrays ``copy_each`` of copies.cu takes.
AT_ONCE = 8


def copy_each(xp: ArrayModule, pairs: Sequence[tuple[Array, Array]]) -> None:
    """See :func:`xpcnn.ops.copies.copy_each`."""
    alike: list[tuple[Array, Array]] = []
    for target, value in pairs:
        if target.size and _same_layout(target, value) and (not alike or target.dtype == alike[0][0].dtype):
            check_size(target)
            alike.append((target, value))
        else:
            target[...] = value
    for first in range(0, len(alike), AT_ONCE):
        some = alike[first : first + AT_ONCE]
        arguments = [argument for target, value in some for argument in (target, value, target.size)]
        arguments += [None, None, 0] * (AT_ONCE - len(some))
        blocks = ceil_divide(max(target.size for target, _ in some), THREADS)
        kernel(xp, "copies", "copy_each", some[0][0].dtype)((blocks, len(some)), (THREADS,), *arguments)


def _same_layout(a: Array, b: Array) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and bool(a.flags.c_contiguous and b.flags.c_contiguous)
