"""Parsing the command line, with wrong usage reported in one line that suggests what was meant."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from xpcnn.cli.text import printable
from xpcnn.hints import meant_by


class Parser(argparse.ArgumentParser):
    """A parser of commands and options that does not accept abbreviations."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)
        # Python's own pattern takes -1e2 for an option.
        self._negative_number_matcher = re.compile(r"-(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$")

    def error(self, message: str) -> NoReturn:
        """Print one line and exit with 2."""
        self.exit(2, f"{wrong_usage(self.prog, message)}\n")

    def parse_known_args(  # type: ignore[override]  # which may be given any object to write to
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Refuse unknown arguments in the command's own parser, which knows what to suggest."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            known = [*self._option_string_actions]
            meant = [meant_by("option", word.partition("=")[0], known) for word in unknown if word.startswith("-")]
            self.error(f"unrecognized arguments: {' '.join(unknown)}{_hint(*meant)}")
        return found, unknown

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            error.message += _hint(meant_by(action.dest, value, [*map(str, action.choices or ())]))
            raise


def wrong_usage(prog: str, message: str) -> str:
    """Return the line that reports wrong usage of a command."""
    return f"{prog}: error: {printable(message)}{'' if message.endswith(('?', '.')) else '.'} See {prog} --help"


def _hint(*meant: str | None) -> str:
    names = ", ".join(filter(None, meant))
    return f"; did you mean {names}?" if names else ""
