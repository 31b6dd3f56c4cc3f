import math

import numpy as np
import pytest

import xpcnn
from tests.models import CLASSES, SHAPE, bits, mixed, plain, samples, straight
from xpcnn import layers, metrics, optimizers, schedules
from xpcnn.backend import to_host
from xpcnn.training.callbacks import (
    AveragedWeights,
    Callback,
    Checkpoint,
    CSVLog,
    EarlyStopping,
    EvaluateEvery,
    LearningRate,
    ReduceLROnPlateau,
    SaveBest,
    SaveLast,
    StopOnNaN,
)


def fit(model, *called, n=40, **arguments):
    x, y = samples(n)
    return model.fit(x, y, **{"epochs": 3, "batch_size": 16, "verbose": 0, "callbacks": called, **arguments})


class Figures(Callback):
    """Puts given figures into the logs of each epoch, before the callbacks after it see them."""

    def __init__(self, **figures):
        self.figures = figures
        self.weights = []

    def on_fit_begin(self, fit):
        self.first = fit.epoch

    def on_epoch_end(self, fit):
        fit.logs.update({name: values[fit.epoch - self.first - 1] for name, values in self.figures.items()})
        self.weights.append(bits(fit.model))


# Early stopping


def test_a_fit_stops_when_patience_ends_and_takes_back_the_best_weights(xp):
    model, figures = mixed(xp), Figures(loss=[5, 3, 4, 3, 3.5, 1])
    history = fit(model, figures, EarlyStopping(patience=3), epochs=6)
    assert history.epochs == 5
    assert history.stop_reason == "loss has not improved for 3 epochs"
    assert bits(model) == figures.weights[1]
    assert bits(model) != figures.weights[4]


def test_buffers_are_taken_back_with_the_weights():
    model, figures = mixed(), Figures(loss=[1, 2])
    fit(model, figures, EarlyStopping(patience=1), epochs=2)
    assert bits(model)["batch_norm_1.running_mean"] == figures.weights[0]["batch_norm_1.running_mean"]


def test_the_best_weights_are_taken_back_even_if_the_epochs_end_first():
    model, figures = plain(), Figures(loss=[1, 2, 3])
    fit(model, figures, EarlyStopping(patience=50))
    assert bits(model) == figures.weights[0]


def test_the_last_weights_stay_where_that_is_wanted():
    model, figures = plain(), Figures(loss=[1, 2, 3])
    stopping = EarlyStopping(patience=50, restore_best=False)
    fit(model, figures, stopping)
    assert bits(model) == figures.weights[2]
    assert not any(isinstance(value, np.ndarray) for value in stopping.state().values()), "nor are the best ones kept"


@pytest.mark.parametrize(
    ("monitor", "figures", "epochs"),
    [
        (None, {"loss": [3, 2, 1, 1], "val_loss": [1, 2, 3, 4]}, 2),  # the validation part decides where there is one
        ("loss", {"loss": [3, 2, 1, 1], "val_loss": [1, 2, 3, 4]}, 4),
        ("val_accuracy", {"val_accuracy": [0.1, 0.2, 0.2, 0.9]}, 3),  # accuracies should rise
        ("mse", {"mse": [3, 2, 1, 4]}, 4),  # losses should fall, by whatever name
        ("cross_entropy", {"cross_entropy": [3, 4, 1, 1]}, 2),
        ("calibration_error", {"calibration_error": [0.3, 0.2, 0.1, 0.4]}, 4),
        ("loss", {"loss": [math.nan, 2, 1, 4]}, 1),
    ],
)
def test_what_is_monitored_should_fall_or_rise_as_its_name_says(monitor, figures, epochs):
    history = fit(plain(), Figures(**figures), EarlyStopping(1, monitor), epochs=4)
    assert history.epochs == epochs


def test_a_metric_says_itself_whether_lower_is_better():
    class Distance(metrics.Accuracy):
        lower_is_better = True

    class ErrorFree(metrics.Accuracy):
        name, lower_is_better = "error_free", False

    model = plain(metrics=[Distance(), "accuracy", ErrorFree()])
    assert fit(model, Figures(error_free=[3, 2, 1, 4]), EarlyStopping(1, "error_free"), epochs=4).epochs == 2
    assert fit(model, Figures(val_distance=[3, 2, 1, 4]), EarlyStopping(1, "val_distance"), epochs=4).epochs == 4
    assert fit(model, Figures(val_accuracy=[3, 2, 1, 4]), EarlyStopping(1, "val_accuracy"), epochs=4).epochs == 2


