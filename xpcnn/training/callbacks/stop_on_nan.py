"""Locates NaN and infinite values: the step, the layer and the likely cause."""

from __future__ import annotations

import math

import numpy as np

from xpcnn.backend import Array, to_host
from xpcnn.layers import Context
from xpcnn.ops.workspace import Workspace
from xpcnn.program.execute import activations
from xpcnn.registry import check_int
from xpcnn.training.callbacks.base import Callback
from xpcnn.training.engine.base import Failure, StepResult
from xpcnn.training.fit import Fit

#: Images with larger values are the likely cause of an overflow.
EXTREME = 1e6
#: In float16, these already.
LARGEST_FLOAT16 = 65504


class StopOnNaN(Callback):
    """Raise FloatingPointError if the loss or gradient is NaN or infinite, before the weights are updated.

    In float16, a gradient that is not finite halves the loss scale, and is an error only once that is 1.
    The message names the step, the likely cause, and the first layer whose output, recomputed in prediction mode, or
    the last layer whose gradient is not finite. A device is checked only every ``steps`` steps and at the
    end of an epoch, to avoid waiting for it; it stops updating the weights itself at the failing step.
    """

    guards = True

    def __init__(self, steps: int = 50) -> None:
        self.steps = check_int("steps", steps, 1)

    @property
    def looks_at_gradients(self) -> bool:
        """False, unless a subclass overrides ``on_gradient``: a device checks its gradients itself."""
        return type(self).on_gradient is not StopOnNaN.on_gradient

    def on_gradient(self, fit: Fit, result: StepResult) -> None:
        """Check the loss and the sum of the gradient."""
        scale = fit.optimizer.loss_scale
        skips = scale is not None and not to_host(scale.is_lowest())
        if not math.isfinite(float(result.loss if skips else result.loss + result.gradient.sum())):
            raise not_finite(fit, Failure(fit.step, float(result.loss), fit.batch[0], result.gradient))

    def on_step_end(self, fit: Fit) -> None:
        """Check whether a step on a device has failed."""
        failure = fit.failure() if fit.ends_epoch or fit.step % self.steps == 0 else None
        if failure is not None:
            raise not_finite(fit, failure)

    def on_epoch_end(self, fit: Fit) -> None:
        """Check the weights, since no later step may follow."""
        if not are_finite(fit.network.parameters):
            raise FloatingPointError(
                f"Epoch {fit.epoch}: the weights are not finite after its last update. Likely cause: a learning "
                f"rate of {fit.optimizer.rate:g}. Use a smaller learning rate, or clip_norm."
            )


def not_finite(fit: Fit, failure: Failure) -> FloatingPointError:
    """Return the error that names the failed step and the array that is not finite."""
    xp = fit.network.xp
    outputs = activations(fit.network, xp.asarray(failure.x), Context(Workspace(xp)))
    storage = fit.network.storage()
    guilty = next((name for name, y in outputs.items() if not _finite_as_stored(y, storage[name])), None)
    what = f"the output of {guilty!r}" if guilty else "the loss"
    if guilty is None and math.isfinite(failure.loss):
        views = fit.network.layout.views(failure.gradient)
        wrong = [name for name, gradient in views.items() if not are_finite(gradient)]
        what = f"the gradient of {wrong[-1]!r}" if wrong else "the gradient's sum"
    reach, scale, scaled = float(np.abs(failure.x).max()), fit.optimizer.loss_scale, ""
    cause = f"a learning rate of {fit.optimizer.rate:g}. Use a smaller learning rate, or clip_norm."
    if scale is not None:
        scaled = f" with a loss scale of {scale.numbers()['scale']:g}"
        cause = (
            f"values beyond {LARGEST_FLOAT16:,}, the largest of float16, or a learning rate of {fit.optimizer.rate:g}. "
            "Use the precision 'bfloat16', or a smaller learning rate."
        )
    if reach > (EXTREME if scale is None else LARGEST_FLOAT16):
        cause = f"pixel values of up to {reach:g}. Scale images to about 0 to 1."
    return FloatingPointError(
        f"Step {failure.step + 1}, epoch {fit.epoch + 1}: {what} is not finite{scaled}; loss {failure.loss:g}. "
        f"The weights are those before this step. Likely cause: {cause}"
    )


def _finite_as_stored(y: Array, storage: str) -> bool:
    with np.errstate(over="ignore"):
        return are_finite(to_host(y).astype(np.float16) if storage == "float16" else y)


def are_finite(array: Array) -> bool:
    """Whether all values of an array, on any backend, are finite."""
    return bool(np.isfinite(to_host(array)).all())
