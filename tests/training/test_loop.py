"""A fit: which samples make up which step, what is recorded, and what a second fit starts from."""

import threading
import traceback
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import threadpoolctl

from tests import strict
from tests.models import CLASSES, bits, mixed, plain, samples, straight, without_seconds
from xpcnn import Sequential, data, layers, optimizers
from xpcnn.layers import convolution
from xpcnn.training.callbacks import Callback, LearningRate


class Seen(Callback):
    """Keeps the images and labels of every step."""

    def on_fit_begin(self, fit):
        self.x, self.y = [], []

    def on_step_end(self, fit):
        self.x.append(fit.batch[0].copy())
        self.y.append(fit.batch[1].tolist())


def fit(model, n=40, seed=0, **arguments):
    x, y = samples(n)
    return model.fit(x, y, **{"epochs": 2, "batch_size": 16, "seed": seed, "verbose": 0, **arguments})


# The same seed gives the same run.


def test_the_same_shards_give_the_same_bits_on_any_number_of_threads():
    runs = []
    for threads in (1, 2, 3):
        model = mixed(metrics=["accuracy", "cross_entropy"])
        history = fit(model, 70, batch_size=33, shards=4, threads=threads, validation_split=0.2)
        runs.append((bits(model), history.steps, without_seconds(history)))
    assert runs[0] == runs[1] == runs[2]


def test_the_default_run_does_not_depend_on_the_machine(monkeypatch):
    runs = []
    for processors in (1, 2, 5):
        monkeypatch.setattr("xpcnn.program.threads.available_threads", lambda processors=processors: processors)
        model = mixed()
        fit(model, 70, batch_size=64)
        runs.append(bits(model))
    assert runs[0] == runs[1] == runs[2]


def test_the_same_seed_gives_the_same_run_and_another_another():
    runs = [(model := mixed(), fit(model, seed=seed)) for seed in (3, 3, 4)]
    (one, first), (same, second), (other, third) = runs
    assert bits(one) == bits(same)
    assert first.steps == second.steps
    assert bits(one) != bits(other)
    assert first.steps != third.steps


def test_the_models_seed_decides_the_first_weights():
    assert bits(mixed(seed=1)) == bits(mixed(seed=1)) != bits(mixed(seed=2))


# A second fit goes on.


def test_two_fits_are_one_long_fit():
    at_once, in_parts = mixed(), mixed()
    whole = fit(at_once, epochs=4)
    first, second = fit(in_parts, epochs=1), fit(in_parts, epochs=3)
    assert bits(at_once) == bits(in_parts)
    assert whole.steps == first.steps + second.steps
    assert in_parts.epochs == 4
    assert in_parts.optimizer.step == 4 * 3


def test_every_epoch_has_an_order_of_its_own():
    seen = Seen()
    model = straight(CLASSES, "softmax")
    fit(model, callbacks=[seen])
    first, second = [*chain(*seen.y[:3])], [*chain(*seen.y[3:])]
    assert first != second
    fit(model, epochs=1, callbacks=[seen])
    third = [*chain(*seen.y)]
    assert third not in (first, second)
    assert sorted(first) == sorted(second) == sorted(third) == sorted(samples(40)[1].tolist())


def test_without_shuffling_samples_come_in_their_order_and_the_last_batch_is_smaller():
    seen = Seen()
    fit(straight(CLASSES, "softmax"), epochs=1, shuffle=False, callbacks=[seen])
    assert [len(y) for y in seen.y] == [16, 16, 8]
    assert [*chain(*seen.y)] == samples(40)[1].tolist()


# What is trained on.


def test_the_validation_part_is_stratified_and_never_trained_on():
    x, _ = samples(60)
    y = np.repeat([0, 1, 2], [40, 15, 5])
    x[:, 0, 0, 0] = np.arange(60)  # every image carries its number
    seen = Seen()
    model = straight(CLASSES, "softmax")
    history = model.fit(x, y, epochs=3, validation_split=0.2, callbacks=[seen], verbose=0)
    trained = [{int(number) for x in seen.x[i : i + 2] for number in x[:, 0, 0, 0]} for i in (0, 2, 4)]
    assert trained[0] == trained[1] == trained[2]
    held = sorted(set(range(60)) - trained[0])
    assert np.bincount(y[held]).tolist() == [8, 3, 1]
    measured = model.evaluate(x[held], y[held])
    assert history.history["val_loss"][-1] == pytest.approx(measured["loss"], rel=1e-6)
    assert history.history["val_accuracy"][-1] == measured["accuracy"]


