"""A fit that was interrupted, at any step and in any way, ends as if it had not been."""

import json
import time
import warnings
from contextlib import suppress

import numpy as np
import pytest

import xpcnn
from tests import strict
from tests.models import CLASSES, SHAPE, bits, mixed, plain, samples, without_seconds
from xpcnn import backend, callbacks, files, layers, metrics, optimizers, schedules
from xpcnn.communicator import Communicator
from xpcnn.training import checkpoints

#: 40 images, 16 a batch: 3 steps an epoch, 9 in all.
ARGUMENTS = {"epochs": 3, "batch_size": 16, "seed": 5, "verbose": 0}
STEPS = 9


class Interrupt(callbacks.Callback):
    """Ends the fit after so many steps, as Ctrl-C does."""

    def __init__(self, step):
        self.step = step

    def on_step_end(self, fit):
        if fit.step == self.step:
            fit.interrupt("asked to")


class PowerError(Exception):
    """The power is out."""


class PowerCut(Interrupt):
    """Ends the fit after so many steps, as nobody expects."""

    def on_step_end(self, fit):
        if fit.step == self.step:
            raise PowerError


def fit(model, *called, **arguments):
    x, y = samples(40)
    return model.fit(x, y, **(ARGUMENTS | arguments), callbacks=called)


def same(model, history, other, other_history):
    assert bits(model) == bits(other)
    assert history.steps == other_history.steps
    assert without_seconds(history) == without_seconds(other_history)
    assert model.optimizer.step == other.optimizer.step
    assert model.epochs == other.epochs
    for name, moment in model.optimizer.state().items():
        assert moment.tobytes() == other.optimizer.state()[name].tobytes()


def compiled(build, xp=np):
    return build(xp, optimizer=optimizers.AdamW(schedules.Cosine(0.01, STEPS)), metrics=["accuracy", "f1"])


# To the same end


@pytest.mark.parametrize("step", range(1, STEPS + 1))
@pytest.mark.parametrize("build", [plain, mixed])
def test_a_fit_interrupted_at_any_step_ends_with_the_same_bits(xp, tmp_path, build, step):
    path = tmp_path / "a.checkpoint"
    arguments = {"augment": "light", "validation_split": 0.2, "batch_size": 12}
    whole, model, resumed = compiled(build, xp), compiled(build, xp), compiled(build, xp)
    history = fit(whole, **arguments)
    fit(model, Interrupt(step), callbacks.Checkpoint(path), **arguments)
    assert model.optimizer.step == step
    same(resumed, fit(resumed, resume=path, **arguments), whole, history)


@pytest.mark.parametrize("step", range(1, STEPS))
def test_a_fit_without_power_goes_on_from_the_last_checkpoint(xp, tmp_path, step):
    path = tmp_path / "a.checkpoint"
    whole, model, resumed = compiled(mixed, xp), compiled(mixed, xp), compiled(mixed, xp)
    history = fit(whole)
    with pytest.raises(PowerError):
        fit(model, PowerCut(step), callbacks.Checkpoint(path, steps=2))
    written = [n for n in range(1, step) if n % 2 == 0 or n % 3 == 0]
    if not written:
        assert not path.exists()
        return
    assert checkpoints.read(path).description["step"] == written[-1]
    same(resumed, fit(resumed, resume=path), whole, history)


def test_a_fit_may_be_broken_off_again_and_again(tmp_path):
    path = tmp_path / "a.checkpoint"
    whole = compiled(mixed)
    history = fit(whole)
    for step in range(1, STEPS):
        model = compiled(mixed, np)
        fit(model, Interrupt(step), callbacks.Checkpoint(path), resume=path if step > 1 else None)
    resumed = compiled(mixed)
    same(resumed, fit(resumed, resume=path), whole, history)


def test_the_model_that_was_interrupted_can_go_on_itself_whatever_became_of_it(tmp_path):
    whole, model = compiled(mixed), compiled(mixed)
    history = fit(whole)
    fit(model, Interrupt(4), callbacks.Checkpoint(tmp_path / "a"))
    model.set_weights({name: weight * 2 for name, weight in model.get_weights().items()})
    same(model, fit(model, resume=tmp_path / "a"), whole, history)


