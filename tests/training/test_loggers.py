"""Histories for other tools, each read back by the tool itself, also after a fit was killed and resumed."""

import json
import math
import re
import sys

import numpy as np
import pytest

from tests.models import mixed, plain, samples
from xpcnn.extras import install_line
from xpcnn.training import callbacks
from xpcnn.training.callbacks import tensorboard as tensorboard_callback


def fit(model, *called, **arguments):
    x, y = samples()
    return model.fit(x, y, **{"epochs": 4, "batch_size": 16, "verbose": 0, "callbacks": called, **arguments})


class Killed(BaseException):
    """What ends a process without any care."""


class Kill(callbacks.Callback):
    """Ends a fit after an epoch was logged and before its checkpoint is written."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_end(self, fit):
        if fit.epoch == self.epoch:
            raise Killed


def killed_and_resumed(path, log, epoch=3):
    """Fit, kill the fit in an epoch's end, and resume it from the checkpoint of the epoch before."""
    checkpoint = callbacks.Checkpoint(path)
    with pytest.raises(Killed):
        fit(mixed(), log(), Kill(epoch), checkpoint)
    return fit(mixed(), log(), checkpoint, resume=path)


# Lines of JSON


def lines(path):
    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    return [json.loads(line, parse_constant=refuse) for line in path.read_text().splitlines()]


def test_each_epoch_is_a_line_of_json_with_every_figure(tmp_path):
    log = callbacks.JSONLines(tmp_path / "a")
    model = plain(metrics=["accuracy", "confusion_matrix"])
    history = fit(model, log, validation_split=0.2).history
    read = lines(tmp_path / "a")
    assert [line.pop("epoch") for line in read] == [1, 2, 3, 4]
    assert read == [{name: column[epoch] for name, column in history.items()} for epoch in range(4)]
    assert np.shape(read[0]["val_confusion_matrix"]) == (3, 3)


def test_a_line_is_there_when_its_epoch_ends_and_those_before_it_are_not_written_again(tmp_path):
    path, seen = tmp_path / "a", []

    class Look(callbacks.Callback):
        def on_epoch_end(self, fit):
            seen.append((path.stat().st_ino, len(lines(path))))

    fit(plain(), callbacks.JSONLines(path), Look())
    assert seen == [(seen[0][0], count) for count in (1, 2, 3, 4)]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_what_is_not_finite_is_null(tmp_path):
    class Odd(callbacks.Callback):
        def on_epoch_end(self, fit):
            fit.history.history["loss"][-1] = [math.nan, math.inf, -math.inf, 1.5][fit.epoch - 1]
            fit.history.history["accuracy"][-1] = [[math.nan, 1.0]]

    fit(plain(), Odd(), callbacks.JSONLines(tmp_path / "a"))
    read = lines(tmp_path / "a")
    assert [line["loss"] for line in read] == [None, None, None, 1.5]
    assert read[0]["accuracy"] == [[None, 1.0]]


def test_a_resumed_fit_has_each_line_once(tmp_path):
    path = tmp_path / "a"
    path.write_text('{"epoch": 77}\n')
    history = killed_and_resumed(tmp_path / "checkpoint", lambda: callbacks.JSONLines(path)).history
    assert [line["epoch"] for line in lines(path)] == [1, 2, 3, 4]
    assert [line["loss"] for line in lines(path)] == history["loss"]


def test_a_line_that_was_cut_off_is_written_again(tmp_path):
    path, checkpoint = tmp_path / "a", callbacks.Checkpoint(tmp_path / "checkpoint")
    with pytest.raises(Killed):
        fit(mixed(), callbacks.JSONLines(path), Kill(3), checkpoint)
    path.write_text(path.read_text()[:-20])
    fit(mixed(), callbacks.JSONLines(path), checkpoint, resume=checkpoint.path)
    assert [line["epoch"] for line in lines(path)] == [1, 2, 3, 4]


def test_a_second_fit_begins_the_file_anew_and_counts_on(tmp_path):
    model, log = plain(), callbacks.JSONLines(tmp_path / "a")
    fit(model, log, epochs=2)
    fit(model, log, epochs=2)
    assert [line["epoch"] for line in lines(tmp_path / "a")] == [3, 4]


# TensorBoard


@pytest.fixture(params=["tensorboard", "tensorboardX"])
def event_writer(request, monkeypatch):
    """Each package on its own: the other one is not there."""
    pytest.importorskip(request.param)
    pytest.importorskip("tensorboard", reason="tensorboard, which reads the files back, is not installed")
    packages = [names for names in tensorboard_callback._PACKAGES if names[0].startswith(f"{request.param}.")]
    monkeypatch.setattr(tensorboard_callback, "_PACKAGES", packages)


def scalars(folder):
    """Return {tag: [(step, value), …]} as TensorBoard shows it."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder)).Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def rounded(history):
    """Return a history's figures by epoch as TensorBoard keeps them, in float32."""
    return {
        name: [(epoch, float(np.float32(value))) for epoch, value in enumerate(column, 1)]
        for name, column in history.items()
        if np.ndim(column) == 1
    }


@pytest.mark.usefixtures("event_writer")
def test_tensorboard_shows_every_single_number_by_epoch(tmp_path):
    model = plain(metrics=["accuracy", "confusion_matrix"])
    history = fit(model, callbacks.TensorBoard(tmp_path / "logs"), validation_split=0.2).history
    shown = scalars(tmp_path / "logs")
    assert shown == rounded(history)
    assert {"loss", "accuracy", "val_loss", "val_accuracy", "lr", "seconds"} == shown.keys()


