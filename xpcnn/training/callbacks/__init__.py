"""Actions between the steps of a fit: stop early, save the best, log, change the learning rate."""

from typing import TYPE_CHECKING

from xpcnn.hints import no_attribute
from xpcnn.training.callbacks.averaged_weights import AveragedWeights
from xpcnn.training.callbacks.base import Callback
from xpcnn.training.callbacks.best import EarlyStopping, SaveBest
from xpcnn.training.callbacks.evaluate_every import EvaluateEvery
from xpcnn.training.callbacks.json_lines import JSONLines
from xpcnn.training.callbacks.keep_features import KeepFeatures
from xpcnn.training.callbacks.learning_rate import LearningRate
from xpcnn.training.callbacks.mlflow import MLflow
from xpcnn.training.callbacks.plateau import ReduceLROnPlateau
from xpcnn.training.callbacks.saving import Checkpoint, CSVLog, SaveLast
from xpcnn.training.callbacks.stop_on_nan import StopOnNaN
from xpcnn.training.callbacks.tensorboard import TensorBoard
from xpcnn.training.fit import Model

__all__ = [
    "AveragedWeights",
    "CSVLog",
    "Callback",
    "Checkpoint",
    "EarlyStopping",
    "EvaluateEvery",
    "JSONLines",
    "KeepFeatures",
    "LearningRate",
    "MLflow",
    "Model",
    "ReduceLROnPlateau",
    "SaveBest",
    "SaveLast",
    "StopOnNaN",
    "TensorBoard",
]


if not TYPE_CHECKING:  # which reports missing names itself

    def __getattr__(name):
        raise no_attribute(__name__, "callback", name, __all__)