def test_a_second_fit_is_resumed_as_the_second(tmp_path):
    whole, model, resumed = compiled(mixed), compiled(mixed), compiled(mixed)
    fit(whole)
    history = fit(whole)
    fit(model)
    fit(model, Interrupt(STEPS + 4), callbacks.Checkpoint(tmp_path / "a"))
    same(resumed, fit(resumed, resume=tmp_path / "a"), whole, history)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_on_any_number_of_threads(tmp_path, threads):
    whole, model, resumed = compiled(mixed), compiled(mixed), compiled(mixed)
    history = fit(whole, shards=3, threads=1)
    fit(model, Interrupt(4), callbacks.Checkpoint(tmp_path / "a"), shards=3, threads=2)
    same(resumed, fit(resumed, shards=3, threads=threads, resume=tmp_path / "a"), whole, history)


@pytest.mark.parametrize(("first", "second"), [(np, strict.xp), (strict.xp, np)])
def test_from_the_host_to_a_device_and_back(tmp_path, first, second):
    whole, model, resumed = compiled(mixed), compiled(mixed, first), compiled(mixed, second)
    history = fit(whole, shards=1)
    fit(model, Interrupt(4), callbacks.Checkpoint(tmp_path / "a"), shards=1)
    again = fit(resumed, shards=1, resume=tmp_path / "a")
    assert resumed.xp is second
    np.testing.assert_allclose(again.steps, history.steps, rtol=1e-3)
    for name, weight in resumed.get_weights().items():
        np.testing.assert_allclose(weight, whole.get_weights()[name], atol=1e-3)


@pytest.mark.parametrize("end", [Interrupt, PowerCut])
def test_what_callbacks_know_goes_on_with_the_fit(tmp_path, end):
    x, y = samples(20, seed=3)

    def made(path):
        return (
            callbacks.Checkpoint(path),  # first, and yet it knows what those behind it know
            callbacks.EarlyStopping(2, "loss"),
            callbacks.SaveBest(tmp_path / "best", "loss"),
            callbacks.EvaluateEvery(x, y, 2),
            callbacks.LearningRate(lambda epoch: 0.01 if epoch < 3 else 1.0),
            callbacks.CSVLog(tmp_path / "history.csv"),
        )

    arguments = {"epochs": 9}
    whole, model, resumed = compiled(plain), compiled(plain), compiled(plain)
    of_whole, of_resumed = made(tmp_path / "w"), made(tmp_path / "a")
    history = fit(whole, *of_whole, **arguments)
    best, log = (tmp_path / "best").read_bytes(), (tmp_path / "history.csv").read_text()
    with suppress(PowerError):
        fit(model, *made(tmp_path / "a"), end(10), **arguments)
    again = fit(resumed, *of_resumed, resume=tmp_path / "a", **arguments)
    same(resumed, again, whole, history)
    assert of_resumed[1].best_epoch == of_whole[1].best_epoch < history.epochs < 9
    assert of_resumed[3].results == of_whole[3].results
    assert (tmp_path / "best").read_bytes() == best
    assert [line.rsplit(",", 1)[0] for line in (tmp_path / "history.csv").read_text().split()] == [
        line.rsplit(",", 1)[0] for line in log.split()
    ]


def test_a_learning_rate_that_a_callback_has_set_is_kept(tmp_path):
    class Halve(callbacks.Callback):
        def on_epoch_end(self, fit):
            fit.optimizer.learning_rate /= 2

    class Look(callbacks.Callback):
        logs = None

        def on_epoch_begin(self, fit):
            self.logs = self.logs or dict(fit.logs)

    whole, model, resumed, look = plain(), plain(), plain(), Look()
    history = fit(whole, Halve())
    fit(model, Halve(), Interrupt(4), callbacks.Checkpoint(tmp_path / "a"))
    again = fit(resumed, Halve(), look, resume=tmp_path / "a")
    same(resumed, again, whole, history)
    assert again.history["lr"] == [0.001, 0.0005, 0.00025]
    assert look.logs["lr"] == 0.001


