"""Ctrl-C, SIGTERM and a closed output end a run, which prints how to resume it; signals let the current step finish."""

from __future__ import annotations

import shlex
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from xpcnn.cli.run_directory import RunDirectory
from xpcnn.training.callbacks import Callback
from xpcnn.training.fit import Fit

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopOnSignal(Callback):
    """Stop the fit when SIGINT or SIGTERM arrives; a second one has its usual effect."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    @property
    def name(self) -> str:
        """The signal's name."""
        return self.received.name if self.received else ""

    @property
    def exit_code(self) -> int:
        """The exit code that shells expect after a signal: 128 plus its number; 0 without a signal."""
        return 128 + self.received if self.received else 0

    def on_fit_begin(self, fit: Fit) -> None:
        """Install the signal handlers, if in the main thread."""

        def note(number: int, frame: FrameType | None) -> None:
            self.received = signal.Signals(number)
            fit.interrupt(self.received.name)
            self._restore()

        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, note) for number in SIGNALS}

    def on_fit_end(self, fit: Fit) -> None:
        """Restore the handlers, and note a signal that another process of the fit has received."""
        self._restore()
        if fit.interrupted and fit.stop_reason:
            self.received = signal.Signals.__members__.get(fit.stop_reason, self.received)

    def _restore(self) -> None:
        while self._before:
            signal.signal(*self._before.popitem())


def how_to_go_on(directory: RunDirectory) -> str:
    """Return the command that resumes a run."""
    whole = directory.whole or directory
    return f"to resume: xpcnn {whole.command} --resume {shlex.quote(str(whole.path))}"


@contextmanager
def noting_how_to_go_on(directory: RunDirectory) -> Iterator[None]:
    """Add to the exception of a signal or of a closed output how to resume the run, once it has started."""
    try:
        yield
    except BaseException as stop:
        if isinstance(stop, Exception) and not isinstance(stop, BrokenPipeError):
            raise  # an error says itself what to do
        note = how_to_go_on(directory)
        if directory.can_be_resumed and note not in getattr(stop, "__notes__", ()):  # a fold has said so already
            stop.add_note(note)
        raise
