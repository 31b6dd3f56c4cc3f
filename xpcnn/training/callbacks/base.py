"""The base of all callbacks, which act between the steps of a fit."""

from __future__ import annotations

from typing import Any

from xpcnn.training.engine.base import StepResult
from xpcnn.training.fit import Fit


class Callback:
    """Base of all callbacks: overwrite what you need. ``fit`` knows epoch, step, logs, history, network and model.

    A step is: gradient, ``on_gradient``, update, ``on_step_end``. ``fit.stop(reason)`` ends the fit after the step.

    >>> class Print(Callback):
    ...     def on_epoch_end(self, fit):
    ...         print(fit.epoch, fit.logs["loss"])
    """

    #: Whether this writes or shows something, which of the processes of a distributed fit the first alone does.
    writes = False
    #: Whether this saves the fit itself: it comes last, since it keeps what all the others know.
    saves_fit = False
    #: Whether this ends a fit whose numbers are not finite, which a device then looks for by itself.
    guards = False

    def on_fit_begin(self, fit: Fit) -> None:
        """Run before the first epoch."""

    def on_epoch_begin(self, fit: Fit) -> None:
        """Run before each epoch."""

    def on_gradient(self, fit: Fit, result: StepResult) -> None:
        """Run when the gradient is known and before the weights change; ``result``: loss and flat gradient."""

    def on_step_end(self, fit: Fit) -> None:
        """Run after each update."""

    def on_epoch_end(self, fit: Fit) -> None:
        """Run after each epoch, when ``fit.logs`` is complete."""

    def on_stop(self, fit: Fit) -> None:
        """Run after the last step, before anything is released; not if an error ended the fit."""

    def on_fit_end(self, fit: Fit) -> None:
        """Run at the end, however the fit ended."""

    @property
    def looks_at_gradients(self) -> bool:
        """Whether this needs every gradient, for which the host waits for the device."""
        return type(self).on_gradient is not Callback.on_gradient

    @property
    def has_state(self) -> bool:
        """Whether a checkpoint keeps something of this callback."""
        return type(self).state is not Callback.state

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps of this callback: arrays, and what JSON can hold; nothing by default."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state` gave, after ``on_fit_begin`` of a fit that is resumed."""