@pytest.mark.parametrize("step", [3, 7, 9, 11, 13, 18, 20])
def test_a_plateau_goes_on_with_the_fit(tmp_path, step):
    def plateau():
        return callbacks.ReduceLROnPlateau("loss", 0.5, patience=2, min_delta=9.0, cooldown=1)

    whole, model, resumed = plain(), plain(), plain()
    history = fit(whole, plateau(), epochs=7)
    fit(model, plateau(), Interrupt(step), callbacks.Checkpoint(tmp_path / "a"), epochs=7)
    again = fit(resumed, plateau(), resume=tmp_path / "a", epochs=7)
    same(resumed, again, whole, history)
    assert [rate / 0.001 for rate in history.history["lr"]] == [1, 1, 1, 0.5, 0.5, 0.5, 0.25]


def test_a_callback_may_make_its_state_when_its_fit_begins(tmp_path):
    class Averaged(callbacks.Callback):
        def on_fit_begin(self, fit):
            self.average = fit.network.parameters.copy()

        def on_step_end(self, fit):
            self.average += 0.1 * (fit.network.parameters - self.average)

        def state(self):
            return {"average": self.average}

        def load_state(self, state):
            self.average = state["average"]

    of_whole, of_resumed = Averaged(), Averaged()
    fit(plain(), of_whole)
    fit(plain(), Averaged(), Interrupt(4), callbacks.Checkpoint(tmp_path / "a"))
    fit(plain(), of_resumed, resume=tmp_path / "a")
    assert of_resumed.average.tobytes() == of_whole.average.tobytes()


def test_a_history_of_any_length_can_be_read_back(tmp_path):
    class Long(callbacks.Callback):
        def on_epoch_end(self, fit):
            fit.history.history.setdefault("matrix", []).append(np.full((400, 400), 1 / 3).tolist())

    fit(plain(), Long(), callbacks.Checkpoint(tmp_path / "a"))
    assert (tmp_path / "a").stat().st_size > files.MOST_HEADER_BYTES
    again = plain()
    assert fit(again, resume=tmp_path / "a").history["matrix"][2][0][0] == 1 / 3


def test_numbers_of_numpy_are_numbers(tmp_path):
    arguments = {"validation_split": np.float32(0.25), "shards": np.int64(2), "batch_size": np.int32(8)}
    fit(plain(), Interrupt(2), callbacks.Checkpoint(tmp_path / "a"), **arguments)
    fit(plain(), resume=tmp_path / "a", **(arguments | {"validation_split": 0.25, "shards": 2}))


# When it is written


def written_at(monkeypatch, **arguments):
    steps = []
    monkeypatch.setattr(checkpoints, "write", lambda path, fit, record: steps.append(fit.step))
    fit(plain(), callbacks.Checkpoint("a", **arguments))
    return steps


def test_it_is_written_after_each_epoch_and_every_so_many_steps(monkeypatch):
    assert written_at(monkeypatch) == [3, 6, 9]
    assert written_at(monkeypatch, steps=1) == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert written_at(monkeypatch, steps=4) == [3, 4, 6, 8, 9]


