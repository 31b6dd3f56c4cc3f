"""Text that is safe to show on a terminal, whatever file names and class names contain."""

from __future__ import annotations

import codecs
import io
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any


def printable(text: str) -> str:
    r"""Return ``text`` with line breaks, terminal codes and undecodable bytes as backslash escapes.

    >>> print(printable("cat\n\x1b[31m.png"))
    cat\n\x1b[31m.png
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def bounds(interval: Sequence[float]) -> str:
    """Return the bounds of an interval of fractions.

    >>> bounds((0.59585, 1.0))
    '0.5958 to 1.0000'
    """
    low, high = interval
    return f"{low:.4f} to {high:.4f}"


def accuracy(figures: Mapping[str, Any]) -> str:
    """Return the accuracy among some results, with its 95 % interval.

    >>> accuracy({"accuracy": 0.9, "accuracy_95": (0.5958, 0.9821)})
    '0.9000 (95 %: 0.5958 to 0.9821)'
    """
    return f"{figures['accuracy']:.4f} (95 %: {bounds(figures['accuracy_95'])})"


def accept_any_text() -> None:
    """Make stdout accept any text: undecodable file names as their bytes, characters it can't encode as escapes.

    A missing stderr is replaced by one that discards everything.
    """
    codecs.register_error("xpcnn", _bytes_or_escapes)
    if sys.stderr is None:  # closed, as for a daemon; progress bars write to it
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - it stays open to the end
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="xpcnn")


def _bytes_or_escapes(error: UnicodeError) -> tuple[str | bytes, int]:
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.backslashreplace_errors(error)


@contextmanager
def warnings_in_one_line(command: str, quiet: bool = False) -> Iterator[None]:
    """Print warnings in one line without their source location; quiet: print none."""

    def say(message: object, *_: object, **__: object) -> None:
        if not quiet:
            print(f"xpcnn {command}: {printable(str(message))}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = say
        yield


def one_line(error: Exception) -> str:
    """Return an error's text in one line; without a text, or for a kind that only a bug raises, with its type."""
    message = printable(" ".join(str(error).split()))
    if isinstance(error, MemoryError):
        return f"out of memory ({message or 'no details'}). Use smaller images or batches."
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename!r}" if error.filename else error.strerror
    if (
        isinstance(error, ValueError | TypeError | RuntimeError | FloatingPointError | OSError | ImportError)
        and message
    ):
        return message
    return f"unexpected {type(error).__name__}: {message}. Use --debug to see where."
