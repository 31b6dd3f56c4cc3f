"""What may be shown on a terminal, whatever file names and class names hold."""

from __future__ import annotations

import codecs
import io
import sys


def printable(text: str) -> str:
    r"""Return ``text`` with line breaks, terminal codes and bytes that are no text as backslash escapes.

    >>> print(printable("cat\n\x1b[31m.png"))
    cat\n\x1b[31m.png
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def accept_any_text() -> None:
    """Let stdout take every text: a file name that is no text as the bytes it has, what it cannot write as escapes."""
    codecs.register_error("xpcnn", _bytes_or_escapes)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="xpcnn")


def _bytes_or_escapes(error: UnicodeError) -> tuple[str | bytes, int]:
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.backslashreplace_errors(error)