def test_a_second_fit_forgets_the_first_ones_best():
    model, stopping = plain(), EarlyStopping(patience=2)
    fit(model, Figures(loss=[1, 2, 3]), stopping)
    assert (stopping.best, stopping.best_epoch) == (1, 1)
    history = fit(model, Figures(loss=[math.nan, 9, 10]), stopping)
    assert (stopping.best, stopping.best_epoch, history.epochs) == (9, 5, 3)


def test_the_reason_to_stop_names_what_was_followed():
    reasons = []

    class Reason(Callback):
        def on_fit_end(self, fit):
            reasons.append(fit.stop_reason)

    fit(plain(), Figures(val_loss=[1, 2, 3]), EarlyStopping(1), Reason(), validation_split=0.2)
    assert reasons == ["val_loss has not improved for 1 epochs"]


@pytest.mark.parametrize("monitor", ["val_loss", "accurracy", "confusion_matrix"])
def test_what_cannot_be_monitored_is_refused_with_what_can(monitor):
    model = plain(metrics=["accuracy", "confusion_matrix"])
    with pytest.raises(ValueError, match=f"no quantity '{monitor}' to monitor. Use one of: loss, accuracy, lr"):
        fit(model, EarlyStopping(1, monitor))


@pytest.mark.parametrize("patience", [0, -1, 2.5, "3", True])
def test_impossible_patience_is_refused(patience):
    with pytest.raises(ValueError, match="patience must be a whole number, at least 1"):
        EarlyStopping(patience)


# Saving


def test_the_best_epoch_is_saved(tmp_path, xp):
    model, figures = mixed(xp), Figures(val_accuracy=[0.5, 0.9, 0.7])
    fit(model, figures, SaveBest(tmp_path / "best.safetensors", "val_accuracy"))
    best = xpcnn.load(tmp_path / "best.safetensors")
    assert bits(best) == figures.weights[1]
    assert best.epochs == 2
    assert model.epochs == 3


def test_the_last_epoch_is_saved(tmp_path):
    path, saved = tmp_path / "last.safetensors", []

    class Look(Callback):
        def on_epoch_end(self, fit):
            saved.append((xpcnn.load(path).epochs, bits(xpcnn.load(path)) == bits(fit.model)))

    fit(plain(), SaveLast(path), Look())
    assert saved == [(1, True), (2, True), (3, True)]
    assert xpcnn.load(path).epochs == 3


@pytest.mark.parametrize("callback", [SaveBest, SaveLast, Checkpoint])
def test_a_name_of_another_library_is_refused_before_the_fit(callback):
    with pytest.raises(ValueError, match=r"'cells\.keras' has the extension of .* Use 'cells\.safetensors'\."):
        callback("cells.keras")


def test_what_an_interrupted_epoch_has_learned_is_saved(tmp_path):
    class Interrupt(Callback):
        def on_step_end(self, fit):
            if fit.step == 4:
                raise KeyboardInterrupt

    model = plain()
    with pytest.raises(KeyboardInterrupt):
        fit(model, SaveLast(tmp_path / "last.safetensors"), Interrupt())
    assert bits(xpcnn.load(tmp_path / "last.safetensors")) == bits(model)


# Log


def test_the_log_has_a_line_for_each_epoch(tmp_path):
    history = fit(plain(), CSVLog(tmp_path / "history.csv"), validation_split=0.2).history
    header, *lines = (tmp_path / "history.csv").read_text().splitlines()
    assert header == "epoch,loss,accuracy,val_loss,val_accuracy,lr,seconds"
    assert [line.split(",")[0] for line in lines] == ["1", "2", "3"]
    for name, column in zip(
        header.split(",")[1:], zip(*(line.split(",")[1:] for line in lines), strict=True), strict=True
    ):
        assert [float(value) for value in column] == pytest.approx(history[name], rel=1e-7)


def test_the_log_is_written_after_every_epoch_and_counts_over_all_fits(tmp_path):
    path, lengths = tmp_path / "history.csv", []

    class Length(Callback):
        def on_epoch_end(self, fit):
            lengths.append(len(path.read_text().splitlines()))

    model = plain()
    fit(model, CSVLog(path), Length(), epochs=2)
    fit(model, CSVLog(path), Length(), epochs=1)
    assert lengths == [2, 3, 2]
    assert path.read_text().splitlines()[1].startswith("3,")


