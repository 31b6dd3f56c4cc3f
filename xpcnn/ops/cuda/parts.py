"""Sums that many blocks share: each leaves its part, and one kernel adds the parts up in order."""

from __future__ import annotations

from xpcnn.backend import Array, ArrayModule
from xpcnn.ops.cuda.compiler import kernel


def add_parts(xp: ArrayModule, parts: Array, total: Array, rest: Array | None) -> None:
    """Add up the rows of ``parts``, which begin with as many numbers as ``total`` has; the others go to ``rest``."""
    others = parts[0].size - total.size
    kernel(xp, "parts", "add_parts", parts.dtype).for_each(
        total.size + others, parts, total, rest, len(parts), total.size, others
    )