def test_the_seed_decides_the_validation_part():
    runs = [fit(straight(CLASSES, "softmax"), seed=seed, validation_split=0.3, shuffle=False) for seed in (1, 1, 2)]
    assert runs[0].steps == runs[1].steps != runs[2].steps


def test_given_validation_data_are_measured_and_not_trained_on(xp):
    vx, vy = samples(30, seed=9)
    model, alone = mixed(xp), mixed(xp)
    history = fit(model, validation_data=(vx, vy), epochs=1)
    fit(alone, epochs=1)
    assert bits(model) == bits(alone)
    assert history.history["val_loss"] == [pytest.approx(model.evaluate(vx, vy)["loss"], rel=1e-6)]


def test_a_sample_of_weight_two_counts_as_the_sample_twice():
    x, y = samples(12)
    model = plain()
    weights = np.ones(12)
    weights[3] = 2
    loss, gradients = model.loss_and_gradients(x, y, sample_weight=weights)
    twice_loss, twice = model.loss_and_gradients(np.concatenate([x, x[3:4]]), np.append(y, y[3]))
    assert loss == pytest.approx(twice_loss, rel=1e-6)
    for name, gradient in gradients.items():
        np.testing.assert_allclose(gradient, twice[name], rtol=1e-4, atol=1e-6)


def test_a_class_weight_is_the_weight_of_each_of_its_samples():
    x, y = samples(40)
    by_class, by_sample, as_list, both = plain(), plain(), plain(), plain()
    by_class.fit(x, y, class_weight={1: 3.0}, verbose=0)
    by_sample.fit(x, y, sample_weight=np.where(y == 1, 3.0, 1.0), verbose=0)
    as_list.fit(x, y, class_weight=[1, 3, 1], verbose=0)
    both.fit(x, y, class_weight={1: 1.5}, sample_weight=np.where(y == 1, 2.0, 1.0), verbose=0)
    assert bits(by_class) == bits(by_sample) == bits(as_list) == bits(both) != bits(plain())


def test_weights_also_weigh_the_validation_part_and_the_epochs_mean():
    x, y = samples(40)
    model = plain()
    history = model.fit(x, y, sample_weight=np.where(y == 1, 1.0, 0.0), batch_size=7, validation_split=0.25, verbose=0)
    assert np.isfinite(history.history["loss"] + history.history["val_loss"]).all()
    unweighted = plain().fit(x, y, batch_size=7, validation_split=0.25, verbose=0)
    assert history.history["val_loss"] != unweighted.history["val_loss"]


def test_a_batch_whose_samples_weigh_nothing_teaches_nothing():
    x, y = samples(32)
    weights = np.where(np.arange(32) < 16, 0.0, 1.0)
    model, second_half = plain(optimizer="sgd"), plain(optimizer="sgd")
    history = model.fit(x, y, batch_size=16, shuffle=False, sample_weight=weights, verbose=0)
    half = second_half.fit(x[16:], y[16:], batch_size=16, shuffle=False, verbose=0)
    assert bits(model) == bits(second_half)
    assert history.steps == [0.0, half.steps[0]]
    assert history.history["loss"] == half.history["loss"]


def test_augmentation_sees_the_images_the_epoch_and_their_numbers_and_only_in_training():
    x, y = samples(20)
    calls = []

    def darken(images, seed, epoch, indices):
        calls.append((seed, epoch, sorted(indices.tolist())))
        return images * np.float64(0)  # another dtype than the model's

    seen = Seen()
    model = straight(CLASSES, "softmax")
    model.fit(
        x, y, epochs=2, batch_size=20, augment=darken, seed=4, callbacks=[seen], verbose=0, validation_data=(x, y)
    )
    assert calls == [(4, 0, list(range(20))), (4, 1, list(range(20)))]
    assert {images.dtype for images in seen.x} == {np.dtype(np.float32)}
    assert not any(images.any() for images in seen.x)
    assert x.any()


def test_augmentation_by_name_varies_from_epoch_to_epoch():
    x, y = samples(20)
    seen = Seen()
    straight(CLASSES, "softmax").fit(
        x, y, epochs=2, batch_size=20, shuffle=False, augment="light", callbacks=[seen], verbose=0
    )
    assert not np.array_equal(seen.x[0], seen.x[1])
    np.testing.assert_allclose(np.sort(seen.x[0], axis=None), np.sort(x, axis=None))