def test_the_log_leaves_out_what_is_no_single_number(tmp_path):
    fit(plain(metrics=["confusion_matrix", "accuracy"]), CSVLog(tmp_path / "history.csv"))
    assert (tmp_path / "history.csv").read_text().splitlines()[0] == "epoch,loss,accuracy,lr,seconds"


# Learning rate


def test_a_schedule_counts_updates_over_all_fits():
    model = plain()
    schedule = schedules.StepDecay(0.1, every=3, factor=0.5)
    assert fit(model, LearningRate(schedule)).history["lr"] == [0.1, 0.05, 0.025]
    assert fit(model, LearningRate(schedule), epochs=1).history["lr"] == [0.0125]


def test_a_function_is_asked_for_every_epoch_and_goes_on_in_a_second_fit():
    model, asked = plain(), []

    def rate(epoch):
        asked.append(epoch)
        return 10.0**-epoch

    assert fit(model, LearningRate(rate), epochs=2).history["lr"] == [1.0, 0.1]
    assert fit(model, LearningRate(rate), epochs=1).history["lr"] == [0.01]
    assert asked == [0, 1, 2]
    assert model.optimizer.rate == plain().optimizer.rate, "the optimiser has its own rate back"


def test_the_rate_that_is_set_is_the_rate_that_is_used():
    model = plain(optimizer="sgd")
    before = bits(model)
    fit(model, LearningRate(lambda epoch: 0.0))
    assert bits(model) == before


def test_a_fit_that_never_began_leaves_the_rate_as_it_is():
    class Failing(Callback):
        def on_fit_begin(self, fit):
            raise KeyError("not today")

    model = plain()
    before = model.optimizer.rate
    with pytest.raises(KeyError, match="not today"):
        fit(model, Failing(), LearningRate(0.5))
    assert model.optimizer.rate == before


def test_an_impossible_rate_is_refused():
    with pytest.raises(ValueError, match="rate must be a number in"):
        fit(plain(), LearningRate(lambda epoch: math.nan))


# Learning rate on a plateau


@pytest.mark.parametrize(
    ("figures", "arguments", "rates"),
    [
        ({"loss": [3, 2, 2, 2, 2]}, {"patience": 2}, [1, 1, 1, 1, 0.1]),
        ({"loss": [3, 2, 2, 1, 1]}, {"patience": 2}, [1, 1, 1, 1, 1]),
        ({"loss": [3, 3, 3, 3, 3]}, {"patience": 1, "factor": 0.5}, [1, 1, 0.5, 0.25, 0.125]),
        ({"loss": [3, 3, 3, 3, 3]}, {"patience": 1, "factor": 0.5, "min_lr": 0.3}, [1, 1, 0.5, 0.3, 0.3]),
        ({"loss": [3, 3, 3, 3, 3]}, {"patience": 1, "min_lr": 2.0}, [1, 1, 1, 1, 1]),
        ({"loss": [3, 3, 3, 3, 3, 3]}, {"patience": 1, "cooldown": 2, "factor": 0.5}, [1, 1, 0.5, 0.5, 0.5, 0.25]),
        ({"loss": [3, 2.9, 2.8, 2.7]}, {"patience": 1, "min_delta": 0.15}, [1, 1, 0.1, 0.1]),
        ({"loss": [3, 2, 1], "val_loss": [1, 1, 1]}, {"patience": 1}, [1, 1, 0.1]),
        ({"accuracy": [0.5, 0.4, 0.6]}, {"patience": 1, "monitor": "accuracy"}, [1, 1, 0.1]),
        ({"loss": [math.nan] * 3}, {"patience": 2}, [1, 1, 0.1]),
    ],
)
def test_the_rate_falls_where_what_is_monitored_does_not_improve(figures, arguments, rates):
    model = plain(optimizer=optimizers.SGD(1.0))
    history = fit(model, Figures(**figures), ReduceLROnPlateau(**arguments), epochs=len(rates))
    assert history.history["lr"] == pytest.approx(rates)


