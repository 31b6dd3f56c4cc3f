"""Learning-rate schedules; a step counts the optimiser's updates from 0."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from xpcnn.registry import Named, Number, Registry, check_float, check_int


class Schedule(Named):
    """Base class of schedules: ``schedule(step)`` is the learning rate of that update, a Python float."""

    def __call__(self, step: int) -> float:
        """Return the learning rate of update ``step``, counted from 0."""
        return float(self._rate(step))

    def _rate(self, step: int) -> float:
        """Return the rate; to be implemented by subclasses."""
        raise NotImplementedError


class Constant(Schedule):
    """A constant rate."""

    def __init__(self, rate: float) -> None:
        self.rate = check_float("rate", rate, "[0, inf)")

    def _rate(self, step: int) -> float:
        return self.rate


class StepDecay(Schedule):
    """Multiply the rate by ``factor`` after every ``every`` updates: rate factor^floor(step / every).

    >>> [StepDecay(1.0, every=2, factor=0.5)(step) for step in range(5)]
    [1.0, 1.0, 0.5, 0.5, 0.25]
    """

    def __init__(self, rate: float, every: int, factor: float) -> None:
        self.rate = check_float("rate", rate, "[0, inf)")
        self.every = check_int("every", every, 1)
        self.factor = check_float("factor", factor, "(0, 1]")

    def _rate(self, step: int) -> float:
        return self.rate * self.factor ** (step // self.every)


class Exponential(Schedule):
    """Decay smoothly by ``factor`` over every ``every`` updates: rate factor^(step / every)."""

    def __init__(self, rate: float, factor: float, every: int = 1) -> None:
        self.rate = check_float("rate", rate, "[0, inf)")
        self.factor = check_float("factor", factor, "(0, 1]")
        self.every = check_int("every", every, 1)

    def _rate(self, step: int) -> float:
        return float(self.rate * self.factor ** (step / self.every))


def _cosine(start: float, end: float, part: float) -> float:
    """Interpolate from ``start`` (part 0) to ``end`` (part 1) along half a cosine."""
    return end + (start - end) * (1 + math.cos(math.pi * part)) / 2


class Cosine(Schedule):
    """Half a cosine from ``rate`` to ``final`` over ``steps`` updates, then ``final``.

    Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts", ICLR 2017, eq. 5, one
    period.

    >>> [round(Cosine(1.0, steps=4)(step), 3) for step in range(6)]
    [1.0, 0.854, 0.5, 0.146, 0.0, 0.0]
    """

    def __init__(self, rate: float, steps: int, final: float = 0.0) -> None:
        self.rate = check_float("rate", rate, "[0, inf)")
        self.steps = check_int("steps", steps, 1)
        self.final = check_float("final", final, "[0, inf)")

    def _rate(self, step: int) -> float:
        return _cosine(self.rate, self.final, min(step, self.steps) / self.steps)


class WarmUp(Schedule):
    """Warm up linearly from rate / steps to the rate in ``steps`` updates, then follow ``schedule`` from its start.

    The rate is the schedule's first; a number stands for a constant schedule. Its steps do not include the warm-up.
    Goyal et al., "Accurate, large minibatch SGD", 2017, section 2.2.

    >>> [round(WarmUp(0.3, steps=3)(step), 3) for step in range(5)]
    [0.1, 0.2, 0.3, 0.3, 0.3]
    """

    def __init__(self, schedule: Schedule | float | Mapping[str, Any], steps: int) -> None:
        self.schedule = get(schedule)
        self.steps = check_int("steps", steps, 1)

    def _rate(self, step: int) -> float:
        if step < self.steps:
            return self.schedule(0) * (step + 1) / self.steps
        return self.schedule(step - self.steps)


class OneCycle(Schedule):
    """Rise from a start of peak / start_divisor to ``peak``, then fall to start / final_divisor, in ``steps`` updates.

    Both follow half a cosine; the peak is after ``warm_fraction`` of the updates, and the last rate is kept afterwards.
    Smith and Topin, "Super-convergence", 2018, with the cosine and the last update at steps - 1, as in PyTorch; the
    momentum does not change.
    """

    def __init__(
        self,
        peak: float,
        steps: int,
        warm_fraction: float = 0.3,
        start_divisor: float = 25.0,
        final_divisor: float = 1e4,
    ) -> None:
        self.peak = check_float("peak", peak, "[0, inf)")
        self.steps = check_int("steps", steps, 2)
        self.warm_fraction = check_float("warm_fraction", warm_fraction, "[0, 1)")
        self.start_divisor = check_float("start_divisor", start_divisor, "[1, inf)")
        self.final_divisor = check_float("final_divisor", final_divisor, "[1, inf)")

    def _rate(self, step: int) -> float:
        start, last = self.peak / self.start_divisor, self.steps - 1
        turn = max(self.warm_fraction * self.steps - 1, 0.0)
        if step < turn:
            return _cosine(start, self.peak, step / turn)
        return _cosine(self.peak, start / self.final_divisor, (min(step, last) - turn) / (last - turn))


_REGISTRY = Registry("schedule", Schedule, [Constant, StepDecay, Exponential, Cosine, WarmUp, OneCycle])


def get(schedule: Schedule | float | Mapping[str, Any]) -> Schedule:
    """Return the schedule for an object, a configuration or a number, which stands for a constant rate.

    Raises ValueError for unknown names and invalid arguments, and TypeError for anything else.
    """
    return Constant(schedule) if isinstance(schedule, Number) else _REGISTRY.get(schedule)


if not TYPE_CHECKING:  # type checkers know which names are missing

    def __getattr__(name):
        raise _REGISTRY.no_attribute(__name__, name)