def test_images_that_are_normalised_when_taken_train_as_arrays_do():
    digits = data.load_digits()
    preprocessing = data.Preprocessing(data.Decoding(8, 8, 1), (100.0,), (50.0,))
    lazy, weights = data.Normalized(digits.x, np.arange(100, 200), preprocessing), []
    for x in (lazy, lazy[:]):
        model = Sequential([layers.Flatten(), layers.Dense(10, "softmax")], input_shape=(1, 8, 8), xp=np)
        model.compile()
        model.fit(x, digits.y[100:200], validation_split=0.2, verbose=0)
        weights.append(bits(model))
    assert weights[0] == weights[1]


# What it learns.


def test_the_digits_are_learned():
    digits = data.load_digits()
    model = Sequential(
        [layers.Conv2D(16, 3, activation="relu"), layers.MaxPool2D(2), layers.Flatten(), layers.Dense(10, "softmax")],
        input_shape=(1, 8, 8),
        xp=np,
    )
    model.compile(optimizer=optimizers.Adam(5e-3), metrics=["accuracy"])
    history = model.fit(digits.x / 255, digits.y, epochs=5, batch_size=32, validation_split=0.2, verbose=0)
    assert history.history["val_accuracy"][-1] > 0.95
    assert history.history["loss"] == sorted(history.history["loss"], reverse=True)


@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop", "adagrad", "adam", "adamw"])
def test_a_few_steps_on_a_device_are_those_on_the_host(xp, optimizer):
    host, device = mixed(optimizer=optimizer), mixed(xp, optimizer=optimizer)
    first, second = fit(host), fit(device)
    np.testing.assert_allclose(second.steps, first.steps, rtol=1e-4)
    assert second.history["accuracy"] == first.history["accuracy"]
    weights = host.get_weights()
    for name, value in device.get_weights().items():
        np.testing.assert_allclose(value, weights[name], rtol=1e-3, atol=1e-4, err_msg=name)


def test_on_a_device_a_step_waits_for_nothing():
    model = plain(strict.xp)
    fit(model)
    waits = []

    class Count(Callback):
        def on_fit_begin(self, fit):
            self.counting = strict.counting()
            self.counts = self.counting.__enter__()

        def on_step_end(self, fit):
            waits.append(self.counts.waits)

        def on_fit_end(self, fit):
            self.counting.__exit__(None, None, None)

    fit(model, epochs=1, callbacks=[Count()])
    assert waits == [0, 0, 0]


def test_values_are_learned_as_rows():
    x, _ = samples(60)
    y = x[:, 1].sum(axis=(1, 2)) / 4 - 1
    model = straight(loss="mse", optimizer=optimizers.Adam(0.02), metrics=["mse"])
    history = model.fit(x, y, epochs=60, verbose=0)
    assert history.history["mse"] == pytest.approx(history.history["loss"], rel=1e-5)
    np.testing.assert_allclose(model.predict(x)[:, 0], y, atol=0.25)
    assert y.std() > 0.5


def test_two_classes_are_learned_by_one_output():
    x, y = samples(60)
    x, y = x[y < 2], y[y < 2]
    model = straight(1, "sigmoid", loss="binary_cross_entropy", optimizer=optimizers.Adam(0.02))
    history = model.fit(x, y, epochs=15, verbose=0)
    assert history.history["accuracy"][-1] == 1.0
    assert ((model.predict(x)[:, 0] > 0.5) == y).all()


def test_one_hot_rows_train_as_labels_do():
    x, y = samples(40)
    labels, rows, columns = plain(), plain(), plain()
    labels.fit(x, y, verbose=0)
    rows.fit(x, np.eye(CLASSES)[y], verbose=0)
    columns.fit(x, y[:, None].astype(float), verbose=0)
    assert bits(labels) == bits(rows) == bits(columns)


def test_everything_that_is_carried_on_is_float32(xp):
    model = mixed(xp)
    kinds = set()

    class Look(Callback):
        def on_gradient(self, fit, result):
            kinds.add(result.gradient.dtype)
            kinds.add(result.loss.dtype)

    x, y = samples(40)
    model.fit(x.astype(np.float64), y, sample_weight=np.ones(40), callbacks=[Look()], verbose=0)
    kinds |= {parameter.dtype for parameter in model.parameters.values()}
    kinds |= {moment.dtype for moment in model.optimizer.moments.values()}
    kinds |= {value.dtype for value in model.get_weights().values()}
    assert kinds == {np.dtype(np.float32)}
    assert model.predict(x).dtype == np.float32


