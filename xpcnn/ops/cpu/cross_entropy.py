"""Softmax and cross-entropy in two kernels, with NumPy's exponential between them: it computes whole vectors."""

from __future__ import annotations

import math
from typing import Any

from xpcnn.backend import Array, ArrayModule
from xpcnn.ops.cpu.compiler import kernel
from xpcnn.recording import watched


def softmax_cross_entropy(
    xp: ArrayModule, logits: Array, targets: Array, normalizer: Array | float
) -> tuple[Array, Array, Array]:
    """As :func:`xpcnn.ops.cross_entropy.softmax_cross_entropy`."""
    logits, targets = (x if x.flags.c_contiguous else x.copy() for x in (logits, targets))
    value, gradient, probabilities = (watched(xp.empty(shape, logits.dtype)) for shape in ((), *[logits.shape] * 2))
    shifted = gradient  # the second kernel reads each number before it writes there
    _shift(logits, shifted)
    xp.exp(shifted, out=probabilities)
    _finish(shifted, targets, xp.asarray(normalizer), value, gradient, probabilities)
    return value, gradient, probabilities


@kernel
def _shift(logits: Any, shifted: Any) -> None:
    for image in range(len(logits)):
        row, out = logits[image], shifted[image]
        largest = row[0]
        for k in range(len(row)):
            largest = max(largest, row[k])
        for k in range(len(row)):
            out[k] = row[k] - largest


@kernel
def _finish(shifted: Any, targets: Any, normalizer: Any, value: Any, gradient: Any, probabilities: Any) -> None:
    number = shifted.dtype.type
    value_sum, divisor = 0.0, number(normalizer[()])
    for image in range(len(shifted)):
        row, target, p, dy = shifted[image], targets[image], probabilities[image], gradient[image]
        total, weight = 0.0, 0.0
        for k in range(len(row)):
            total += p[k]
            weight += target[k]
        logarithm, scale, share = math.log(total), number(1.0 / total), number(weight)
        for k in range(len(row)):
            value_sum += target[k] * (row[k] - logarithm)
            p[k] *= scale
            dy[k] = (p[k] * share - target[k]) / divisor
    value[()] = value_sum / -normalizer[()]
