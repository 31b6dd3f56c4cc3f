"""The page of a search: what its trials varied, how good each was, and how to repeat the best one."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from xpcnn.report import curves, page
from xpcnn.report.results import percent
from xpcnn.report.run import number
from xpcnn.version import __version__

#: What the settings are called.
NAMES = {"lr": "learning rate", "width": "width", "augment": "augmentation", "image_size": "image size"}


class Tried(NamedTuple):
    """A trial: the settings that it varied; the epoch that was kept, and its validation accuracy with its 95 % range,
    or the macro F1 of several labels; its seconds; why it was stopped, None if it was not."""

    number: int
    settings: Mapping[str, Any]
    reached: float | None
    interval: Sequence[float] | None
    epoch: int | None
    seconds: float | None
    stopped: str | None


def in_words(settings: Iterable[tuple[str, Any]]) -> str:
    """Return settings, or the values that they may have, in words.

    >>> in_words([("lr", 0.004), ("image_size", 64)]), in_words([("lr", [0.001, 0.02]), ("width", [1.0, 1.5, 2.0])])
    ('learning rate 0.004, image size 64', 'learning rate 0.001 to 0.02, width 1, 1.5 or 2')
    """
    return ", ".join(f"{NAMES[name]} {_value(name, value)}" for name, value in settings)


def _value(name: str, value: Any) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        *others, last = (_value(name, one) for one in value)
        return f"{', '.join(others)} {'to' if name == 'lr' else 'or'} {last}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def write_up(
    trials: Sequence[Tried],
    best: int | None,
    *,
    plan: Mapping[str, Any],
    folder: Path,
    command: Sequence[str],
    metrics: Mapping[str, Any],
) -> str:
    """Return the page. best: the number of the best trial, if any. command: repeats it. metrics: those of its run."""
    finished = "test" in metrics or "validation" in metrics
    title = f"Search in {page.plain_name(folder.resolve().name)}"
    when = f"{time.strftime('%Y-%m-%d %H:%M')}, xpcnn {page.text(__version__)}."
    resume = f"<code>xpcnn tune --resume {page.text(shlex.quote(str(folder)))}</code>"
    status = f"<b>Finished</b>, {when}" if finished else f"<b>Not finished</b>, {when} This resumes it: {resume}"
    body = [
        _tiles(trials, best, plan, metrics),
        _best_section(trials, best, plan, command, metrics),
        _trials_section(trials, best, plan),
    ]
    return page.page(title, status, "finished" if finished else "broken", "".join(body))


def _metric(plan: Mapping[str, Any]) -> tuple[str, str, Callable[[float], str]]:
    """Return what trials are judged by: its name, its key in metrics.json, and a function that tells a value."""
    if plan.get("metric", "accuracy") == "accuracy":
        return "accuracy", "accuracy", percent
    return "macro F1", "f1", "{:.3f}".format


def _tiles(trials: Sequence[Tried], best: int | None, plan: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    told = []
    name, key, tell = _metric(plan)
    test = metrics.get("test")
    if isinstance(test, dict) and number(test.get(key)) is not None:
        told.append((f"test {name} of the best{_between(test.get(f'{key}_95'))}", tell(test[key])))
    for one in trials:
        if one.number == best and one.reached is not None:
            told.append((f"its validation {name}{_between(one.interval)}", tell(one.reached)))
    stopped = sum(one.stopped is not None for one in trials)
    told.append((f"trials, {stopped} of them stopped early", f"{len(trials)}"))
    return page.tiles(told)


def _between(interval: Any) -> str:
    if not isinstance(interval, Sequence):
        return ""
    return f", 95&nbsp;%: {_range(interval)}"


def _best_section(
    trials: Sequence[Tried],
    best: int | None,
    plan: Mapping[str, Any],
    command: Sequence[str],
    metrics: Mapping[str, Any],
) -> str:
    if best is None:
        return page.section("The best settings", "<p>No trial has been completed yet.</p>")
    name = _metric(plan)[0]
    settings = next(one.settings for one in trials if one.number == best)
    facts = page.facts((NAMES[name], page.text(_value(name, value))) for name, value in settings.items())
    words = " ".join(f"<span>{page.text(shlex.quote(word))}</span>" for word in command)
    tested = (
        f"Its {name} on the test part, which no choice depends on, was measured once, at the end: that is what to "
        "expect on other images."
        if "test" in metrics
        else "The test part, if there is one, is looked at when the search has ended."
    )
    most = "most validation images right" if name == "accuracy" else f"highest validation {name}"
    note = (
        f"The best trial is the one with the {most}, and among equals the one with the smallest validation loss. Since "
        f"it was chosen by them, its validation {name} is too optimistic. {tested}"
    )
    return page.section("The best settings", facts, f"<p>This repeats it:</p><pre>{words}</pre>", note=note)


def _range(interval: Sequence[float] | None) -> str:
    return "—" if interval is None else f"{percent(interval[0])} to {percent(interval[1])}"


def _trials_section(trials: Sequence[Tried], best: int | None, plan: Mapping[str, Any]) -> str:
    names, (metric, _, tell) = [*plan["space"]], _metric(plan)
    rows, has_ranges = [], metric != "macro F1"
    for one in sorted(trials, key=lambda one: (one.number != best, -(one.reached or 0.0), one.number)):
        rows.append(
            (
                f"{one.number}{' <b>best</b>' if one.number == best else ''}",
                "—" if one.reached is None else tell(one.reached),
                *[_range(one.interval)] * has_ranges,
                *(page.text(_value(name, one.settings[name])) for name in names),
                "—" if one.epoch is None else f"{one.epoch}",
                "—" if one.seconds is None else f"{one.seconds:.0f}",
                page.text(one.stopped or ""),
            )
        )
    headings = (
        "trial", f"validation {metric}", *["95&nbsp;%"] * has_ranges, *(NAMES[name] for name in names), "best epoch",
        "seconds", "stopped",
    )  # fmt: skip
    thresholds = "" if has_ranges else " Macro F1 is that of thresholds of 0.5."
    ranges = "Trials whose ranges overlap widely may well be equally good." if has_ranges else ""
    images, epochs = page.counted(plan["validation"], "validation image"), page.counted(plan["epochs"], "epoch")
    note = (
        f"Each trial had {epochs}, and was judged by {images}.{thresholds} The first has the defaults. A trial that "
        f"was worse than half of the others at the same epoch was stopped. {ranges}"
    )
    complete = {one.number: one.reached for one in trials if one.reached is not None}
    caption = "Dots: the trials that were not stopped. Line: the best so far."
    drawn = page.figure(curves.by_trial(complete, metric), caption) if len(complete) > 1 else ""
    varied = page.facts((NAMES[name], page.text(_value(name, choices))) for name, choices in plan["space"].items())
    table = page.table("All trials, the best first", headings, rows)
    return page.section("What was tried", f'<div class="pair">{drawn}{varied}</div>', table, note=note)
