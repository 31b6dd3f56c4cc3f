"""The scale of a loss in float16, changed in one kernel."""

from __future__ import annotations

from xpcnn.backend import Array, ArrayModule
from xpcnn.ops.cuda.compiler import kernel
from xpcnn.ops.loss_scale import GROWTH_INTERVAL, LARGEST


def update_scale(
    xp: ArrayModule, scale: Array, finite_steps: Array, skipped: Array, finite: Array, failed: Array
) -> None:
    """See :func:`xpcnn.ops.loss_scale.update_scale`."""
    kernel(xp, "loss_scale", "update_scale", scale.dtype, PERIOD=GROWTH_INTERVAL)(
        (1,), (1,), scale, finite_steps, skipped, finite, failed, LARGEST
    )
