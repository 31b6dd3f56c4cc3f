"""The command line: ``xpcnn train``, ``evaluate``, ``predict``, ``report``, ``compare``, …, one module per command.

Nothing here imports NumPy before a command runs, so that ``xpcnn --help`` responds at once.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

from xpcnn.cli import compare, completion, evaluate, export, info, predict, report, text, train, tune, weights
from xpcnn.cli.parser import Parser, wrong_usage

COMMANDS = {
    "train": train,
    "tune": tune,
    "evaluate": evaluate,
    "predict": predict,
    "report": report,
    "compare": compare,
    "export": export,
    "info": info,
    "weights": weights,
    "completion": completion,
}

#: The exit code that shells expect from a command ended by a signal: 128 plus the signal's number.
INTERRUPTED = 128 + signal.SIGINT
TERMINATED = 128 + signal.SIGTERM

EXAMPLES = """\
examples:
  xpcnn train                                           the bundled digits, in a few seconds
  xpcnn train photos --epochs 30 --augment light        a folder that contains one folder per class
  xpcnn predict runs/train/best.safetensors new.jpg     what is it?
  xpcnn COMMAND --help                                  all options of a command
"""


class Terminated(BaseException):
    """SIGTERM has arrived; raised so that cleanup runs as for Ctrl-C."""


class _Version(argparse.Action):
    """Print the version, which is looked up only on request: that takes longer than the rest of ``--help``."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        from xpcnn.version import __version__

        print(f"xpcnn {__version__}")
        parser.exit()


def parser() -> Parser:
    """Return the parser of the whole command line."""
    root = Parser(
        prog="xpcnn",
        description="Train convolutional image classifiers, on NumPy or CuPy.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    root.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    commands = root.add_subparsers(dest="command", metavar="COMMAND")
    for name, module in COMMANDS.items():
        summary = (module.__doc__ or "").splitlines()[0]
        command = commands.add_parser(name, help=summary, description=summary)
        module.add_arguments(command)
        command.add_argument("--debug", action="store_true", help="show the traceback of an error")
        if module is completion:
            command.set_defaults(whole=root)  # the parser it generates completions for
    return root


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0; 1 for bad data or a failed run; 130 or 143 for a signal.

    Without a command it shows the help and returns 2. Raises SystemExit like argparse: with 0 after ``--help`` and
    ``--version``, with 2 for wrong usage.
    """
    text.accept_any_text()
    root = parser()
    options = root.parse_args(arguments)
    if options.command is None:
        root.print_help(sys.stderr)
        return 2
    try:
        with _sigterm_raises(), text.warnings_in_one_line(options.command):
            code = int(COMMANDS[options.command].run(options))
            _flush()
        return code
    except (KeyboardInterrupt, Terminated) as stop:
        word, code = ("terminated", TERMINATED) if isinstance(stop, Terminated) else ("interrupted", INTERRUPTED)
        _say(options.command, "; ".join([word, *getattr(stop, "__notes__", [])]))
        return code
    except BrokenPipeError as error:  # the reader of our output has closed it, as `head` does
        notes = getattr(error, "__notes__", [])
        if notes:  # that suits a list of predictions, and is unexpected in a training
            _say(options.command, "; ".join(["nothing reads the output any more, so the run has stopped", *notes]))
        return 1
    except argparse.ArgumentError as error:
        print(wrong_usage(f"xpcnn {options.command}", str(error)), file=sys.stderr)
        return 2
    except Exception as error:
        if options.debug:
            raise
        _say(options.command, text.one_line(error))
        return 1
    finally:
        _drop_what_cannot_be_written()


def _flush() -> None:
    if sys.stdout is not None:  # as under pythonw
        sys.stdout.flush()


def _drop_what_cannot_be_written() -> None:
    """Redirect a broken stdout to nowhere, or Python reports the error again on exit."""
    try:
        _flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say(command: str, message: str) -> None:
    print(f"xpcnn {command}: {message}", file=sys.stderr)


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    """Make SIGTERM raise :class:`Terminated`; only possible in the main thread."""

    def terminate(number: int, frame: FrameType | None) -> NoReturn:
        raise Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
