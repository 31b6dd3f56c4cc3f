"""Several classifiers as one: its probabilities are the mean of theirs, each as calibrated and normalised as it was."""

from dataclasses import replace

import numpy as np
import pytest

import xpcnn
from xpcnn import layers
from xpcnn.data import Decoding, Normalized, Preprocessing
from xpcnn.data.digests import as_array
from xpcnn.layers import Conv2D, Dense, Flatten
from xpcnn.model.ensemble import ensemble

SHAPE = (3, 6, 6)
ENDS = {
    "softmax": lambda: [Flatten(), Dense(4, activation="softmax")],
    "softmax as a layer": lambda: [Flatten(), Dense(4), layers.Softmax()],
    "softmax by name": lambda: [Flatten(), Dense(4), layers.Activation("softmax")],
    "pooled maps": lambda: [Conv2D(4, 1), layers.GlobalAveragePool2D(), layers.Softmax()],
    "sigmoid": lambda: [Flatten(), Dense(1, activation="sigmoid")],
    "labels": lambda: [Flatten(), Dense(4, activation="sigmoid")],
}


def member(end, number, temperature=1.0):
    """A model with random weights, a normalisation and a temperature of its own."""
    stack = [Conv2D(5, 3, padding=1), layers.BatchNorm(), layers.ReLU(), layers.Residual([Conv2D(5, 1)]), *ENDS[end]()]
    model = xpcnn.Sequential(stack, SHAPE, xp="numpy", seed=number)
    model.compile(loss="binary_cross_entropy" if end in ("sigmoid", "labels") else "cross_entropy")
    rng = np.random.default_rng(number)
    mean, std = rng.uniform(90, 110, 3), rng.uniform(40, 60, 3)
    model.preprocessing = Preprocessing(Decoding(*SHAPE[1:], SHAPE[0]), tuple(mean.tolist()), tuple(std.tolist()))
    model.temperature, model.epochs = temperature, number
    if end == "labels":
        model.temperature, model.thresholds = 1.0, (0.5,) * 4
    model.digests = as_array([f"{number:016x}"])
    return model


def members(end="softmax", temperatures=(1.7, 0.05, 1.0, 12.5)):
    return [member(end, number, temperature) for number, temperature in enumerate(temperatures, 1)]


def answers(model):
    """What a model says of some images, which it normalises itself."""
    images = np.random.default_rng(0).integers(0, 256, (20, *SHAPE), dtype=np.uint8)
    return model.predict(Normalized(images, np.arange(20), model.preprocessing))


@pytest.mark.parametrize("end", ENDS)
def test_its_probabilities_are_the_mean_of_those_of_its_members(end):
    models = members(end)
    expected = np.mean([answers(model) for model in models], axis=0)
    np.testing.assert_allclose(answers(ensemble(models)), expected, rtol=1e-5, atol=1e-6)


def test_of_several_labels_each_gets_the_mean_of_its_thresholds():
    models = [member("labels", number) for number in (1, 2)]
    models[0].thresholds, models[1].thresholds = (0.2, 0.5, 0.25, 1.0), (0.4, 0.5, 0.75, 0.0)
    made = ensemble(models)
    assert made.thresholds == pytest.approx((0.3, 0.5, 0.5, 0.5))
    np.testing.assert_allclose(answers(made), np.mean([*map(answers, models)], axis=0), rtol=1e-5, atol=1e-6)


def test_its_members_stay_as_they_are():
    models = members()
    before = [answers(model) for model in models]
    ensemble(models)
    for model, answer in zip(models, before, strict=True):
        assert (answers(model) == answer).all()


def test_images_that_each_one_standardises_by_itself():
    models = members()
    for model in models:
        model.preprocessing = replace(model.preprocessing, per_image=True)
    expected = np.mean([answers(model) for model in models], axis=0)
    np.testing.assert_allclose(answers(ensemble(models)), expected, rtol=1e-5, atol=1e-6)


def test_it_is_a_model_like_any_other(tmp_path):
    made = ensemble(members())
    assert (made.temperature, made.epochs) == (1.0, 4)
    assert made.digests[:, -1].tolist() == [1, 2, 3, 4]
    made.save(tmp_path / "ensemble.safetensors")
    loaded = xpcnn.load(tmp_path / "ensemble.safetensors", xp="numpy")
    assert (answers(loaded) == answers(made)).all()
    x, y = np.random.default_rng(0).normal(size=(12, *SHAPE)).astype(np.float32), np.arange(12) % 4
    kept = {name: value for name, value in loaded.get_weights().items() if "temperature" in name or "standard" in name}
    losses = loaded.fit(x, y, epochs=8, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    assert all((loaded.get_weights()[name] == value).all() for name, value in kept.items())


def test_without_digests_of_one_it_has_none():
    models = members()
    models[2].digests = None
    assert ensemble(models).digests is None


def changed(end="softmax", **attributes):
    models = members(end)
    for name, value in attributes.items():
        setattr(models[1], name, value)
    return models


@pytest.mark.parametrize(
    ("models", "message"),
    [
        (lambda: [member("softmax", 1), member("sigmoid", 2)], r"model 2 has other outputs than the first: \(1,\)"),
        (lambda: changed(class_names=tuple("abcd")), "model 2 has other classes than the first"),
        (lambda: changed(thresholds=(0.5,) * 4), "model 2 gives an image several labels, and the first gives it one"),
        (lambda: changed(preprocessing=None), "model 2 prepares images in another way than the first"),
        (
            lambda: changed(preprocessing=Preprocessing(Decoding(6, 6, 3, range=(0, 999)), (0.0,) * 3, (1.0,) * 3)),
            "model 2 maps other values to black and white than the first",
        ),
        (
            lambda: [xpcnn.Sequential([Flatten(), Dense(4, activation="sigmoid")], SHAPE, xp="numpy")] * 2,
            "model 1 does not end with softmax",
        ),
    ],
    ids=["outputs", "classes", "labels", "preprocessing", "range", "activation"],
)
def test_models_that_do_not_fit_are_refused(models, message):
    with pytest.raises(ValueError, match=message):
        ensemble(models())
