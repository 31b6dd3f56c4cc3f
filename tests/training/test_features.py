"""A frozen part is computed once, and the fit is the one that computes it every time, but for rounding."""

import threading

import numpy as np
import pytest

from tests.models import SHAPE, bits, frozen, samples, without_seconds
from xpcnn import Sequential, layers
from xpcnn.callbacks import Callback, Checkpoint
from xpcnn.data import augment
from xpcnn.program import threads
from xpcnn.training import features


class Interrupt(Callback):
    """Ends a fit after some steps as a signal does."""

    def __init__(self, after):
        self.after = after

    def on_step_end(self, fit):
        if fit.step == self.after:
            fit.interrupt("SIGTERM")


@pytest.fixture
def seen(monkeypatch):
    """How many images have passed the layer ``counted``, a number for each call."""
    found, forward = [], layers.Conv2D.forward

    def count(layer, params, x, context, **options):
        if layer.name == "counted":
            found.append(len(x))
        return forward(layer, params, x, context, **options)

    monkeypatch.setattr(layers.Conv2D, "forward", count)
    monkeypatch.setenv("XPCNN_REPLAY", "0")  # so that every forward pass is counted
    return found


def fit(model, n=40, **options):
    """Train on samples of which a quarter is held out."""
    x, y = samples(n)
    return model.fit(x, y, **{"batch_size": 16, "validation_split": 0.25, "seed": 5, "verbose": 0, **options})


def test_images_pass_the_frozen_layers_once_and_so_do_those_of_validation(seen):
    fit(frozen(), epochs=5)
    assert sum(seen) == 30 + 10


def test_so_does_each_view_of_the_images_to_train_on(seen):
    fit(frozen(), epochs=9, augment="dihedral")
    assert sum(seen) == 8 * 30 + 10


def test_so_do_validation_images_of_their_own(seen):
    fit(frozen(), epochs=3, augment="flip", validation_split=0.0, validation_data=samples(12, seed=1))
    assert sum(seen) == 2 * 40 + 12


@pytest.mark.parametrize("worth", ["the trained part", "the network"])
def test_threads_are_as_many_as_the_trained_part_is_worth(monkeypatch, worth):
    model, found, forward = frozen(), set(), layers.Dense.forward
    _, rest = model.network.split(model.network.frozen_start())
    of_a_shard = 3 * 16 * (rest if worth == "the trained part" else model.network).multiplications
    monkeypatch.setattr(threads, "WORTH_A_THREAD", of_a_shard)
    monkeypatch.setattr(threads, "available_threads", lambda: 2)

    def note(layer, params, x, context, **options):
        if context.training:
            found.add(threading.current_thread().name)
        return forward(layer, params, x, context, **options)

    monkeypatch.setattr(layers.Dense, "forward", note)
    fit(model, n=64, batch_size=32, epochs=2, validation_split=0.0)
    assert len(found) == (2 if worth == "the trained part" else 1)


@pytest.mark.parametrize("augment", [None, "flip", "dihedral"])
def test_the_fit_is_the_one_that_computes_everything(xp, monkeypatch, augment):
    weights, histories = [], []
    for count in (None, 0):
        model = frozen(dropout=0.3, xp=xp)
        if count == 0:
            monkeypatch.setattr("xpcnn.program.network.Network.frozen_start", lambda network: 0)
        histories.append(fit(model, epochs=8, augment=augment).history)
        weights.append(model.get_weights())
    for name, array in weights[0].items():
        np.testing.assert_allclose(array, weights[1][name], rtol=1e-4, atol=1e-6)
    for name in histories[0].keys() - {"seconds"}:
        np.testing.assert_allclose(histories[0][name], histories[1][name], rtol=1e-4)


def drawn(images, seed, epoch, rows):
    """An augmentation of one's own."""
    return images


@pytest.mark.parametrize(
    ("change", "options"),
    [
        ("shifted", {"augment": "shift"}),
        ("augmented by a function", {"augment": drawn}),
        ("in more views than epochs", {"augment": "dihedral"}),
        ("learning", {}),
        ("dropped out", {}),
        ("larger than images and memory", {}),
    ],
)
def test_what_changes_or_takes_too_much_memory_is_computed_every_time(seen, monkeypatch, change, options):
    before = [layers.Dropout(0.1)] if change == "dropped out" else []
    larger = change == "larger than images and memory"
    monkeypatch.setattr(features, "MOST_BYTES", 40 * 4 * 6 * 6 * 4 - 1 if larger else features.MOST_BYTES)
    model = frozen(*before, pooled=not larger)
    model.layers[len(before)].trainable = change == "learning"
    fit(model, epochs=7, **options)
    assert sum(seen) == 7 * 40


