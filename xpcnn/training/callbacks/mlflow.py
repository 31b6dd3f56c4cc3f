"""The history for MLflow."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from xpcnn.extras import install_line
from xpcnn.training.callbacks.base import Callback
from xpcnn.training.fit import Fit


class MLflow(Callback):
    """Log the fit's arguments, optimiser and loss as parameters of an MLflow run, and the figures of each epoch.

    Metrics are those of one number; their step is the number of the epoch. The run is the active one, which stays
    active, or else one of its own, ended as FINISHED, KILLED (interrupted) or FAILED; with a checkpoint, a fit that is
    resumed goes on in its own. Where runs are kept and what they are called is told to MLflow itself, by
    ``mlflow.set_tracking_uri``, ``mlflow.set_experiment`` and its environment variables. Raises ImportError, saying how
    to install it, where there is no mlflow.
    """

    writes = True

    def __init__(self) -> None:
        try:
            self._mlflow: Any = import_module("mlflow")
        except ImportError as error:
            raise ImportError(f"callbacks.MLflow needs mlflow ({error}). Run `{install_line('mlflow')}`.") from error
        self._owns = False

    def on_fit_begin(self, fit: Fit) -> None:
        """Forget the run of another fit."""
        self._run_id: str | None = None
        self._owns, self._logs, self._status = False, False, "FAILED"

    def on_epoch_begin(self, fit: Fit) -> None:
        """Find or start the run in the first epoch, when a checkpoint has told which it was."""
        if self._logs:
            return
        active = self._mlflow.active_run()
        self._owns, self._logs = active is None, True
        run_id = (active or self._mlflow.start_run(run_id=self._run_id)).info.run_id
        if run_id != self._run_id:  # a resumed fit has logged its arguments, and its learning rate may be another now
            self._run_id = run_id
            optimizer, loss = _flat("optimizer", fit.optimizer.config()), _flat("loss", fit.loss.config())
            self._mlflow.log_params({**fit.task.arguments, **optimizer, **loss})

    def on_epoch_end(self, fit: Fit) -> None:
        """Log the epoch's figures."""
        figures = {name: float(figure) for name, figure in fit.logs.items() if np.ndim(figure) == 0}
        self._mlflow.log_metrics(figures, step=fit.epoch)

    def on_stop(self, fit: Fit) -> None:
        """Note that no error ended the fit."""
        self._status = "KILLED" if fit.interrupted else "FINISHED"

    def on_fit_end(self, fit: Fit) -> None:
        """End a run of the fit's own."""
        if self._owns:
            self._mlflow.end_run(self._status)
            self._owns = False

    def state(self) -> dict[str, Any]:
        """Return which run this is."""
        return {"run_id": self._run_id}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on in the run of the fit that is resumed."""
        self._run_id = None if state["run_id"] is None else str(state["run_id"])


def _flat(part: str, config: dict[str, Any]) -> dict[str, Any]:
    """Return {"optimizer": "adam", "optimizer.learning_rate": 0.001, …}."""
    return {part if key == "name" else f"{part}.{key}": value for key, value in config.items()}