def test_running_statistics_move_a_little_with_every_step(xp):
    x, y = samples(16)
    model = mixed(xp)
    mean = model.activations(x)["conv2d_1"].mean(axis=(0, 2, 3))
    model.fit(x, y, verbose=0)
    np.testing.assert_allclose(model.get_weights()["batch_norm_1.running_mean"], 0.1 * mean, rtol=1e-4, atol=1e-6)


def test_a_frozen_layer_stays_as_it_is(xp):
    model = mixed(xp, optimizer=optimizers.AdamW(0.01, weight_decay=0.1))
    model.layers[0].trainable = model.layers[1].trainable = model.layers[3].trainable = False
    before = model.get_weights()
    fit(model)
    after = model.get_weights()
    changed = {name for name in after if not np.array_equal(before[name], after[name])}
    assert changed == {"dense_1.weight", "dense_1.bias"}


def test_a_layer_that_is_thawed_learns_again():
    model = plain()
    model.layers[0].trainable = False
    fit(model)
    frozen = model.get_weights()["conv2d_1.weight"]
    model.layers[0].trainable = True
    fit(model)
    assert not np.array_equal(model.get_weights()["conv2d_1.weight"], frozen)


# What is written down.


def test_the_history_has_one_entry_an_epoch_and_every_steps_loss():
    model = plain(optimizer=optimizers.Adam(0.004), metrics=["accuracy", "top_2", "mse"])
    history = fit(model, epochs=3, validation_split=0.2)
    names = ["loss", "accuracy", "top_2", "mse", "val_loss", "val_accuracy", "val_top_2", "val_mse", "lr", "seconds"]
    assert [*history.history] == names
    assert {len(column) for column in history.history.values()} == {3}
    assert {type(value) for column in history.history.values() for value in column} == {float}
    assert history.history["lr"] == [0.004] * 3
    assert min(history.history["seconds"]) > 0
    assert len(history.steps) == 3 * 2
    assert {type(loss) for loss in history.steps} == {float}


def test_an_epochs_loss_is_the_mean_over_its_samples():
    history = fit(plain(), n=40, epochs=1)
    assert history.history["loss"] == [pytest.approx(np.average(history.steps, weights=[16, 16, 8]))]


def test_an_epochs_metrics_count_all_its_samples():
    seen = []

    class Count(Callback):
        def on_gradient(self, fit, result):
            seen.append(result.sums[0].tolist())

    history = fit(plain(), n=40, epochs=1, callbacks=[Count()])
    hits, counts = np.sum(seen, axis=0)
    assert counts == 40
    assert history.history["accuracy"] == [hits / 40]


@pytest.mark.parametrize(
    ("verbose", "printed"), [(0, []), (1, [1, 2, 3, 4, 5]), (2, [2, 4]), (5, [5]), (True, [1, 2, 3, 4, 5])]
)
def test_every_nth_epoch_is_printed(capsys, verbose, printed):
    fit(plain(metrics=["accuracy", "confusion_matrix"]), epochs=5, verbose=verbose)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == [f"{epoch}/5" for epoch in printed]
    for line in lines:
        assert "loss " in line
        assert "accuracy " in line
        assert "lr 0.001" in line
        assert "confusion" not in line


def test_an_epoch_is_printed_after_callbacks_have_saved_it(capsys):
    printed = []

    class Seen(Callback):
        def on_epoch_end(self, fit):
            printed.append(capsys.readouterr().out)

    model = plain()
    model.fit(*samples(), epochs=2, callbacks=[Seen()])
    assert printed[0] == ""
    assert printed[1].startswith("epoch 1/2")


# Callbacks.


class Order(Callback):
    """Notes when it is called."""

    def __init__(self, calls, name, stop_at=None, fail_at=None):
        self.calls, self.name, self.stop_at, self.fail_at = calls, name, stop_at, fail_at

    def note(self, when, fit):
        self.calls.append(f"{self.name} {when}")
        if when == self.stop_at:
            fit.stop("enough")
        if when == self.fail_at:
            raise ArithmeticError(when)

    def on_fit_begin(self, fit):
        self.note("begin", fit)

    def on_gradient(self, fit, result):
        self.note("gradient", fit)

    def on_step_end(self, fit):
        self.note("step", fit)

    def on_epoch_end(self, fit):
        self.note("epoch", fit)

    def on_fit_end(self, fit):
        self.note("end", fit)