def test_features_larger_than_images_are_kept_if_there_is_memory(seen, monkeypatch):
    monkeypatch.setattr(features, "MOST_BYTES", 40 * 4 * 6 * 6 * 4)
    fit(frozen(pooled=False), epochs=7)
    assert sum(seen) == 40


def test_views_of_no_more_numbers_than_the_images_need_no_leave(seen, monkeypatch):
    monkeypatch.setattr(features, "MOST_BYTES", 0)
    fit(frozen(), epochs=8, augment="dihedral")
    assert sum(seen) == 8 * 30 + 10


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "computing features of 40 images, once: the layers before 'dropout_1' are frozen"),
        (
            {"augment": "dihedral"},
            "computing features of 250 views of 40 images, once: the layers before 'dropout_1' are frozen",
        ),
    ],
)
def test_a_line_says_what_is_computed(capsys, options, words):
    fit(frozen(), epochs=8, verbose=1, **options)
    assert capsys.readouterr().out.splitlines()[0] == words
    fit(frozen(), epochs=8, **options)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("after", [3, 11])
def test_interrupted_and_resumed_views_are_drawn_as_if_nothing_had_happened(xp, tmp_path, after):
    options = {"epochs": 8, "augment": "dihedral"}
    whole, part = frozen(dropout=0.3, xp=xp), frozen(dropout=0.3, xp=xp)
    expected = fit(whole, **options)
    fit(part, **options, callbacks=[Checkpoint(tmp_path / "checkpoint"), Interrupt(after)])
    resumed = frozen(dropout=0.3, xp=xp)
    found = fit(resumed, **options, resume=tmp_path / "checkpoint")
    assert bits(resumed) == bits(whole) != bits(part)
    assert without_seconds(found) == without_seconds(expected)


def test_a_fit_is_interrupted_while_features_are_computed(tmp_path, monkeypatch):
    whole, part, infer = frozen(), frozen(), features.evaluation.infer
    fit(whole, n=400, epochs=8, augment="dihedral")
    computed = []

    class Watch(Callback):
        def on_fit_begin(self, fit):
            def interrupted(*arguments, **options):
                computed.append(len(arguments[1]))
                fit.interrupt("SIGTERM")
                return infer(*arguments, **options)

            monkeypatch.setattr(features.evaluation, "infer", interrupted)

    history = fit(part, n=400, epochs=8, augment="dihedral", callbacks=[Checkpoint(tmp_path / "c"), Watch()])
    assert (history.stop_reason, history.steps) == ("SIGTERM", [])
    assert sum(computed) < 1000, "of 2500 views"
    monkeypatch.undo()
    fit(part, n=400, epochs=8, augment="dihedral", resume=tmp_path / "c")
    assert bits(part) == bits(whole)


def test_a_callback_sees_the_images_themselves():
    seen = []

    class Look(Callback):
        def on_step_end(self, fit):
            seen.append(fit.batch[0].shape)

    fit(frozen(), callbacks=[Look()], batch_size=15)
    assert seen == [(15, *SHAPE)] * 2


def test_a_callback_sees_the_views_that_are_drawn():
    seen, rows = [], []

    class Look(Callback):
        def on_step_end(self, fit):
            seen.append(fit.batch[0])
            rows.append(fit.positions)

    x, y = samples(40)
    frozen().fit(x, y, epochs=8, batch_size=20, callbacks=[Look()], augment="dihedral", seed=5, verbose=0)
    for step, (images, positions) in enumerate(zip(seen, rows, strict=True)):
        np.testing.assert_array_equal(images, augment("dihedral")(x[positions], 5, step // 2, positions))


def test_a_frozen_part_ends_where_a_later_layer_reads_what_is_before():
    inner = [layers.Conv2D(SHAPE[0], 3, padding="same") for _ in range(2)]
    inner[0].trainable = False
    model = Sequential([layers.Residual(inner), layers.Flatten(), layers.Dense(2)], SHAPE, "numpy")
    assert model.network.frozen_start() == 0
    inner[1].trainable = False
    assert model.network.frozen_start() == len(model.network.nodes) - 1
