"""The section of what was requested, and of the time and the environment that it took."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from xpcnn.data import Decoding
from xpcnn.report import page
from xpcnn.report.run import Epochs, Run
from xpcnn.version import __version__

#: The most arguments to list.
MOST_TOLD = 100
#: The fields of args.json besides the arguments that the page shows in another place.
_NO_ARGUMENTS = ("version", "computed_by", "classes", "environment", "decoding", "copies", "several_labels")


def settings_section(run: Run, epochs: Epochs, command: Sequence[str], network: str) -> str:
    """Return the section of what was requested, and of the time and the environment that it took.

    network: the list of its layers, if any.
    """
    asked = [
        (page.name(key.replace("_", " ")), page.name(value, 80))
        for key, value in run.arguments.items()
        if key not in _NO_ARGUMENTS and value is not None
    ][:MOST_TOLD]
    asked += _values(run.arguments.get("decoding"))
    note = "This command repeats the run: the same seed gives the same weights."
    words = (f"<span>{page.text(shlex.quote(word))}</span>" for word in command)
    again = f"<pre>{' '.join(words)}</pre>"
    settings = page.folded("All settings", page.facts(asked))
    machine = page.folded("Speed and environment", page.facts(_machine(run, epochs)))
    return page.section("Settings", again, settings, network, machine, note=note)


def _values(decoding: Any) -> list[tuple[str, str]]:
    """Return the mapping of values of more than 8 bits, if args.json has it."""
    try:
        ranges = Decoding.from_json(decoding).ranges
    except ValueError:
        return []
    if ranges is None:
        return []
    told = dict.fromkeys(f"{low:g} to {high:g}" for low, high in ranges)
    return [("values as 0 to 255", page.text(", ".join(told)))]


def _machine(run: Run, epochs: Epochs) -> list[tuple[str, str]]:
    """Return the time per epoch, and the environment."""
    arguments = run.arguments
    told = []
    seconds = [value for value in epochs.columns.get("seconds", []) if value > 0]
    if seconds:
        middle = float(np.median(seconds))
        told.append(("an epoch", f"{_seconds(middle)} (median)"))
        told.append(("speed", f"{run.part('train') / middle:,.0f} training images per second"))
        told.append(("all epochs", _seconds(sum(seconds))))
    environment = arguments.get("environment")
    environment = environment if isinstance(environment, dict) else {}
    told.append(("computed by", page.name(arguments.get("computed_by"))))
    told.append(("trained with", f"xpcnn {page.name(arguments.get('version'))}"))
    told += [(page.name(key), page.name(value, 80)) for key, value in [*environment.items()][:MOST_TOLD]]
    told.append(("this report", f"{time.strftime('%Y-%m-%d %H:%M')}, xpcnn {page.text(__version__)}"))
    return told


def _seconds(value: float) -> str:
    """Return a duration in words.

    >>> _seconds(0.25), _seconds(75.0), _seconds(7300.0)
    ('0.25 s', '1 min 15 s', '2 h 1 min')
    """
    if value < 60:
        return f"{value:.2g} s" if value < 10 else f"{value:.0f} s"
    minutes, seconds = divmod(round(value), 60)
    return f"{minutes} min {seconds} s" if minutes < 60 else f"{minutes // 60:,} h {minutes % 60} min"
