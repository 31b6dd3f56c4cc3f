"""The targets, next to what was measured."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

#: Least ratio of PyTorch's best graph to xpcnn's on each of the five networks, by batch.
LEAST_RATIOS = {512: 1.2, 32: 1.5}
#: Least ratio for ResNet-18 at 64 pixels; most ms of a step of cifar; most seconds to learn MNIST, and to start.
LEAST_OF_RESNET, MOST_MS_OF_CIFAR, MOST_S_OF_MNIST, MOST_S_TO_START = 1.0, 1.2, 1.0, 2.0

Row = dict[str, Any]


class Target(NamedTuple):
    """What was to be reached, and what was; met is None if it was not measured, or not all of it."""

    what: str
    wanted: str
    found: str
    met: bool | None


def targets(results: dict[str, Any], networks: Iterable[str]) -> list[Target]:
    """Return every target, from the figures of a run on these networks."""
    rows = [*results.get("train", []), *results.get("compile", [])]
    found = [
        _ratios(rows, [*networks], batch, precision, least)
        for batch, least in LEAST_RATIOS.items()
        for precision in ("tf32", "bfloat16")
    ]
    resnet = _where(results.get("presets", []), "resnet-18, 64 px", 128, "bfloat16")
    cifar = [row["ms"]["xpcnn"] for row in _where(results.get("train", []), "cifar", 512, "tf32")]
    learnt = [row["seconds"] for row in results.get("mnist", []) if row["reached"]]
    started = [row["seconds"] for row in results.get("start", []) if row["cache"] == "empty"]
    return [
        *found,
        _least("ResNet-18, 64 px, a step at 128, bfloat16, PyTorch / xpcnn", LEAST_OF_RESNET, _ratio(resnet)),
        _most("cifar, a step at 512, tf32, ms", MOST_MS_OF_CIFAR, min(cifar, default=None)),
        _most("MNIST to 98.5 %, s", MOST_S_OF_MNIST, min(learnt, default=None), tried=bool(results.get("mnist"))),
        _most("a process until the first epoch of digits ends, s", MOST_S_TO_START, min(started, default=None)),
    ]


def show(found: list[Target]) -> None:
    """Print the table."""
    print(f"\n{'target':62}{'wanted':>8}  verdict       found")
    verdicts = {True: "met", False: "MISSED", None: "not measured"}
    for target in found:
        print(f"{target.what:62}{target.wanted:>8}  {verdicts[target.met]:12}  {target.found}")


def _ratios(rows: list[Row], networks: list[str], batch: int, precision: str, least: float) -> Target:
    """Return the target for all networks at once: each must reach it."""
    ratios = {name: _ratio(_where(rows, name, batch, precision)) for name in networks}
    known = [ratio for ratio in ratios.values() if ratio is not None]
    met = False if any(r < least for r in known) else True if len(known) == len(ratios) else None
    found = ", ".join(f"{name} {'-' if ratio is None else f'{ratio:.2f}'}" for name, ratio in ratios.items())
    return Target(f"five networks, a step at {batch}, {precision}, PyTorch / xpcnn", f">= {least}", found, met)


def _where(rows: list[Row], network: str, batch: int, precision: str) -> list[Row]:
    wanted = (network, "train", batch, precision)
    return [row for row in rows if (row["network"], row["task"], row["batch"], row["precision"]) == wanted]


def _ratio(rows: list[Row]) -> float | None:
    """Return the ratio to the best of PyTorch's ways."""
    return min((row["ratio"] for row in rows), default=None)


def _least(what: str, least: float, found: float | None) -> Target:
    return Target(what, f">= {least}", _text(found), None if found is None else found >= least)


def _most(what: str, most: float, found: float | None, tried: bool = False) -> Target:
    """tried: whether a value that is missing was not reached, rather than not measured."""
    met = (False if tried else None) if found is None else found <= most
    return Target(what, f"<= {most}", "not reached" if tried and found is None else _text(found), met)


def _text(found: float | None) -> str:
    return "-" if found is None else f"{found:.2f}"
