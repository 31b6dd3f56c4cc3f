"""Print a shell script that completes commands, options and file names."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

SHELLS = ("bash", "zsh", "tcsh")
#: The placeholders for files and for folders in the help.
FILES = ("MODEL", "IMAGE", "FILE")
FOLDERS = ("DATA", "DIR", "RUN")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``xpcnn completion``."""
    parser.add_argument("shell", choices=SHELLS, help='for bash, in ~/.bashrc: eval "$(xpcnn completion bash)"')


def run(options_: argparse.Namespace) -> int:
    """Print the script."""
    try:
        import shtab
    except ImportError as error:
        from xpcnn.extras import install_line

        raise ImportError(f"Completion needs the package shtab. Run `{install_line('completion')}`.") from error
    root: argparse.ArgumentParser = options_.whole
    for action in _actions(root):
        if action.metavar in FILES:
            action.complete = shtab.FILE  # type: ignore[attr-defined]  # where shtab looks for it
        elif action.metavar in FOLDERS:
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
    print(shtab.complete(root, options_.shell))
    return 0


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Yield the arguments of a parser and of its commands."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)
