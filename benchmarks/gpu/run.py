"""One run: parts in the order of their importance, none begun after the deadline, each failure recorded."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.gpu.device import Gpu


class Run:
    """What has been measured so far, and for how long more something may begin.

    seconds: after which nothing is begun. data: the folder that contains mnist/, or None. json: the file to keep all
    figures in, or None.
    """

    def __init__(self, gpu: Gpu, seconds: float, data: Path | None = None, json: Path | None = None) -> None:
        self.gpu, self.data = gpu, data
        self.results: dict[str, Any] = {"left_out": []}
        self._json, self._started, self._seconds = json, time.perf_counter(), seconds

    @property
    def took(self) -> float:
        """The seconds since it began."""
        return time.perf_counter() - self._started

    def measure(self, part: str, what: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
        """Add to a part's figures what ``make`` returns, and return it; None if there is no time, or if it fails."""
        if self.took > self._seconds:
            self.results["left_out"].append(f"{what}: no time")
            return None
        try:
            figures = make()
        except Exception as error:
            message = f"{what}: {type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
            print(message, flush=True)
            self.results["left_out"].append(message)
            return None
        finally:
            try:
                self.gpu.tidy()
            except Exception as error:  # after an error that ended the context, whatever follows fails too
                print(f"the GPU's memory was not given back: {error}", flush=True)
        self.results.setdefault(part, []).append(figures)
        self.save()
        return figures

    def save(self) -> None:
        """Write all figures to the file, if there is one."""
        if self._json:
            self._json.write_text(json.dumps(self.results, indent=1) + "\n", encoding="utf-8")
