"""Softmax and cross-entropy fused, from logits."""

from __future__ import annotations

from xpcnn.backend import Array, ArrayModule
from xpcnn.ops.dispatch import with_kernels


@with_kernels("cuda", "cpu")
def softmax_cross_entropy(
    xp: ArrayModule, logits: Array, targets: Array, normalizer: Array | float
) -> tuple[Array, Array, Array]:
    """Return -Σ targets log softmax(logits) / normalizer, its gradient, and the probabilities.

    logits, targets: (n, classes). The gradient with respect to the logits is p Σₖ tₖ - t, t the targets of an image
    (Bishop, "Pattern recognition and machine learning", 2006, eq. 4.109).
    """
    shifted = logits - logits.max(axis=1, keepdims=True)
    probabilities = xp.exp(shifted)
    total = probabilities.sum(axis=1, keepdims=True)
    probabilities /= total
    value = xp.asarray((targets * (shifted - xp.log(total))).sum() / -normalizer)
    gradient = (probabilities * targets.sum(axis=1, keepdims=True) - targets) / normalizer
    return value, gradient, probabilities
