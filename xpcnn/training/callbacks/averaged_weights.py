"""Averages of the weights, which are often better than the weights."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpcnn.backend import Array, to_device, to_host
from xpcnn.registry import check_float, check_int
from xpcnn.training.callbacks.base import Callback
from xpcnn.training.fit import Fit


class AveragedWeights(Callback):
    """Measure, save and keep an average of the weights over the latest steps in place of the weights themselves.

    decay: in (0, 1); the average remembers about 1 / (1 - decay) steps, fewer at the beginning. After each epoch's last
    step the network holds the average, running statistics too, until the next epoch begins; so it does at the end.
    Polyak and Juditsky, "Acceleration of stochastic approximation by averaging", 1992; as an exponential average in
    Tarvainen and Valpola, "Mean teachers are better role models", 2017.

    >>> average = AveragedWeights(0.99)
    """

    def __init__(self, decay: float = 0.998) -> None:
        self.decay = check_float("decay", decay, "(0, 1)")
        #: What the network does not hold: the averages of parameters and buffers, or these themselves.
        self._others: list[Array] = []
        self._averaged = False

    def on_fit_begin(self, fit: Fit) -> None:
        """Begin with the weights as they are."""
        self._others = [fit.network.parameters.copy(), fit.network.buffers.copy()]
        self._averaged, self._updates, self._xp = False, 0, fit.network.xp

    def on_epoch_begin(self, fit: Fit) -> None:
        """Go on from the weights themselves."""
        if self._averaged:
            self._exchange(fit)

    def on_step_end(self, fit: Fit) -> None:
        """Take the step into the average, and let the network hold that when the epoch has ended."""
        self._updates += 1
        share = 1 - min(self.decay, self._updates / (self._updates + 9))  # as TensorFlow has it at the beginning
        for average, now in zip(self._others, (fit.network.parameters, fit.network.buffers), strict=True):
            average += share * (now - average)
        if fit.ends_epoch:
            self._exchange(fit)

    def on_fit_end(self, fit: Fit) -> None:
        """Leave the average to the model."""
        if self._others and not self._averaged:
            self._exchange(fit)
        self._others = []

    def state(self) -> dict[str, Any]:
        """Return what the network does not hold at the moment: the average, or the weights themselves."""
        parameters, buffers = map(to_host, self._others)
        return {
            "averaged": self._averaged, "updates": self._updates, "parameters": parameters, "buffers": buffers,
        }  # fmt: skip

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from the average so far."""
        self._averaged, self._updates = bool(state["averaged"]), check_int("updates", state["updates"])
        for array, kept in zip(self._others, (state["parameters"], state["buffers"]), strict=True):
            if np.shape(kept) != array.shape:
                raise ValueError(f"an average of {np.shape(kept)} numbers, for {array.shape}")
            array[...] = to_device(self._xp, kept)

    def _exchange(self, fit: Fit) -> None:
        for other, held in zip(self._others, (fit.network.parameters, fit.network.buffers), strict=True):
            kept = held.copy()
            held[...] = other
            other[...] = kept
        self._averaged = not self._averaged