@pytest.mark.usefixtures("event_writer")
def test_tensorboard_shows_a_resumed_fit_as_one(tmp_path):
    history = killed_and_resumed(tmp_path / "a", lambda: callbacks.TensorBoard(tmp_path / "logs")).history
    shown = scalars(tmp_path / "logs")
    assert len([*(tmp_path / "logs").iterdir()]) == 2
    assert shown["loss"] == rounded(history)["loss"]


@pytest.mark.usefixtures("event_writer")
def test_the_file_is_closed_when_a_fit_fails(tmp_path):
    log = callbacks.TensorBoard(tmp_path)
    with pytest.raises(Killed):
        fit(plain(), log, Kill(2))
    assert [step for step, _ in scalars(tmp_path)["loss"]] == [1, 2]


class Failing(callbacks.Callback):
    def on_fit_begin(self, fit):
        raise KeyError("not today")


@pytest.mark.usefixtures("event_writer")
def test_tensorboard_and_a_fit_that_never_began(tmp_path):
    log = callbacks.TensorBoard(tmp_path)
    with pytest.raises(KeyError, match="not today"):
        fit(plain(), Failing(), log)
    assert [*tmp_path.iterdir()] == []


def missing(monkeypatch, *packages):
    """Let packages be not installed."""
    for name in [name for name in sys.modules if name.partition(".")[0] in packages]:
        monkeypatch.delitem(sys.modules, name)
    for name in packages:
        monkeypatch.setitem(sys.modules, name, None)


def test_what_is_not_installed_is_told_in_one_sentence_before_the_fit(monkeypatch, tmp_path):
    missing(monkeypatch, "tensorboard", "tensorboardX", "mlflow")
    with pytest.raises(
        ImportError, match=f"^callbacks.TensorBoard needs .*{re.escape(install_line('tensorboard'))}`\\.$"
    ):
        callbacks.TensorBoard(tmp_path)
    with pytest.raises(ImportError, match=f"^callbacks.MLflow needs mlflow .*{re.escape(install_line('mlflow'))}`\\.$"):
        callbacks.MLflow()


# MLflow


@pytest.fixture
def mlflow(monkeypatch, tmp_path):
    """MLflow with a store of its own in a folder."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow = pytest.importorskip("mlflow")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri((tmp_path / "runs").as_uri())
    yield mlflow
    while mlflow.active_run():
        mlflow.end_run()
    mlflow.set_tracking_uri(before)


def runs(mlflow):
    """Return all runs, the latest first."""
    return mlflow.MlflowClient().search_runs(["0"])


def metric(mlflow, run, name):
    return [(point.step, point.value) for point in mlflow.MlflowClient().get_metric_history(run.info.run_id, name)]


def test_mlflow_has_the_arguments_and_the_figures_of_a_fit(mlflow):
    model = plain(metrics=["accuracy", "confusion_matrix"], optimizer="sgd")
    history = fit(model, callbacks.MLflow(), validation_split=0.2, augment="light").history
    (run,) = runs(mlflow)
    assert run.info.status == "FINISHED"
    assert mlflow.active_run() is None
    expected = {
        "epochs": "4", "batch_size": "16", "validation_split": "0.2", "shuffle": "True", "seed": "0",
        "augment": "light", "optimizer": "sgd", "optimizer.learning_rate": str(model.optimizer.rate),
        "loss": "cross_entropy",
    }  # fmt: skip
    assert {name: run.data.params[name] for name in expected} == expected
    assert run.data.metrics.keys() == {"loss", "accuracy", "val_loss", "val_accuracy", "lr", "seconds"}
    assert metric(mlflow, run, "loss") == [*enumerate(history["loss"], 1)]


def test_a_run_that_is_active_is_used_and_stays_active(mlflow):
    with mlflow.start_run() as mine:
        fit(plain(), callbacks.MLflow())
        assert mlflow.active_run().info.run_id == mine.info.run_id
    (run,) = runs(mlflow)
    assert len(metric(mlflow, run, "loss")) == 4


def test_a_resumed_fit_goes_on_in_its_run(mlflow, tmp_path):
    """Its parameters stay what they were at first, though the learning rate has changed, and MLflow keeps both figures
    of the epoch that was made twice, which are the same."""

    def called():
        return callbacks.LearningRate(lambda epoch: 0.1**epoch), callbacks.MLflow(), checkpoint

    checkpoint = callbacks.Checkpoint(tmp_path / "a")
    with pytest.raises(Killed):
        fit(mixed(), *called(), Kill(3))
    assert [run.info.status for run in runs(mlflow)] == ["FAILED"]
    history = fit(mixed(), *called(), resume=checkpoint.path).history
    (run,) = runs(mlflow)
    assert run.info.status == "FINISHED"
    assert run.data.params["optimizer.learning_rate"] == "{'name': 'constant', 'rate': 1.0}"
    assert sorted({*metric(mlflow, run, "loss")}) == [*enumerate(history["loss"], 1)]


def test_mlflow_and_a_fit_that_never_began(mlflow):
    with pytest.raises(KeyError, match="not today"):
        fit(plain(), Failing(), callbacks.MLflow())
    assert runs(mlflow) == []


def test_a_fit_that_was_interrupted_is_killed_to_mlflow(mlflow):
    class Interrupt(callbacks.Callback):
        def on_epoch_end(self, fit):
            fit.interrupt("asked to")

    fit(plain(), callbacks.MLflow(), Interrupt())
    assert [run.info.status for run in runs(mlflow)] == ["KILLED"]


def test_a_second_fit_has_a_run_of_its_own(mlflow):
    model, log = plain(), callbacks.MLflow()
    fit(model, log, epochs=2)
    fit(model, log, epochs=1)
    second, first = sorted(runs(mlflow), key=lambda run: -run.info.start_time)
    assert [step for step, _ in metric(mlflow, first, "loss")] == [1, 2]
    assert [step for step, _ in metric(mlflow, second, "loss")] == [3]
