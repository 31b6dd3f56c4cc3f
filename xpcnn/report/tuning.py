"""The page of a search: what its trials varied, how accurate each was, and how to repeat the best one."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from xpcnn.report import curves, page
from xpcnn.report.results import percent
from xpcnn.report.run import number
from xpcnn.version import __version__

#: What the settings are called.
NAMES = {"lr": "learning rate", "width": "width", "augment": "augmentation", "image_size": "image size"}


class Tried(NamedTuple):
    """A trial: the settings that it varied; the epoch that was kept, and its validation accuracy with its 95 % range;
    its seconds; why it was stopped, None if it was not."""

    number: int
    settings: Mapping[str, Any]
    accuracy: float | None
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
        _tiles(trials, best, metrics),
        _best_section(trials, best, command, metrics),
        _trials_section(trials, best, plan),
    ]
    return page.page(title, status, "finished" if finished else "broken", "".join(body))


def _tiles(trials: Sequence[Tried], best: int | None, metrics: Mapping[str, Any]) -> str:
    told = []
    test = metrics.get("test")
    if isinstance(test, dict) and number(test.get("accuracy")) is not None:
        told.append((f"test accuracy of the best{_between(test.get('accuracy_95'))}", percent(test["accuracy"])))
    for one in trials:
        if one.number == best and one.accuracy is not None:
            told.append((f"its validation accuracy{_between(one.interval)}", percent(one.accuracy)))
    stopped = sum(one.stopped is not None for one in trials)
    told.append((f"trials, {stopped} of them stopped early", f"{len(trials)}"))
    return page.tiles(told)


def _between(interval: Any) -> str:
    if not isinstance(interval, Sequence):
        return ""
    return f", 95&nbsp;%: {percent(interval[0])} to {percent(interval[1])}"


def _best_section(trials: Sequence[Tried], best: int | None, command: Sequence[str], metrics: Mapping[str, Any]) -> str:
    if best is None:
        return page.section("The best settings", "<p>No trial has been completed yet.</p>")
    settings = next(one.settings for one in trials if one.number == best)
    facts = page.facts((NAMES[name], page.text(_value(name, value))) for name, value in settings.items())
    words = " ".join(f"<span>{page.text(shlex.quote(word))}</span>" for word in command)
    tested = (
        "Its accuracy on the test part, which no choice depends on, was measured once, at the end: that is what to "
        "expect on other images."
        if "test" in metrics
        else "The test part, if there is one, is looked at when the search has ended."
    )
    note = (
        "The best trial is the one with the most validation images right, and among equals the one with the smallest "
        f"validation loss. Since it was chosen by them, its validation accuracy is too optimistic. {tested}"
    )
    return page.section("The best settings", facts, f"<p>This repeats it:</p><pre>{words}</pre>", note=note)


def _trials_section(trials: Sequence[Tried], best: int | None, plan: Mapping[str, Any]) -> str:
    names = [*plan["space"]]
    rows = []
    for one in sorted(trials, key=lambda one: (one.number != best, -(one.accuracy or 0.0), one.number)):
        low, high = one.interval or (0.0, 1.0)
        rows.append(
            (
                f"{one.number}{' <b>best</b>' if one.number == best else ''}",
                "—" if one.accuracy is None else percent(one.accuracy),
                "—" if one.accuracy is None else f"{percent(low)} to {percent(high)}",
                *(page.text(_value(name, one.settings[name])) for name in names),
                "—" if one.epoch is None else f"{one.epoch}",
                "—" if one.seconds is None else f"{one.seconds:.0f}",
                page.text(one.stopped or ""),
            )
        )
    headings = (
        "trial", "validation accuracy", "95&nbsp;%", *(NAMES[name] for name in names), "best epoch", "seconds",
        "stopped",
    )  # fmt: skip
    images, epochs = page.counted(plan["validation"], "validation image"), page.counted(plan["epochs"], "epoch")
    note = (
        f"Each trial had {epochs}, and was judged by {images}. The first one has the defaults. A trial that was worse "
        "than half of the others at the same epoch was stopped. Trials whose ranges overlap widely may well be equally "
        "good."
    )
    complete = {one.number: one.accuracy for one in trials if one.accuracy is not None}
    caption = "Dots: the trials that were not stopped. Line: the best so far."
    drawn = page.figure(curves.by_trial(complete), caption) if len(complete) > 1 else ""
    varied = page.facts((NAMES[name], page.text(_value(name, choices))) for name, choices in plan["space"].items())
    table = page.table("All trials, the best first", headings, rows)
    return page.section("What was tried", f'<div class="pair">{drawn}{varied}</div>', table, note=note)
