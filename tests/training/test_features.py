"""A frozen part is computed once, and the fit is the one that computes it every time, but for rounding."""

import numpy as np
import pytest

from tests.models import CLASSES, SHAPE, samples
from xpcnn import Sequential, layers
from xpcnn.callbacks import Callback


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


def frozen(*before, dropout=0.0, pooled=True):
    """A model whose layers are frozen up to its last, which may come after dropout."""
    first = [
        *before,
        layers.Conv2D(4, 3, padding="same", name="counted"),
        layers.BatchNorm(),
        layers.Residual([layers.Conv2D(4, 3, padding="same"), layers.BatchNorm(), layers.ReLU()]),
        layers.GlobalAveragePool2D() if pooled else layers.Flatten(),
    ]
    for layer in first:
        layer.trainable = False
    model = Sequential([*first, layers.Dropout(dropout), layers.Dense(CLASSES, activation="softmax")], SHAPE, "numpy")
    model.compile("adam", "cross_entropy")
    return model


def test_images_pass_the_frozen_layers_once_and_so_do_those_of_validation(seen):
    model, (x, y) = frozen(), samples(40)
    model.fit(x, y, epochs=5, batch_size=16, validation_split=0.25, verbose=0)
    assert sum(seen) == 40 + 10, "all images, and those held out, which are features of their own"


def test_the_fit_is_the_one_that_computes_everything(monkeypatch):
    (x, y), weights, histories = samples(40), [], []
    for count in (None, 0):
        model = frozen(dropout=0.3)
        if count == 0:
            monkeypatch.setattr("xpcnn.program.network.Network.frozen_start", lambda network: 0)
        histories.append(model.fit(x, y, epochs=3, batch_size=16, validation_split=0.25, verbose=0).history)
        weights.append(model.get_weights())
    for name, array in weights[0].items():
        np.testing.assert_allclose(array, weights[1][name], rtol=1e-4, atol=1e-6)
    for name in histories[0].keys() - {"seconds"}:
        np.testing.assert_allclose(histories[0][name], histories[1][name], rtol=1e-4)


@pytest.mark.parametrize("change", ["augmented", "learning", "dropped out", "larger than images"])
def test_what_changes_from_epoch_to_epoch_or_takes_more_memory_is_computed_every_time(seen, change):
    before = [layers.Dropout(0.1)] if change == "dropped out" else []
    model, (x, y) = frozen(*before, pooled=change != "larger than images"), samples(40)
    model.layers[len(before)].trainable = change == "learning"
    model.fit(x, y, epochs=3, batch_size=16, augment="shift" if change == "augmented" else None, verbose=0)
    assert sum(seen) == 3 * 40


def test_a_callback_sees_the_images_themselves():
    seen = []

    class Look(Callback):
        def on_step_end(self, fit):
            seen.append(fit.batch[0].shape)

    model, (x, y) = frozen(), samples(40)
    model.fit(x, y, batch_size=20, callbacks=[Look()], verbose=0)
    assert seen == [(20, *SHAPE)] * 2


def test_a_frozen_part_ends_where_a_later_layer_reads_what_is_before():
    inner = [layers.Conv2D(SHAPE[0], 3, padding="same") for _ in range(2)]
    inner[0].trainable = False
    model = Sequential([layers.Residual(inner), layers.Flatten(), layers.Dense(2)], SHAPE, "numpy")
    assert model.network.frozen_start() == 0
    inner[1].trainable = False
    assert model.network.frozen_start() == len(model.network.nodes) - 1
