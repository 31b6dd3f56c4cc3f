"""Averaged weights, which often generalise better than those of the last step."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpcnn.backend import Array, to_device, to_host
from xpcnn.registry import check_float, check_int
from xpcnn.training.callbacks.base import Callback
from xpcnn.training.fit import Fit


class AveragedWeights(Callback):
    """Evaluate, save and keep a moving average of the weights instead of the weights themselves.

    decay: in (0, 1); the average spans about 1 / (1 - decay) steps, fewer at the beginning. From the last step of each
    epoch until the next epoch begins, the network holds the average, including running statistics, and so it does after
    the fit.
    Polyak and Juditsky, "Acceleration of stochastic approximation by averaging", 1992; as an exponential average in
    Tarvainen and Valpola, "Mean teachers are better role models", 2017.

    >>> average = AveragedWeights(0.99)
    """

    def __init__(self, decay: float = 0.998) -> None:
        self.decay = check_float("decay", decay, "(0, 1)")
        #: What the network does not hold at the moment: averaged or current parameters and buffers.
        self._others: list[Array] = []
        self._averaged = False

    def on_fit_begin(self, fit: Fit) -> None:
        """Start the average from the current weights."""
        self._others = [fit.network.parameters.copy(), fit.network.buffers.copy()]
        self._averaged, self._updates, self._xp = False, 0, fit.network.xp

    def on_epoch_begin(self, fit: Fit) -> None:
        """Continue training from the current weights, not from the average."""
        if self._averaged:
            self._exchange(fit)

    def on_step_end(self, fit: Fit) -> None:
        """Update the average, and swap it into the network at the end of an epoch."""
        self._updates += 1
        share = 1 - min(self.decay, self._updates / (self._updates + 9))  # the same warm-up as in TensorFlow
        for average, now in zip(self._others, (fit.network.parameters, fit.network.buffers), strict=True):
            average += share * (now - average)
        if fit.ends_epoch:
            self._exchange(fit)

    def on_fit_end(self, fit: Fit) -> None:
        """Leave the average in the model."""
        if self._others and not self._averaged:
            self._exchange(fit)
        self._others = []

    def state(self) -> dict[str, Any]:
        """Return what the network does not hold at the moment: the average, or the current weights."""
        parameters, buffers = map(to_host, self._others)
        return {
            "averaged": self._averaged, "updates": self._updates, "parameters": parameters, "buffers": buffers,
        }  # fmt: skip

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore the average so far."""
        self._averaged, self._updates = bool(state["averaged"]), check_int("updates", state["updates"])
        for array, kept in zip(self._others, (state["parameters"], state["buffers"]), strict=True):
            if np.shape(kept) != array.shape:
                raise ValueError(f"the average has shape {np.shape(kept)}, but the weights have {array.shape}")
            array[...] = to_device(self._xp, kept)

    def _exchange(self, fit: Fit) -> None:
        for other, held in zip(self._others, (fit.network.parameters, fit.network.buffers), strict=True):
            kept = held.copy()
            held[...] = other
            other[...] = kept
        self._averaged = not self._averaged
