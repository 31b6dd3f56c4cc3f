"""Logging to MLflow."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from xpcnn.extras import install_line
from xpcnn.training.callbacks.base import Callback
from xpcnn.training.fit import Fit


class MLflow(Callback):
    """Log the fit's arguments, optimiser and loss as parameters of an MLflow run, and the metrics of each epoch.

    Only scalar metrics are logged; their step is the epoch number. If a run is active, it is used and stays active.
    Otherwise a new run is started, and ends as FINISHED, KILLED (interrupted) or FAILED; a fit resumed from a
    checkpoint continues its own run. Configure tracking server and experiment in MLflow itself, with
    ``mlflow.set_tracking_uri``, ``mlflow.set_experiment`` or its environment variables. Raises ImportError, saying how
    to install it, if mlflow is missing.
    """

    writes = True

    def __init__(self) -> None:
        try:
            self._mlflow: Any = import_module("mlflow")
        except ImportError as error:
            raise ImportError(f"callbacks.MLflow needs mlflow ({error}). Run `{install_line('mlflow')}`.") from error
        self._owns = False

    def on_fit_begin(self, fit: Fit) -> None:
        """Forget the run of an earlier fit."""
        self._run_id: str | None = None
        self._owns, self._logs, self._status = False, False, "FAILED"

    def on_epoch_begin(self, fit: Fit) -> None:
        """Find or start the run before the first epoch, since only then is the run of a checkpoint known."""
        if self._logs:
            return
        active = self._mlflow.active_run()
        self._owns, self._logs = active is None, True
        run_id = (active or self._mlflow.start_run(run_id=self._run_id)).info.run_id
        if run_id != self._run_id:  # a resumed fit has logged them, and its learning rate may have changed since
            self._run_id = run_id
            optimizer, loss = _flat("optimizer", fit.optimizer.config()), _flat("loss", fit.loss.config())
            self._mlflow.log_params({**fit.task.arguments, **optimizer, **loss})

    def on_epoch_end(self, fit: Fit) -> None:
        """Log the metrics of the epoch."""
        figures = {name: float(figure) for name, figure in fit.logs.items() if np.ndim(figure) == 0}
        self._mlflow.log_metrics(figures, step=fit.epoch)

    def on_stop(self, fit: Fit) -> None:
        """Record that no error ended the fit."""
        self._status = "KILLED" if fit.interrupted else "FINISHED"

    def on_fit_end(self, fit: Fit) -> None:
        """End the run, if the fit started it."""
        if self._owns:
            self._mlflow.end_run(self._status)
            self._owns = False

    def state(self) -> dict[str, Any]:
        """Return the ID of the run."""
        return {"run_id": self._run_id}

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue the run of the resumed fit."""
        self._run_id = None if state["run_id"] is None else str(state["run_id"])


def _flat(part: str, config: dict[str, Any]) -> dict[str, Any]:
    """Return {"optimizer": "adam", "optimizer.learning_rate": 0.001, …}."""
    return {part if key == "name" else f"{part}.{key}": value for key, value in config.items()}
