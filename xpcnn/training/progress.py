"""The progress bar of an epoch."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Never

import numpy as np

from xpcnn.training.engine.base import StepEngine
from xpcnn.training.fit import Fit

if TYPE_CHECKING:
    from tqdm import tqdm


#: Seconds between two updates of the figures, each of which waits for the device.
_INTERVAL = 1.0
#: Seconds until the first update.
_FIRST = 0.2
_FORMAT = "{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}, {rate_fmt}{postfix}"


class Progress:
    """One bar per epoch, on stderr if it is a terminal: images per second, figures so far, time left for the fit."""

    def __init__(self, fit: Fit, shown: bool) -> None:
        self._fit = fit
        self._hidden = None if shown else True
        self._begun = time.perf_counter()
        self._images = 0

    @contextmanager
    def epoch(self, engine: StepEngine, done: int) -> Iterator[None]:
        """Show the bar of an epoch; ``done``: images already processed."""
        from tqdm import tqdm

        self._engine, self._look = engine, time.perf_counter() + _FIRST
        with tqdm(
            desc=f"epoch {self._fit.epoch + 1}/{self._fit.epochs}",
            initial=done,
            total=len(engine.order),
            disable=self._hidden,
            leave=False,
            unit=" images",
            bar_format=_FORMAT,
        ) as bar:
            self._bar: tqdm[Never] = bar
            yield

    def step(self, images: int) -> None:
        """Advance by one step."""
        self._images += images
        if self._bar.disable:
            return
        now = time.perf_counter()
        if now >= self._look:
            self._bar.set_postfix_str(self._figures(now), refresh=False)
            self._look = now + _INTERVAL
        self._bar.update(images)

    def _figures(self, now: float) -> str:
        losses, weights, sums = self._engine.figures()
        shown = [f"loss {np.average(losses, weights=weights):.4g}"] if sum(weights) else []
        for metric, total in zip(self._fit.metrics, sums, strict=True):
            value = metric.result(total)
            if np.ndim(value) == 0:
                shown.append(f"{metric.name} {value:.4g}")
        later = (self._fit.epochs - self._fit.epoch) * len(self._engine.order) - self._bar.n
        left = (now - self._begun) * later / self._images
        return f"{'  '.join(shown)}  {self._bar.format_interval(left)} left"