def test_the_reduced_rate_stays_and_a_second_fit_counts_anew():
    model, plateau = plain(optimizer=optimizers.SGD(1.0)), ReduceLROnPlateau(patience=2)
    fit(model, Figures(loss=[1, 2, 3]), plateau)
    assert model.optimizer.rate == pytest.approx(0.1)
    history = fit(model, Figures(loss=[9, 9, 8]), plateau)
    assert history.history["lr"] == pytest.approx([0.1, 0.1, 0.1])
    assert (plateau.best, plateau.best_epoch) == (8, 6)


@pytest.mark.parametrize(
    ("rate", "others", "named"),
    [
        (schedules.Cosine(0.1, steps=9), [], "Cosine"),
        (0.1, [LearningRate(0.5)], "Constant"),
        (0.1, [LearningRate(lambda epoch: 0.1)], "function"),
    ],
)
def test_a_rate_that_something_else_sets_is_refused(rate, others, named):
    model = plain(optimizer=optimizers.SGD(rate))
    with pytest.raises(ValueError, match=f"lowers a constant learning rate, but .*{named}.* sets it anew. Give"):
        fit(model, ReduceLROnPlateau(), *others)


@pytest.mark.parametrize(
    "argument",
    [{"factor": 1}, {"factor": 0}, {"patience": 0}, {"min_delta": -1}, {"cooldown": -1}, {"min_lr": math.inf}],
)
def test_impossible_arguments_of_a_plateau_are_refused(argument):
    with pytest.raises(ValueError, match=f"{next(iter(argument))} must be"):
        ReduceLROnPlateau(**argument)


# Evaluation between steps


def test_data_are_measured_every_few_steps_and_not_trained_on():
    x, y = samples(30, seed=7)
    model, alone, every = mixed(), mixed(), EvaluateEvery(x, y, steps=2)
    fit(model, every)
    fit(alone)
    assert bits(model) == bits(alone)
    assert [result["step"] for result in every.results] == [2, 4, 6, 8]
    assert {*every.results[0]} == {"step", "loss", "accuracy"}


def test_a_measurement_is_of_the_weights_after_the_step():
    x, y = samples(30, seed=7)
    model, every = plain(), EvaluateEvery(x, y, steps=3)
    fit(model, every)
    assert every.results[-1] == {"step": 9, **model.evaluate(x, y)}


@pytest.mark.parametrize("steps", [0, 1.5, "2", False])
def test_impossible_distances_are_refused(steps):
    with pytest.raises(ValueError, match="steps must be a whole number, at least 1"):
        EvaluateEvery(*samples(3), steps)


# Averaged weights


def test_an_average_is_measured_saved_and_kept_and_the_weights_go_on_by_themselves(xp, tmp_path):
    seen, alone = [], mixed(xp)

    class Look(Callback):
        def on_step_end(self, fit):
            seen.append(np.array(to_host(fit.network.parameters)))

    fit(alone, Look())
    share = [1 - min(0.9, n / (n + 9)) for n in range(1, len(seen) + 1)]
    start = np.array(to_host(mixed(xp).network.parameters))
    averages = [start]
    for now, part in zip(seen, share, strict=True):
        averages.append(averages[-1] + part * (now - averages[-1]))
    weights = list(seen)
    seen.clear()
    model = mixed(xp)
    history = fit(model, Look(), AveragedWeights(0.9), SaveLast(tmp_path / "last"))
    for now, before in zip(seen, weights, strict=True):
        np.testing.assert_allclose(now, before, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(to_host(model.network.parameters), averages[-1], rtol=1e-4, atol=1e-6)
    assert bits(xpcnn.load(tmp_path / "last", xp=np)) == bits(model)
    assert bits(model) != bits(alone)
    assert np.isfinite(history.history["loss"]).all()


@pytest.mark.parametrize("step", [1, 3, 4])
def test_an_average_goes_on_with_a_fit_that_was_interrupted(tmp_path, step):
    class Interrupt(Callback):
        def on_step_end(self, fit):
            if fit.step == step:
                fit.interrupt("asked to")

    whole, model, resumed = mixed(), mixed(), mixed()
    fit(whole, AveragedWeights())
    fit(model, AveragedWeights(), Interrupt(), Checkpoint(tmp_path / "a"))
    fit(resumed, AveragedWeights(), resume=tmp_path / "a")
    assert bits(resumed) == bits(whole)


@pytest.mark.parametrize("decay", [0, 1, -1, float("nan")])
def test_a_decay_lies_between_0_and_1(decay):
    with pytest.raises(ValueError, match="decay must be a number in"):
        AveragedWeights(decay)


# NaN


class Spoil(Callback):
    """Makes a weight infinite before the third step, and keeps the weights as they then are."""

    def __init__(self, name, value=np.inf):
        self.name, self.value = name, value

    def on_step_end(self, fit):
        if fit.step == 2:
            fit.network.layout.views(fit.network.parameters)[self.name][...] = self.value
            self.weights = bits(fit.model)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    ("spoilt", "guilty"),
    [("conv2d_1.weight", "conv2d_1"), ("conv2d_2.bias", "conv2d_2"), ("dense_1.bias", "dense_1")],
)
def test_the_first_layer_whose_output_is_not_finite_is_named_and_nothing_is_learned_from_it(xp, spoilt, guilty):
    model, spoil = mixed(xp), Spoil(spoilt, np.nan)
    with pytest.raises(
        FloatingPointError, match=rf"^Step 3, epoch 1: the output of '{guilty}' is not finite; loss nan"
    ):
        fit(model, StopOnNaN(), spoil)
    assert bits(model) == spoil.weights
    assert model.optimizer.step == 2


