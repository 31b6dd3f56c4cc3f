"""Logging to TensorBoard."""

from __future__ import annotations

import os
import time
from importlib import import_module
from typing import Any

import numpy as np

from xpcnn import files
from xpcnn.extras import install_line
from xpcnn.training.callbacks.base import Callback
from xpcnn.training.fit import Fit

#: The modules of each package that contain the event writer and the protocol buffers.
_PACKAGES = (
    ("tensorboard.summary.writer.event_file_writer", "tensorboard.compat.proto"),
    ("tensorboardX.event_file_writer", "tensorboardX.proto"),
)


class TensorBoard(Callback):
    """Log loss, every scalar metric, learning rate and seconds of each epoch for TensorBoard.

    View them with ``tensorboard --logdir DIRECTORY``; the step is the epoch number. Each fit writes a separate file to
    the directory. TensorBoard shows a resumed fit as a continuation, and hides epochs logged after the checkpoint.
    Requires tensorboard or tensorboardX; raises ImportError, saying how to install it, if both are missing.
    """

    writes = True

    def __init__(self, directory: files.PathLike) -> None:
        self.directory = directory
        self._writer: Any = None
        self._new_writer, self._events, self._summaries = _package()

    def on_fit_begin(self, fit: Fit) -> None:
        """Open a file, and tell TensorBoard to discard the epochs that the fit will repeat."""
        # the epoch distinguishes the file from one that another fit opened in the same second
        self._writer = self._new_writer(os.fspath(self.directory), filename_suffix=f".{fit.epoch:06d}")
        start = self._events.SessionLog(status=self._events.SessionLog.START)
        self._writer.add_event(self._events.Event(wall_time=time.time(), step=fit.epoch + 1, session_log=start))

    def on_epoch_end(self, fit: Fit) -> None:
        """Write the metrics of the epoch, and flush them so that they show at once."""
        value = self._summaries.Summary.Value
        values = [value(tag=name, simple_value=figure) for name, figure in fit.logs.items() if np.ndim(figure) == 0]
        summary = self._summaries.Summary(value=values)
        self._writer.add_event(self._events.Event(wall_time=time.time(), step=fit.epoch, summary=summary))
        self._writer.flush()

    def on_fit_end(self, fit: Fit) -> None:
        """Close the file."""
        if self._writer is not None:  # None: another callback failed before the fit began
            self._writer.close()
            self._writer = None


def _package() -> tuple[Any, Any, Any]:
    """Return the event file writer and the event and summary modules of an installed package."""
    for writer, messages in _PACKAGES:
        try:
            return (
                import_module(writer).EventFileWriter,
                import_module(f"{messages}.event_pb2"),
                import_module(f"{messages}.summary_pb2"),
            )
        except ImportError:
            continue
    line = install_line("tensorboard")
    raise ImportError(f"callbacks.TensorBoard needs tensorboard or tensorboardX. Run `{line}`.")
