"""Dynamic loss scaling: a factor that keeps the gradients of a loss within the range of float16."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from xpcnn.backend import Array, ArrayModule, to_host
from xpcnn.ops.loss_scale import GROWTH_INTERVAL, LARGEST, update_scale
from xpcnn.registry import check_float, check_int

#: The first scale, as in PyTorch's GradScaler.
START = 65536.0
_MOST = np.iinfo(np.int32).max


class LossScale:
    """The factor by which a loss's gradient is multiplied, and by which the gradients of weights are divided again.

    A step whose gradient is not finite is skipped, and halves it; 2000 steps without one double it. All numbers are on
    the device, arrays of one element, so that they change within a captured step. Micikevicius et al., "Mixed precision
    training", ICLR 2018, section 3.2, with the numbers of PyTorch's GradScaler.

    scale: a power of 2, at least 1. finite_steps: those since it last changed. skipped: the steps skipped so far.
    """

    def __init__(self, xp: ArrayModule, scale: float = START, finite_steps: int = 0, skipped: int = 0) -> None:
        self.scale = xp.zeros(1, dtype=np.float32)
        self.finite_steps, self.skipped = xp.zeros(1, dtype=np.int32), xp.zeros(1, dtype=np.int32)
        self._never = xp.zeros(1, dtype=bool)
        self.load(scale, finite_steps, skipped)

    def load(self, scale: float = START, finite_steps: int = 0, skipped: int = 0) -> None:
        """Write the numbers, in place; raise ValueError for impossible ones."""
        scale = check_float("The loss scale", scale, f"[1, {LARGEST}]")
        if math.frexp(scale)[0] != 0.5:
            raise ValueError(f"The loss scale must be a power of 2. Received: {scale!r}.")
        counts = check_int("finite_steps", finite_steps), check_int("skipped", skipped)
        if counts[0] >= GROWTH_INTERVAL or counts[1] > _MOST:
            raise ValueError(f"The counts of the loss scale are impossible. Received: {counts}.")
        for array, number in zip((self.scale, self.finite_steps, self.skipped), (scale, *counts), strict=True):
            array.fill(number)

    def numbers(self) -> dict[str, Any]:
        """Return the arguments that make the same one, on the host; waits for the device."""
        arrays = {"scale": self.scale, "finite_steps": self.finite_steps, "skipped": self.skipped}
        return {name: to_host(array)[0].item() for name, array in arrays.items()}

    def unscale(self, xp: ArrayModule, gradient: Array) -> Array:
        """Divide a flat gradient by the scale, in place, and return whether its sum is finite, a bool (1,)."""
        gradient /= self.scale
        return xp.isfinite(gradient.sum(keepdims=True))

    def is_lowest(self) -> Array:
        """Return whether the scale is 1, a bool (1,): what overflows then does so by itself."""
        return self.scale <= 1

    def update(self, xp: ArrayModule, finite: Array, failed: Array | None = None) -> None:
        """Count a step whose gradient was finite, or not, and change the scale; not once the fit has ``failed``."""
        failed = self._never if failed is None else failed
        update_scale(xp, self.scale, self.finite_steps, self.skipped, finite, failed)
