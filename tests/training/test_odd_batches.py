"""Batches of one class, of one sample, larger than the data: values stay finite."""

import numpy as np
import pytest

import xpcnn
from tests.models import CLASSES, SHAPE, bits, mixed, samples
from xpcnn import layers
from xpcnn.training.callbacks import StopOnNaN


def flat_normalised(xp):
    """A model whose batch normalisation has one value of each channel for each sample."""
    stack = [layers.Flatten(), layers.Dense(5), layers.BatchNorm(), layers.ReLU(), layers.Dense(CLASSES, "softmax")]
    model = xpcnn.Sequential(stack, SHAPE, xp)
    model.compile()
    return model


def assert_finite(model, history):
    assert np.isfinite(history.steps).all()
    assert all(np.isfinite(weight).all() for weight in model.get_weights().values())
    assert np.isfinite(model.predict(samples(5)[0])).all()


@pytest.mark.parametrize("build", [mixed, flat_normalised])
class TestOddBatches:
    def test_a_last_batch_of_one(self, xp, build):
        model, (x, y) = build(xp), samples(17)
        assert_finite(model, model.fit(x, y, epochs=3, batch_size=8, verbose=0, callbacks=[StopOnNaN()]))

    def test_batches_of_one(self, xp, build):
        model, (x, y) = build(xp), samples(6)
        assert_finite(model, model.fit(x, y, epochs=3, batch_size=1, verbose=0, callbacks=[StopOnNaN()]))

    def test_one_sample_is_all_there_is(self, xp, build):
        model, (x, y) = build(xp), samples(1)
        assert_finite(model, model.fit(x, y, epochs=3, verbose=0, callbacks=[StopOnNaN()]))

    def test_a_batch_larger_than_the_data_is_all_the_data(self, xp, build):
        model, whole, (x, y) = build(xp), build(xp), samples(10)
        history = model.fit(x, y, epochs=3, batch_size=1000, shards=1, verbose=0)
        assert history.steps == whole.fit(x, y, epochs=3, batch_size=10, shards=1, verbose=0).steps
        assert bits(model) == bits(whole)
        assert_finite(model, history)

    def test_one_class_alone(self, xp, build):
        model, (x, _) = build(xp), samples(20)
        model.compile(xpcnn.optimizers.Adam(0.05))
        history = model.fit(x, np.ones(20, int), epochs=10, batch_size=8, verbose=0, validation_split=0.2)
        assert_finite(model, history)
        assert history.history["accuracy"][-1] == 1
        assert set(model.predict(x).argmax(axis=1)) == {1}

    def test_images_that_are_all_the_same(self, xp, build):
        model, (_, y) = build(xp), samples(20)
        x = np.full((20, *SHAPE), 0.5, np.float32)
        assert_finite(model, model.fit(x, y, epochs=3, batch_size=8, verbose=0, callbacks=[StopOnNaN()]))