def test_it_is_written_every_so_many_minutes_by_a_clock_that_nobody_sets(monkeypatch):
    minutes = iter(np.arange(100) * 2.0)
    monkeypatch.setattr(time, "monotonic", lambda: next(minutes) * 60)
    monkeypatch.setattr(time, "time", lambda: pytest.fail("a clock that is set"))
    assert written_at(monkeypatch, minutes=4) == [2, 3, 5, 6, 8, 9]


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"steps": 1.5}, {"minutes": 0}, {"minutes": float("nan")}])
def test_steps_and_minutes_are_above_zero(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be a"):
        callbacks.Checkpoint("a", **wrong)


def test_the_old_one_stays_where_the_new_one_cannot_be_written(tmp_path, monkeypatch):
    path = tmp_path / "a"
    fit(plain(), Interrupt(2), callbacks.Checkpoint(path))
    before = path.read_bytes()

    def fail(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        fit(plain(), callbacks.Checkpoint(path))
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a"]


class Spoil(callbacks.Callback):
    """Makes a gradient infinite at the fifth step."""

    def on_gradient(self, fit, result):
        if fit.step == 4:
            result.gradient[0] = np.inf


@pytest.mark.parametrize("watched", [True, False])
def test_weights_that_are_not_finite_are_never_kept(tmp_path, watched):
    path = tmp_path / "a"
    watch = [callbacks.StopOnNaN()] if watched else []
    with np.errstate(invalid="ignore"), pytest.raises(FloatingPointError, match="Step 5"):
        fit(plain(), Spoil(), *watch, callbacks.Checkpoint(path, steps=1))
    assert checkpoints.read(path).description["step"] == 4
    whole, resumed = plain(), plain()
    same(whole, fit(whole), resumed, fit(resumed, resume=path))


def test_statistics_that_are_not_finite_are_never_kept(tmp_path):
    model = mixed()
    x, y = samples(40)
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match="Step 3: weights, running statistics"):
        model.fit(
            x * np.float32(1e25),
            y,
            epochs=1,
            batch_size=16,
            verbose=0,
            callbacks=[callbacks.Checkpoint(tmp_path / "a")],
        )
    assert not (tmp_path / "a").exists()


def test_a_device_that_has_failed_is_not_kept_before_it_is_asked(device, tmp_path):
    x, y = samples(40)
    x = np.where(np.arange(40)[:, None, None, None] == 7, np.float32(3e38), x)
    called = [callbacks.StopOnNaN(), callbacks.Checkpoint(tmp_path / "a", 1)]
    with pytest.raises(FloatingPointError, match=r"Step 2, epoch 1: the output of 'conv2d_1' is not finite"):
        plain(device).fit(x, y, epochs=3, batch_size=4, shuffle=False, verbose=0, callbacks=called)
    saved = checkpoints.read(tmp_path / "a")
    assert saved.description["step"] == 1
    assert all(np.isfinite(a).all() for name, a in saved.tensors.items() if name.startswith(("model", "moments")))


# What it holds, and what is finished


def test_a_finished_fit_has_nothing_left_to_do(tmp_path):
    whole, again = compiled(mixed), compiled(mixed)
    history = fit(whole, callbacks.Checkpoint(tmp_path / "a"))
    assert checkpoints.read(tmp_path / "a").finished
    called = Interrupt(0)
    called.on_step_end = lambda fit: pytest.fail("a step was made")
    same(again, fit(again, called, resume=tmp_path / "a"), whole, history)


@pytest.mark.parametrize("step", [4, 6])
def test_a_fit_that_was_stopped_for_good_stays_so(tmp_path, step):
    class Enough(Interrupt):
        def on_step_end(self, fit):
            if fit.step == self.step:
                fit.stop("enough")

    whole, again = compiled(mixed), compiled(mixed)
    history = fit(whole, Enough(step), callbacks.Checkpoint(tmp_path / "a"))
    assert len(history.steps) == step
    saved = checkpoints.read(tmp_path / "a")
    assert saved.finished
    same(again, fit(again, resume=tmp_path / "a"), whole, history)


@pytest.mark.parametrize("first", ["stop", "interrupt"])
def test_a_fit_that_is_stopped_and_interrupted_in_one_step_is_stopped(tmp_path, first):
    class Both(callbacks.Callback):
        def on_step_end(self, fit):
            if fit.step == 4:
                for name in (first, "stop" if first == "interrupt" else "interrupt"):
                    getattr(fit, name)("enough")

    whole, again = compiled(mixed), compiled(mixed)
    history = fit(whole, Both(), callbacks.Checkpoint(tmp_path / "a"))
    assert checkpoints.read(tmp_path / "a").finished
    same(again, fit(again, resume=tmp_path / "a"), whole, history)


def test_an_interrupted_one_is_not_finished(tmp_path):
    fit(plain(), Interrupt(4), callbacks.Checkpoint(tmp_path / "a"))
    assert not checkpoints.read(tmp_path / "a").finished


def test_a_record_is_kept_for_whoever_resumes(tmp_path):
    record = {"arguments": {"epochs": 3}, "images": [["größe\n.png", 3]], "odd": "caf\udce9"}
    fit(plain(), callbacks.Checkpoint(tmp_path / "a", record=record))
    assert checkpoints.read(tmp_path / "a").record == record
    fit(plain(), callbacks.Checkpoint(tmp_path / "a"))
    assert checkpoints.read(tmp_path / "a").record is None


def test_a_runs_directory_stands_for_the_checkpoint_in_it(tmp_path):
    whole, resumed = plain(), plain()
    history = fit(whole, callbacks.Checkpoint(tmp_path / "checkpoint.safetensors"))
    same(resumed, fit(resumed, resume=tmp_path), whole, history)


# What does not belong together


def narrower(xp=np, **compiled):
    model = xpcnn.Sequential(
        [
            layers.Conv2D(3, 3, activation="relu"),
            layers.MaxPool2D(2),
            layers.Flatten(),
            layers.Dense(CLASSES, activation="softmax"),
        ],
        SHAPE,
        xp,
    )
    model.compile(**compiled)
    return model


def images(changed=(), n=40):
    x, y = samples(n)
    for row in changed:
        x[row, 0, 0, 0] += 1
    return x, y


CHANGES = {
    "epochs was 3, is 4": {"epochs": 4},
    "batch_size was 16, is 8": {"batch_size": 8},
    "seed was 5, is 6": {"seed": 6},
    "shards was None, is 2": {"shards": 2},
    "shuffle was True, is False": {"shuffle": False},
    "augment was None, is 'light'": {"augment": "light"},
    "validation_split was 0.0, is 0.2": {"validation_split": 0.2},
    "validation x was not given, is given": {"validation_data": images()},
    "x differs in 2 of 40 rows, first in row 3": {"x": images((3, 7))[0]},
    "y differs in ": {"y": samples(40)[1][::-1]},
    "x had 40 rows, has 30; y had 40 rows, has 30": dict(zip("xy", images(n=30), strict=True)),
    "sample weights was not given, is given": {"class_weight": {1: 2.0}},
    "layers[0].filters was 4, is 3": {"model": narrower},
    "optimizer.name was 'adam', is 'sgd'": {"optimizer": "sgd"},
    "optimizer.learning_rate was 0.001, is 0.01": {"optimizer": optimizers.Adam(0.01)},
    "loss.label_smoothing was 0.0, is 0.1": {"loss": xpcnn.losses.CrossEntropy(label_smoothing=0.1)},
    "metrics[0].name was 'accuracy', is 'top_k'": {"metrics": [metrics.TopK(2)]},
}


@pytest.mark.parametrize("told", CHANGES)
def test_another_fit_is_refused_and_what_differs_is_named(tmp_path, told):
    path = tmp_path / "a"
    fit(plain(), Interrupt(4), callbacks.Checkpoint(path))
    change = dict(CHANGES[told])
    build = change.pop("model", plain)
    model = build(**{name: change.pop(name) for name in ("optimizer", "loss", "metrics") if name in change})
    before = bits(model)
    x, y = samples(40)
    with pytest.raises(
        ValueError, match=r"'.*a' belongs to another fit: .*Use the same settings and data to resume it"
    ) as caught:
        model.fit(**({"x": x, "y": y} | ARGUMENTS | change), resume=path)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
    assert bits(model) == before
    assert (model.epochs, model.optimizer.step) == (0, 0)


def test_many_differences_are_counted(tmp_path):
    fit(mixed(), callbacks.Checkpoint(tmp_path / "a"))
    with pytest.raises(ValueError, match=r", and \d+ more\. Use the same"):
        fit(plain(), resume=tmp_path / "a", seed=9)


def test_callbacks_that_carry_nothing_may_come_and_go_and_others_may_not(tmp_path):
    path = tmp_path / "a"
    fit(plain(), Interrupt(4), callbacks.Checkpoint(path), callbacks.SaveBest(tmp_path / "b"))
    with pytest.raises(
        ValueError, match=r"was written with the callbacks SaveBest. Received: \(none\). Give the same callbacks"
    ):
        fit(plain(), resume=path)
    fit(plain(), callbacks.SaveLast(tmp_path / "c"), callbacks.SaveBest(tmp_path / "b"), resume=path)


def test_other_versions_are_told_of_and_gone_on_with(tmp_path, monkeypatch):
    fit(plain(), Interrupt(4), callbacks.Checkpoint(tmp_path / "a"))
    monkeypatch.setattr(checkpoints, "__version__", "9.9")
    with pytest.warns(UserWarning, match=r"xpcnn was '.*', is '9.9'. Results may not be bit-identical"):
        fit(plain(), resume=tmp_path / "a")


def test_of_other_versions_the_first_rank_alone_tells(tmp_path, monkeypatch):
    class Second(Communicator):
        rank = 1

        def broadcast(self, value):
            return checkpoints.read(tmp_path / "a")  # as the first rank has read it

    fit(plain(), callbacks.Checkpoint(tmp_path / "a"))
    monkeypatch.setattr(checkpoints, "__version__", "9.9")
    with warnings.catch_warnings(action="error"):
        fit(plain(), resume=tmp_path / "a", communicator=Second())


# What is no checkpoint


def test_none_is_a_missing_file(tmp_path):
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(FileNotFoundError, match=r"There is no checkpoint '.*'. Give one that"):
            fit(plain(), resume=path)


def test_a_model_is_no_checkpoint_and_a_checkpoint_no_model(tmp_path):
    plain().save(tmp_path / "model")
    with pytest.raises(ValueError, match=r"model' is a model, not a checkpoint. Give a checkpoint"):
        fit(plain(), resume=tmp_path / "model")
    fit(plain(), callbacks.Checkpoint(tmp_path / "a"))
    with pytest.raises(ValueError, match=r"a' does not contain a loadable model: it is a checkpoint, not a model"):
        xpcnn.load(tmp_path / "a")


def test_one_of_a_later_format_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "FORMAT", 2)
    fit(plain(), callbacks.Checkpoint(tmp_path / "a"))
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"is a checkpoint of format 2. Give a checkpoint of format 1"):
        fit(plain(), resume=tmp_path / "a")


