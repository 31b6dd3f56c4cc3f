"""The history in the JSON Lines format."""

from __future__ import annotations

import json
import math
from typing import Any

from xpcnn import files
from xpcnn.training.callbacks.base import Callback
from xpcnn.training.fit import Fit


class JSONLines(Callback):
    """Append one JSON object per epoch to a file: epoch, loss, every metric, learning rate, seconds.

    ``{"epoch": 1, "loss": 0.52, "accuracy": 0.8, …}``; a metric with several values is an array, and NaN and infinite
    values are null, since JSON has neither. Each fit overwrites the file; a resumed fit first writes the epochs of its
    checkpoint, so that no epoch appears twice. Raises OSError for a path that cannot be written.

    >>> log = JSONLines("history.jsonl")
    """

    writes = True

    def __init__(self, path: files.PathLike) -> None:
        self.path = path

    def on_fit_begin(self, fit: Fit) -> None:
        """Overwrite the file of an earlier fit at the first write."""
        self._begun = False

    def on_epoch_end(self, fit: Fit) -> None:
        """Write the whole history at the first call, and one line per epoch afterwards."""
        history, known = fit.history.history, fit.history.epochs
        lines = []
        for place in range(known - 1 if self._begun else 0, known):
            figures = {name: _finite(column[place]) for name, column in history.items()}
            lines.append(f"{json.dumps({'epoch': fit.epoch - known + place + 1, **figures})}\n")
        if self._begun:
            with open(self.path, "a", encoding="utf-8") as file:
                file.writelines(lines)
        else:
            files.write_text(self.path, "".join(lines))
            self._begun = True


def _finite(value: Any) -> Any:
    """Return a value, or nested list, with None for NaN and infinite values."""
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return value if not isinstance(value, float) or math.isfinite(value) else None
