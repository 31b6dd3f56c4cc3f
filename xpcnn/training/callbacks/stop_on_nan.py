"""Numbers that go wrong: which step, which layer, and why."""

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

#: Images with larger values are the likely cause of numbers that overflow.
EXTREME = 1e6


class StopOnNaN(Callback):
    """Raise FloatingPointError where loss or gradient is NaN or infinite, before the weights are changed.

    The message names the step, the first layer whose output, computed again as in prediction, or the last whose
    gradient is not finite, and the likely cause. A device, which is not waited for, is asked every ``steps`` steps and
    when an epoch ends; it changes no weights from that step on.
    """

    guards = True

    def __init__(self, steps: int = 50) -> None:
        self.steps = check_int("steps", steps, 1)

    @property
    def looks_at_gradients(self) -> bool:
        """No: a device looks at them by itself."""
        return type(self).on_gradient is not StopOnNaN.on_gradient

    def on_gradient(self, fit: Fit, result: StepResult) -> None:
        """Look at the loss and at the sum of the gradient, one number each."""
        if not math.isfinite(float(result.loss + result.gradient.sum())):
            raise not_finite(fit, Failure(fit.step, float(result.loss), fit.batch[0], result.gradient))

    def on_step_end(self, fit: Fit) -> None:
        """Ask a device whether a step has failed."""
        failure = fit.failure() if fit.ends_epoch or fit.step % self.steps == 0 else None
        if failure is not None:
            raise not_finite(fit, failure)

    def on_epoch_end(self, fit: Fit) -> None:
        """Look at the weights, which no later step may look at."""
        if not are_finite(fit.network.parameters):
            raise FloatingPointError(
                f"Epoch {fit.epoch}: the weights are not finite after its last update. The likely cause: a learning "
                f"rate of {fit.optimizer.rate:g}. Use a smaller learning rate, or clip_norm."
            )


def not_finite(fit: Fit, failure: Failure) -> FloatingPointError:
    """Return the error that says which step failed and what in it was not finite."""
    xp = fit.network.xp
    outputs = activations(fit.network, xp.asarray(failure.x), Context(Workspace(xp)))
    guilty = next((name for name, y in outputs.items() if not are_finite(y)), None)
    what = f"the output of {guilty!r}" if guilty else "the loss"
    if guilty is None and math.isfinite(failure.loss):
        views = fit.network.layout.views(failure.gradient)
        wrong = [name for name, gradient in views.items() if not are_finite(gradient)]
        what = f"the gradient of {wrong[-1]!r}" if wrong else "the gradient's sum"
    reach = float(np.abs(failure.x).max())
    cause = (
        f"images that reach {reach:g}. Bring them to about 0 to 1."
        if reach > EXTREME
        else f"a learning rate of {fit.optimizer.rate:g}. Use a smaller learning rate, or clip_norm."
    )
    return FloatingPointError(
        f"Step {failure.step + 1}, epoch {fit.epoch + 1}: {what} is not finite; loss {failure.loss:g}. "
        f"The weights are those before this step. The likely cause: {cause}"
    )


def are_finite(array: Array) -> bool:
    """Whether all numbers of an array of any backend are finite."""
    return bool(np.isfinite(to_host(array)).all())
