"""The base class of all callbacks, which act between the steps of a fit."""

from __future__ import annotations

from typing import Any

from xpcnn.training.engine.base import StepResult
from xpcnn.training.fit import Fit


class Callback:
    """Base class of all callbacks: override the methods you need.

    ``fit`` provides epoch, step, logs, history, network and model. A step consists of gradient, ``on_gradient``, update
    and ``on_step_end``. ``fit.stop(reason)`` ends the fit after the current step.

    >>> class Print(Callback):
    ...     def on_epoch_end(self, fit):
    ...         print(fit.epoch, fit.logs["loss"])
    """

    #: Whether this writes or displays something; in a distributed fit, only rank 0 runs such callbacks.
    writes = False
    #: Whether this saves the fit itself; it runs last, since it stores the state of all others.
    saves_fit = False
    #: Whether this ends a fit with NaN or infinite values; a device then checks for them itself.
    guards = False

    def on_fit_begin(self, fit: Fit) -> None:
        """Run before the first epoch."""

    def on_epoch_begin(self, fit: Fit) -> None:
        """Run before each epoch."""

    def on_gradient(self, fit: Fit, result: StepResult) -> None:
        """Run after the gradient is computed, before the weights are updated; ``result``: loss and flat gradient."""

    def on_step_end(self, fit: Fit) -> None:
        """Run after each update."""

    def on_epoch_end(self, fit: Fit) -> None:
        """Run after each epoch, when ``fit.logs`` is complete."""

    def on_stop(self, fit: Fit) -> None:
        """Run after the last step, before anything is released; not if an error ended the fit."""

    def on_fit_end(self, fit: Fit) -> None:
        """Run at the end of the fit, even after an error."""

    @property
    def looks_at_gradients(self) -> bool:
        """Whether this needs every gradient, which makes the host wait for the device."""
        return type(self).on_gradient is not Callback.on_gradient

    @property
    def has_state(self) -> bool:
        """Whether this callback has a state to store in a checkpoint."""
        return type(self).state is not Callback.state

    def state(self) -> dict[str, Any]:
        """Return the state to store in a checkpoint: arrays and JSON-serialisable values; empty by default."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state` returned; called after ``on_fit_begin`` when a fit is resumed."""