def damaged(path, change):
    tensors, description = files.load_tensors(path)
    change(tensors, description)
    files.save_tensors(path, tensors, description)


DAMAGES = {
    "no weights": lambda tensors, description: tensors.pop("model.dense_1.bias"),
    "weights of another shape": lambda tensors, d: tensors.update({"model.dense_1.bias": np.zeros(9)}),
    "NaN": lambda tensors, d: tensors.update({"model.dense_1.bias": np.full(3, np.nan, np.float32)}),
    "no moments": lambda tensors, d: [tensors.pop(n) for n in list(tensors) if n.startswith("moments.")],
    "infinite moments": lambda tensors, d: tensors["moments.square.dense_1.bias"].fill(np.inf),
    "no losses": lambda tensors, d: tensors.pop("epoch.losses"),
    "too few losses": lambda tensors, d: tensors.update({"epoch.losses": np.zeros(0)}),
    "no steps": lambda tensors, d: tensors.pop("steps"),
    "no settings": lambda t, description: description.pop("settings"),
    "settings that are none": lambda t, description: description.update(settings=[3]),
    "a negative step": lambda t, description: description.update(step=-1),
    "a fraction of an epoch": lambda t, description: description.update(epoch=1.5),
    "an epoch before the first": lambda t, description: description.update(first_epoch=2),
    "an epoch after the last": lambda t, description: description.update(epoch=4),
    "more steps than there are": lambda t, description: description.update(step=10**30),
    "text for a count": lambda t, description: description.update(done="2"),
    "no history": lambda tensors, d: tensors.update(history=np.frombuffer(b"null", np.uint8)),
    "a history that is no text": lambda tensors, d: tensors.update(history=np.frombuffer(b"{", np.uint8)),
    "callbacks that are none": lambda tensors, d: tensors.update(callbacks=np.frombuffer(b"7", np.uint8)),
    "a rate that is none": lambda t, description: description.update(learning_rate="fast"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_one_is_refused_in_one_line(tmp_path, damage):
    path = tmp_path / "a"
    fit(plain(), Interrupt(4), callbacks.Checkpoint(path))
    damaged(path, DAMAGES[damage])
    model = plain()
    before = bits(model)
    with pytest.raises(ValueError, match=r"a' (is damaged and cannot be resumed|belongs to another fit)") as caught:
        fit(model, resume=path)
    assert "\n" not in str(caught.value)
    assert bits(model) == before


def test_more_steps_of_an_epoch_than_its_training_part_has_are_refused(tmp_path):
    path, half = tmp_path / "a", {"validation_split": 0.5, "batch_size": 10}
    fit(plain(), Interrupt(1), callbacks.Checkpoint(path), **half)
    three = {f"epoch.{name}": np.ones(3, np.float32) for name in ("losses", "weights")}
    damaged(path, lambda tensors, description: (tensors.update(three), description.update(done=3)))
    with pytest.raises(ValueError, match="its counts are inconsistent"):
        fit(plain(), resume=path, **half)


def test_the_description_is_plain_json(tmp_path):
    fit(plain(), Interrupt(4), callbacks.Checkpoint(tmp_path / "a"))
    _, description = files.load_tensors(tmp_path / "a")
    assert json.loads(json.dumps(description)) == description
    assert description["versions"].keys() == {"xpcnn", "numpy", "machine", "arithmetic"}


class TestKernelsForLongRuns:
    """With Numba chosen by ``auto``, kernels compute a fit from its first step to its last, or none of it."""

    @pytest.fixture(autouse=True)
    def installed(self):
        pytest.importorskip("numba")

    @pytest.fixture
    def long(self, monkeypatch):
        """Return a function that sets how many multiplications make a run long."""
        return lambda multiplications: monkeypatch.setattr(backend, "WORTH_COMPILING", multiplications)

    @pytest.mark.parametrize("compiled", [False, True])
    def test_a_resumed_fit_computes_as_it_began(self, tmp_path, long, compiled):
        whole = plain(xp="numba" if compiled else "numpy")
        history = fit(whole)
        long(0 if compiled else np.inf)
        saved = callbacks.Checkpoint(tmp_path / "fit")
        fit(plain(xp="auto"), Interrupt(4), saved)
        assert checkpoints.read(tmp_path / "fit").used_numba == compiled
        long(np.inf if compiled else 0)  # as if other runs were long now
        resumed = plain(xp="auto")
        same(resumed, fit(resumed, Interrupt(99), callbacks.Checkpoint(tmp_path / "fit"), resume=tmp_path / "fit"),
             whole, history)  # fmt: skip

    def test_all_epochs_count_and_validation_is_computed_as_training(self, tmp_path, long):
        x, y = samples(40)
        model = plain(xp="auto")
        seen = []
        long(model.network.multiplications * 3 * 40 * 3)
        note = Noted(seen)
        fit(model, note)
        fit(model, note, epochs=2)
        assert seen == ["cpu", None]
        bits_of = {}
        for xp in ("auto", "numba"):
            bits_of[xp] = fit(plain(xp=xp), validation_data=(x[:7], y[:7])).history["val_loss"]
        assert bits_of["auto"] == bits_of["numba"]


class Noted(callbacks.Callback):
    """Notes which kernels compute a fit."""

    def __init__(self, seen):
        self.seen = seen

    def on_fit_begin(self, fit):
        self.seen.append(backend.kernels(fit.work.xp))
