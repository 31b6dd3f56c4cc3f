"""Sums computed by many blocks: each writes its part, and one kernel adds the parts up in order."""

from __future__ import annotations

from xpcnn.backend import Array, ArrayModule
from xpcnn.ops.cuda.compiler import kernel


def add_parts(xp: ArrayModule, parts: Array, total: Array, rest: Array | None) -> None:
    """Sum the rows of ``parts``: the first ``total.size`` values of each into ``total``, the others into ``rest``."""
    others = parts[0].size - total.size
    kernel(xp, "parts", "add_parts", parts.dtype).for_each(
        total.size + others, parts, total, rest, len(parts), total.size, others
    )
