"""Timing in turns, so that a slowdown of the machine affects all sides."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

#: Seconds of pause before a side's turn, in which the other side's waiting threads go to sleep.
REST = 0.01
#: Seconds of a turn, in which calls follow each other as steps do in training.
TURN = 0.05


def take_turns(sides: Mapping[str, Callable[[], object]], seconds: float, least: int = 3) -> dict[str, list[float]]:
    """Return the milliseconds of each side's calls, made in turns of about ``seconds`` in total."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for call in sides.values():
        call()
        call()
    started = time.perf_counter()
    rounds = 0
    while rounds < least or time.perf_counter() - started < seconds:
        for name, call in sides.items():
            time.sleep(REST)
            call()  # refills the caches for this side
            turn = time.perf_counter()
            while True:
                before = time.perf_counter()
                call()
                after = time.perf_counter()
                times[name].append((after - before) * 1e3)
                if after - turn > TURN:
                    break
        rounds += 1
    return times


def compare(ours: list[float], others: Mapping[str, list[float]]) -> dict[str, Any]:
    """Return medians and minima, and the ratio of the best other side's median to ours: above 1, ours is faster."""
    best = min(others, key=lambda name: statistics.median(others[name]))
    theirs = others[best]
    return {
        "xpcnn_median": statistics.median(ours),
        "xpcnn_min": min(ours),
        "torch_median": statistics.median(theirs),
        "torch_min": min(theirs),
        "torch_format": best,
        "ratio": statistics.median(theirs) / statistics.median(ours),
        "ratio_of_minima": min(theirs) / min(ours),
        "rounds": len(ours),
    }
