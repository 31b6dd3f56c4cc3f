"""The history for TensorBoard."""

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

#: Where each package keeps what writes event files, and what they are made of.
_PACKAGES = (
    ("tensorboard.summary.writer.event_file_writer", "tensorboard.compat.proto"),
    ("tensorboardX.event_file_writer", "tensorboardX.proto"),
)


class TensorBoard(Callback):
    """Write loss, every metric that is one number, learning rate and seconds of each epoch for TensorBoard.

    See them with ``tensorboard --logdir DIRECTORY``; the step is the number of the epoch. Each fit writes a file of its
    own into the directory, and TensorBoard shows a resumed one as one with what came before it: epochs that its
    checkpoint did not know are taken back. It needs one of the packages tensorboard and tensorboardX, and raises
    ImportError, saying how to install it, where there is none.
    """

    writes = True

    def __init__(self, directory: files.PathLike) -> None:
        self.directory = directory
        self._writer: Any = None
        self._new_writer, self._events, self._summaries = _package()

    def on_fit_begin(self, fit: Fit) -> None:
        """Begin a file, and take back the epochs that the fit will make again."""
        # by the epoch a file has another name than that of a fit of the same second
        self._writer = self._new_writer(os.fspath(self.directory), filename_suffix=f".{fit.epoch:06d}")
        start = self._events.SessionLog(status=self._events.SessionLog.START)
        self._writer.add_event(self._events.Event(wall_time=time.time(), step=fit.epoch + 1, session_log=start))

    def on_epoch_end(self, fit: Fit) -> None:
        """Write the epoch's figures, to be seen at once."""
        value = self._summaries.Summary.Value
        values = [value(tag=name, simple_value=figure) for name, figure in fit.logs.items() if np.ndim(figure) == 0]
        summary = self._summaries.Summary(value=values)
        self._writer.add_event(self._events.Event(wall_time=time.time(), step=fit.epoch, summary=summary))
        self._writer.flush()

    def on_fit_end(self, fit: Fit) -> None:
        """Close the file."""
        if self._writer is not None:  # the fit may have ended before it began
            self._writer.close()
            self._writer = None


def _package() -> tuple[Any, Any, Any]:
    """Return the writer of event files, and the modules of events and of summaries, of a package that is installed."""
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