def test_callbacks_are_called_in_the_order_given():
    calls = []
    fit(plain(), n=20, batch_size=20, epochs=1, callbacks=[Order(calls, "a"), Order(calls, "b")])
    whens = ("begin", "gradient", "step", "epoch", "end")
    assert calls == [f"{name} {when}" for when in whens for name in "ab"]


@pytest.mark.parametrize("fail_at", ["begin", "gradient", "step", "epoch", "end"])
def test_every_callback_gets_its_end_whatever_happens(fail_at):
    calls = []
    with pytest.raises(ArithmeticError, match=fail_at):
        fit(plain(), callbacks=[Order(calls, "a"), Order(calls, "b", fail_at=fail_at), Order(calls, "c")])
    assert calls[-3:] == ["a end", "b end", "c end"]


def test_a_fit_that_is_stopped_in_an_epoch_keeps_its_steps_and_repeats_the_epoch():
    model = plain()
    history = fit(model, callbacks=[Order([], "a", stop_at="step")])
    assert (len(history.steps), history.history, model.epochs) == (1, {}, 0)
    assert fit(model, epochs=1).epochs == 1
    assert model.epochs == 1


def test_a_fit_that_is_stopped_after_an_epoch_keeps_it():
    model = plain()
    history = fit(model, epochs=5, callbacks=[Order([], "a", stop_at="epoch")])
    assert history.epochs == model.epochs == 1


def test_a_rate_that_is_set_for_an_epoch_is_that_epochs_rate():
    history = fit(plain(), epochs=3, callbacks=[LearningRate(lambda epoch: 0.1 / (epoch + 1))])
    assert history.history["lr"] == pytest.approx([0.1, 0.05, 0.1 / 3])


# Beside each other.


def test_two_fits_at_once_give_what_each_gives_alone_and_leave_blas_as_it_was():
    def blas_threads():
        return [pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]

    alone = [mixed(seed=seed) for seed in (0, 1)]
    for model in alone:
        fit(model, 70, epochs=3, shards=2, threads=2)
    before = blas_threads()
    together = [mixed(seed=seed) for seed in (0, 1)]
    threads = [
        threading.Thread(target=fit, args=(model, 70), kwargs={"epochs": 3, "shards": 2, "threads": 2})
        for model in together
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [bits(model) for model in together] == [bits(model) for model in alone]
    assert blas_threads() == before


def test_parameters_stay_where_they_are_while_they_are_trained():
    model = plain()
    where = {name: view.__array_interface__["data"] for name, view in model.parameters.items()}
    fit(model)
    assert {name: view.__array_interface__["data"] for name, view in model.parameters.items()} == where


def test_there_is_no_batch_before_the_first_step():
    class Early(Callback):
        def on_epoch_begin(self, fit):
            if fit.epoch == 0:
                with pytest.raises(RuntimeError, match="no batch before the first step"):
                    _ = fit.batch

    fit(plain(), callbacks=[Early()])


def test_the_history_has_the_rate_of_the_last_update_whoever_set_it():
    class Set(Callback):
        def on_gradient(self, fit, result):
            fit.optimizer.learning_rate = 0.001 * (fit.step + 1)

    assert fit(plain(), n=48, epochs=2, callbacks=[Set()]).history["lr"] == pytest.approx([0.003, 0.006])


def test_from_fit_to_a_convolution_it_is_eight_frames_in_five_files(monkeypatch):
    """What docs/fit-to-gradient.md walks through, with replay turned off."""
    seen, convolve = [], convolution.convolution

    def look(*arguments, **keywords):
        frames = [(Path(frame.filename).name, frame.name) for frame in traceback.extract_stack()[:-1]]
        seen.append(frames[[name for _, name in frames].index("fit") :])
        return convolve(*arguments, **keywords)

    monkeypatch.setenv("XPCNN_REPLAY", "0")
    monkeypatch.setattr(convolution, "convolution", look)
    model, (x, y) = plain(), samples(16)
    model.fit(x, y, verbose=0)
    assert [name for _, name in seen[0]] == ["fit", "run", "step", "train", "run", "_work", "forward", "forward"]
    assert len({file for file, _ in seen[0]}) == 5
