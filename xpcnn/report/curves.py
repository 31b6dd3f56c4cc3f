"""Curves as SVG drawings that take their colours from the page."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from xpcnn.report.page import text

#: The most points of a curve to draw; of longer ones, only every n-th.
MOST_POINTS = 400
_WIDTH, _HEIGHT = 420, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 46, 38


def curve(title: str, epochs: Sequence[int], lines: Mapping[str, Sequence[float]], best: int | None = None) -> str:
    """Draw quantities by epoch: lines, {"training": […], "validation": […]}, one value per epoch; best: epoch to mark.

    NaN and infinite values are left out.
    """
    plot, frame = _by_epoch(title, epochs, lines.values())
    drawn = [frame]
    if best is not None and epochs[0] <= best <= epochs[-1]:
        x = plot.x(best)
        drawn.append(f'<line class="best" x1="{x}" x2="{x}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"/>')
        drawn.append(_legend(len(lines), "best", f"best epoch {best}"))
    for place, (kind, line) in enumerate(lines.items()):
        drawn += [plot.line(kind, epochs, line), _legend(place, kind, kind)]
    return _svg(f"{title} by epoch", drawn)


def compared(title: str, lines: Mapping[str, tuple[Sequence[int], Sequence[float]]]) -> str:
    """Draw one quantity of several runs: epochs and values by the class of the line, such as "run run-1"."""
    epochs = sorted({epoch for numbers, _ in lines.values() for epoch in numbers})
    plot, frame = _by_epoch(title, epochs, [values for _, values in lines.values()])
    return _svg(f"{title} by epoch", [frame, *(plot.line(kind, *line) for kind, line in lines.items())])


def by_trial(reached: Mapping[int, float], metric: str) -> str:
    """Draw the validation accuracy, or another metric, of each trial, by its number, and the best one so far."""
    numbers = sorted(reached)
    values = [reached[number] for number in numbers]
    plot, frame = _by_epoch(f"validation {metric}", numbers, [values], "trial")
    drawn = [frame, plot.line("training", numbers, [*accumulate(values, max)])]
    drawn += [
        f'<circle class="validation" cx="{plot.x(number)}" cy="{plot.y(value)}" r="3.5"/>'
        for number, value in zip(numbers, values, strict=True)
    ]
    return _svg(f"validation {metric} by trial", drawn)


def reliability(confidence: Any, right: Any, bins: int = 10) -> str:
    """Draw a reliability diagram: how often predictions of a certain probability are right, in ``bins`` of equal width.

    confidence: (n,) the largest probability of each image. right: (n,) whether the prediction was right.
    """
    confidence, right = np.asarray(confidence, dtype=np.float64), np.asarray(right, dtype=bool)
    plot = _Plot((0, 1), [0, 0.2, 0.4, 0.6, 0.8, 1])
    drawn = [plot.frame("fraction that is right", [0, 0.2, 0.4, 0.6, 0.8, 1], "predicted probability")]
    numbers = np.clip((confidence * bins).astype(int), 0, bins - 1)
    for number in range(bins):
        inside = numbers == number
        count = int(inside.sum())
        if count:
            left, width = plot.x(number / bins), plot.x((number + 1) / bins) - plot.x(number / bins)
            top, bottom = plot.y(float(right[inside].mean())), plot.y(0)
            drawn.append(
                f'<rect class="training" x="{left + 1:.1f}" y="{top}" width="{width - 2:.1f}" '
                f'height="{bottom - top:.1f}"/>'
                f'<text x="{left + width / 2:.1f}" y="{top - 4:.1f}" text-anchor="middle">{count}</text>'
            )
    drawn.append(f'<line class="best" x1="{plot.x(0)}" y1="{plot.y(0)}" x2="{plot.x(1)}" y2="{plot.y(1)}"/>')
    return _svg("fraction of right predictions by probability", drawn)


def _by_epoch(
    title: str, epochs: Sequence[int], lines: Iterable[Sequence[float]], below: str = "epoch"
) -> tuple[_Plot, str]:
    """Return a plot in which the finite values of some lines have room, and its frame."""
    finite = [value for line in lines for value in line if math.isfinite(value)] or [0.0]
    around = 0.5 if len(epochs) == 1 else 0.0
    plot = _Plot((epochs[0] - around, epochs[-1] + around), _ticks(min(finite), max(finite)))
    return plot, plot.frame(title, _whole_ticks(epochs[0], epochs[-1]), below)


def _legend(place: int, kind: str, title: str) -> str:
    """Return a legend's line and its label."""
    x = _LEFT + 118 * place
    return f'<line class="{kind}" x1="{x}" x2="{x + 24}" y1="31" y2="31"/><text x="{x + 30}" y="35">{title}</text>'


class _Plot:
    """A rectangle with two axes."""

    def __init__(self, xs: tuple[float, float], ticks: list[float]) -> None:
        self.xs, self.ticks = xs, ticks

    def x(self, value: float) -> float:
        low, high = self.xs
        return round(_LEFT + (value - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT), 1)

    def y(self, value: float) -> float:
        low, high = self.ticks[0], self.ticks[-1]
        return round(_HEIGHT - _BOTTOM - (value - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM), 1)

    def frame(self, title: str, places: list[float], below: str) -> str:
        """Return the title, grid lines, and tick labels of both axes."""
        drawn = [f'<text class="heading" x="{_LEFT}" y="14">{text(title)}</text>']
        for tick in self.ticks:
            y = self.y(tick)
            drawn.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>')
            drawn.append(f'<text x="{_LEFT - 7}" y="{y + 4}" text-anchor="end">{tick:g}</text>')
        for place in places:
            drawn.append(f'<text x="{self.x(place)}" y="{_HEIGHT - 20}" text-anchor="middle">{place:g}</text>')
        middle = (_LEFT + _WIDTH - _RIGHT) / 2
        drawn.append(f'<text x="{middle}" y="{_HEIGHT - 4}" text-anchor="middle">{below}</text>')
        return "".join(drawn)

    def line(self, kind: str, epochs: Sequence[int], values: Sequence[float]) -> str:
        """Return a line of values by epoch; NaN and infinite ones are left out."""
        every = math.ceil(len(epochs) / MOST_POINTS)
        points = [
            (self.x(epoch), self.y(value))
            for number, (epoch, value) in enumerate(zip(epochs, values, strict=True))
            if math.isfinite(value) and (number % every == 0 or number == len(epochs) - 1)
        ]
        drawn = [f'<polyline class="{kind}" points="{" ".join(f"{x},{y}" for x, y in points)}"/>']
        if len(points) <= 30:
            drawn += [f'<circle class="{kind}" cx="{x}" cy="{y}" r="2.2"/>' for x, y in points]
        return "".join(drawn)


def _ticks(low: float, high: float) -> list[float]:
    """Return about five round numbers, from at most ``low`` to at least ``high``."""
    span = max(high - low, 1e-6 * max(abs(low), abs(high))) or 1.0
    size = 10.0 ** math.floor(math.log10(span / 4))
    step = next(size * factor for factor in (1, 2, 5, 10) if span / (size * factor) <= 5)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [float(f"{number * step:.10g}") for number in range(first, max(last, first + 1) + 1)]


def _whole_ticks(first: int, last: int) -> list[float]:
    """Return some integers from ``first`` to ``last``."""
    step = max(1.0, _ticks(first, last)[1] - _ticks(first, last)[0])
    return list(np.arange(math.ceil(first / step), last // step + 1) * step) or [float(first)]


def _svg(label: str, drawn: list[str]) -> str:
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{text(label)}">{"".join(drawn)}</svg>'
