"""What may be shown on a terminal, whatever file names and class names hold."""

from __future__ import annotations

import codecs
import io
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


def printable(text: str) -> str:
    r"""Return ``text`` with line breaks, terminal codes and bytes that are no text as backslash escapes.

    >>> print(printable("cat\n\x1b[31m.png"))
    cat\n\x1b[31m.png
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def accept_any_text() -> None:
    """Let stdout take every text: a file name that is no text as the bytes it has, what it cannot write as escapes.

    A stderr that is not there takes all and leads nowhere.
    """
    codecs.register_error("xpcnn", _bytes_or_escapes)
    if sys.stderr is None:  # closed, as for a daemon; progress bars write there
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
    """Say warnings in one line, and not where in the sources they arose; quiet: say none."""

    def say(message: object, *_: object, **__: object) -> None:
        if not quiet:
            print(f"xpcnn {command}: {printable(str(message))}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = say
        yield


def one_line(error: Exception) -> str:
    """Return an error's text in one line; one without text, or of a kind that only a defect raises, is named."""
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
