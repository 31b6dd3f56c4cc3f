"""Arguments shared by several commands."""

from __future__ import annotations

import argparse
import re
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xpcnn.backend import ArrayModule


def positive(text: str) -> int:
    """Return an integer from 1 on; argparse reports anything else as a usage error."""
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected an integer from 1 on, received {text!r}")
    return int(text)


def several(text: str) -> int:
    """Return an integer from 2 on."""
    if not (text.isascii() and text.isdigit()) or int(text) < 2:
        raise argparse.ArgumentTypeError(f"expected an integer from 2 on, received {text!r}")
    return int(text)


def whole(text: str) -> int:
    """Return an integer from 0 on."""
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"expected an integer from 0 on, received {text!r}")
    return int(text)


def fraction(text: str) -> float:
    """Return a number from 0 to below 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to below 1, received {text!r}")
    return value


def rate(text: str) -> float:
    """Return a number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, received {text!r}")
    return value


def finite(text: str) -> float:
    """Return a finite number."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not abs(value) < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number, received {text!r}")
    return value


def count_or_all(text: str) -> str:
    """Return a number of channels, from 1 on, or "all", unchanged."""
    if text != "all":
        positive(text)
    return text


def page(text: str) -> str:
    """Return the number of a page, "max" or "mean", unchanged."""
    if text not in ("max", "mean") and not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"expected a page number from 0 on, max or mean, received {text!r}")
    return text


def interval(text: str) -> str:
    """Return a number of steps, "500", or of minutes, "10m", unchanged."""
    if not re.fullmatch("0*[1-9][0-9]*m?", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"expected steps, such as 500, or minutes, such as 10m, received {text!r}")
    return text


def steps_or_minutes(text: str | None) -> dict[str, Any]:
    """Return an :func:`interval` as an argument of a checkpoint.

    >>> steps_or_minutes("500"), steps_or_minutes("10m"), steps_or_minutes(None)
    ({'steps': 500}, {'minutes': 10}, {})
    """
    if text is None:
        return {}
    return {"minutes": int(text[:-1])} if text.endswith("m") else {"steps": int(text)}


def add_flag(parser: argparse._ActionsContainer, name: str, text: str) -> None:
    """Add an option without a value: True if given, else None, like all others."""
    parser.add_argument(name, action="store_true", default=None, help=text)


def add_augment(parser: argparse._ActionsContainer) -> None:
    """Add --augment to a command that predicts, without shifts: they would not be worth the time."""
    parser.add_argument(
        "--augment",
        choices=("none", "light", "microscopy", "flip", "dihedral"),
        default="none",
        help="average predictions over 2 (light, flip) or 8 (microscopy, dihedral) flips and rotations, in as many "
        "times as long",
    )


def add_computing(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Add --backend, --threads and --verbose; return their group."""
    group = parser.add_argument_group("computing")
    group.add_argument(
        "--backend", choices=("numpy", "numba", "cupy", "auto"), help="default: $XPCNN_BACKEND, else auto"
    )
    group.add_argument(
        "--threads",
        type=positive,
        metavar="N",
        help="number of threads (default: all processors, one for small networks)",
    )
    add_flag(group, "--verbose", "print more, such as which backend was chosen and why")
    return group


def chosen_backend(options: argparse.Namespace) -> ArrayModule:
    """Return the requested array module, in the requested precision; with --verbose print which and why."""
    from xpcnn.backend import choose
    from xpcnn.precision import in_precision

    choice = choose(options.backend)
    if options.verbose:
        print(f"backend {choice.xp.__name__}: {choice.reason}", file=sys.stderr)
    return in_precision(choice.xp, getattr(options, "precision", None))