class Bad(layers.Layer):
    """Passes its input on, and back a gradient that is infinite from the second step on."""

    def forward(self, params, x, context):
        return x, lambda dy, gradients: dy * (math.inf if context.step else 1.0)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_the_last_gradient_that_is_not_finite_is_named_where_all_outputs_are():
    model = xpcnn.Sequential(
        [layers.Conv2D(3, 3), layers.Flatten(), layers.Dense(4), Bad(), layers.Dense(CLASSES, "softmax")],
        input_shape=SHAPE,
        xp=np,
    )
    model.compile(optimizer=optimizers.SGD(0.25))
    with pytest.raises(
        FloatingPointError,
        match=r"Step 2.*the gradient of 'dense_1.bias' is not finite.*rate of 0.25. Use a",
    ):
        fit(model, StopOnNaN())
    assert np.isfinite([*model.get_weights()["dense_1.weight"].flat]).all()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_loss_that_overflows_is_named_where_all_outputs_are_finite():
    model = straight(loss="mse")
    model.set_weights({"dense_1.weight": np.zeros((1, 72)), "dense_1.bias": [1e25]})
    x, y = samples(10)
    with pytest.raises(FloatingPointError, match="Step 1, epoch 1: the loss is not finite; loss inf"):
        model.fit(x, y, verbose=0, callbacks=[StopOnNaN()])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    ("scale", "cause"),
    [(1e30, r"pixel values of up to [\d.]+e\+30\. Scale images to about 0 to 1"), (1, "a learning rate of 1e\\+20")],
)
def test_the_likely_cause_is_told(scale, cause):
    x, y = samples(10)
    model = straight(loss="mse", optimizer=optimizers.SGD(1e20))
    with pytest.raises(FloatingPointError, match=rf"Likely cause: {cause}"):
        model.fit(x * np.float32(scale), y, epochs=5, verbose=0, callbacks=[StopOnNaN()])


def test_weights_that_the_last_update_has_made_infinite_are_told_of_and_not_saved(tmp_path):
    model, path = straight(loss="mse", optimizer=optimizers.SGD(1e38)), tmp_path / "last"
    x, y = samples(10)
    last = SaveLast(path)
    with (
        np.errstate(all="ignore"),
        pytest.raises(FloatingPointError, match=r"Epoch 1: the weights are not finite after"),
    ):
        model.fit(x * 100, y, batch_size=10, verbose=0, callbacks=[StopOnNaN(), last])
    assert not path.exists()
    with pytest.raises(ValueError, match=r"'dense_1.weight' contains NaN or infinite values"):
        model.save(path)


def test_a_model_whose_running_statistics_overflow_is_not_saved_at_the_end_of_an_interrupted_fit(tmp_path):
    class Overflow(Callback):
        def on_step_end(self, fit):
            fit.network.buffers[...] = np.inf
            raise KeyboardInterrupt

    model, path = mixed(), tmp_path / "last"
    with pytest.raises(KeyboardInterrupt):
        fit(model, Overflow(), SaveLast(path))
    assert not path.exists()


def test_a_run_without_nan_is_not_changed():
    watched, alone = mixed(), mixed()
    fit(watched, StopOnNaN())
    fit(alone)
    assert bits(watched) == bits(alone)
