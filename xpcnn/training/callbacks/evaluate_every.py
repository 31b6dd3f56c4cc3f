"""Evaluation during epochs."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpcnn.registry import check_int
from xpcnn.training.callbacks.base import Callback
from xpcnn.training.fit import Fit


class EvaluateEvery(Callback):
    """Evaluate the model on the given data every ``steps`` updates.

    ``results`` holds {"step": …, "loss": …, …} for each evaluation.
    """

    def __init__(self, x: Any, y: Any, steps: int) -> None:
        self.x, self.y, self.steps = x, y, check_int("steps", steps, 1)
        self.results: list[dict[str, float]] = []

    def on_step_end(self, fit: Fit) -> None:
        """Evaluate if the step number is a multiple of ``steps``."""
        if fit.step % self.steps == 0:
            self.results.append({"step": fit.step, **fit.model.evaluate(self.x, self.y)})

    def state(self) -> dict[str, Any]:
        """Return the results so far."""
        rows = [{name: np.asarray(value).tolist() for name, value in row.items()} for row in self.results]
        return {"results": rows}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore the results so far."""
        self.results = [dict(row) for row in state["results"]]
