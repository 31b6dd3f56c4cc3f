"""How the scale of a loss in float16 follows the gradients."""

from __future__ import annotations

from xpcnn.backend import Array, ArrayModule
from xpcnn.ops.dispatch import with_kernels

#: The steps with finite gradients after which the scale doubles, as in PyTorch's GradScaler.
GROWTH_INTERVAL = 2000
#: The largest power of 2 in float32.
LARGEST = 2.0**127


@with_kernels("cuda")
def update_scale(
    xp: ArrayModule, scale: Array, finite_steps: Array, skipped: Array, finite: Array, failed: Array
) -> None:
    """Update the scale and its counts in place, unless ``failed``; all are arrays (1,).

    finite: whether the gradient of this step was; if not, the scale halves, but not below 1.
    """
    steps, moves = finite_steps + 1, ~failed
    doubles = finite & (steps == GROWTH_INTERVAL)
    doubled = xp.where(doubles, xp.minimum(scale, LARGEST / 2) * 2, scale)
    xp.copyto(scale, xp.where(finite, doubled, xp.maximum(scale / 2, 1)), where=moves)
    xp.copyto(finite_steps, steps * (finite & ~doubles), where=moves)
    xp.copyto(skipped, skipped + ~finite, where=moves)
