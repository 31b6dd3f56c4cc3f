"""Softmax and cross-entropy in one kernel."""

from __future__ import annotations

from xpcnn.backend import Array, ArrayModule
from xpcnn.ops.cuda.compiler import ceil_divide, kernel
from xpcnn.ops.workspace import Workspace, to_batch_last


def softmax_cross_entropy(
    xp: ArrayModule, logits: Array, targets: Array, normalizer: Array | float
) -> tuple[Array, Array, Array]:
    """See :func:`xpcnn.ops.cross_entropy.softmax_cross_entropy`."""
    n, classes = logits.shape
    workspace = Workspace(xp)
    logits, targets = to_batch_last(logits, workspace), xp.ascontiguousarray(targets)
    divisor = xp.full((), normalizer, logits.dtype) if isinstance(normalizer, float) else normalizer
    value, gradient, probabilities = xp.empty((), logits.dtype), workspace.like(logits), workspace.like(logits)
    images = min(128, ceil_divide(n, 32) * 32)
    kernel(xp, "cross_entropy", "softmax_cross_entropy", logits.dtype)(
        (1,), (images, 8), logits, targets, divisor, value, gradient, probabilities, n, classes
    )
    return value, gradient, probabilities
