"""Suggestions for a name that does not exist."""

import numpy as np
import pytest

import xpcnn
from xpcnn import callbacks, hints, initializers, layers, losses, metrics, optimizers, presets, schedules


@pytest.mark.parametrize(
    ("kind", "get", "given", "meant"),
    [
        ("loss", losses.get, "sparse_categorical_crossentropy", "cross_entropy"),
        ("loss", losses.get, "SparseCategoricalCrossentropy", "cross_entropy"),
        ("loss", losses.get, "categorical_crossentropy", "cross_entropy"),
        ("loss", losses.get, "CrossEntropyLoss", "cross_entropy"),
        ("loss", losses.get, "nll_loss", "cross_entropy"),
        ("loss", losses.get, "binary_crossentropy", "binary_cross_entropy"),
        ("loss", losses.get, "BCEWithLogitsLoss", "binary_cross_entropy"),
        ("loss", losses.get, "mean_squared_error", "mse"),
        ("optimizer", optimizers.get, "RMSprop", "rmsprop"),
        ("optimizer", optimizers.get, "SGD", "sgd"),
        ("optimizer", optimizers.get, "nadam", "adam"),
        ("metric", metrics.get, "acc", "accuracy"),
        ("metric", metrics.get, "sparse_categorical_accuracy", "accuracy"),
        ("metric", metrics.get, "categorical_crossentropy", "cross_entropy"),
        ("metric", metrics.get, "top_k_categorical_accuracy", "top_5"),
        ("initializer", initializers.get, "GlorotUniform", "glorot_uniform"),
        ("initializer", initializers.get, "xavier_uniform_", "glorot_uniform"),
        ("initializer", initializers.get, "kaiming_normal", "he_normal"),
        ("schedule", schedules.get, "CosineAnnealingLR", "cosine"),
        ("activation", layers.Activation, "ReLU", "relu"),
        ("activation", layers.Activation, "identity", "linear"),
        ("preset", presets.get, "smal", "small"),
    ],
)
def test_a_name_that_is_misspelled_or_anothers_is_refused_with_the_one_that_was_meant(kind, get, given, meant):
    with pytest.raises(ValueError, match=rf"^There is no {kind} .*\. Did you mean {meant}\? Use one of: "):
        get(given)


def test_a_backend_too():
    with pytest.raises(xpcnn.backend.BackendError, match=r"no backend 'cuda'\. Did you mean cupy\? Use one of"):
        xpcnn.Sequential(xp="cuda")


@pytest.mark.parametrize(
    ("module", "given", "meant"),
    [
        (layers, "MaxPooling2D", "MaxPool2D"),
        (layers, "AvgPool2d", "AveragePool2D"),
        (layers, "Conv2d", "Conv2D"),
        (layers, "BatchNormalization", "BatchNorm"),
        (layers, "GlobalAveragePooling2D", "GlobalAveragePool2D"),
        (layers, "Linear", "Dense"),
        (layers, "Input", "Sequential([...], input_shape=(channels, height, width))"),
        (losses, "SparseCategoricalCrossentropy", "CrossEntropy"),
        (losses, "MSELoss", "MeanSquaredError"),
        (metrics, "CategoricalAccuracy", "Accuracy"),
        (optimizers, "RMSProp", "RMSprop"),
        (initializers, "XavierNormal", "GlorotNormal"),
        (schedules, "ExponentialDecay", "Exponential"),
        (schedules, "ReduceLROnPlateau", "callbacks.ReduceLROnPlateau"),
        (callbacks, "ModelCheckpoint", "SaveBest, SaveLast or Checkpoint"),
        (callbacks, "CSVLogger", "CSVLog"),
        (callbacks, "TerminateOnNaN", "StopOnNaN"),
        (xpcnn, "Model", "Sequential"),
        (xpcnn, "load_model", "load"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_an_attribute_that_is_not_there_is_told_once_with_the_one_that_was_meant(module, given, meant):
    with pytest.raises(AttributeError) as caught:
        getattr(module, given)
    assert str(caught.value) == f"module '{module.__name__}' has no attribute '{given}'. Did you mean {meant}?"
    assert caught.value.obj is None  # of whose names Python would print a guess of its own
    assert not hasattr(module, given)


def test_the_callback_that_schedules_the_rate_is_a_schedule_here():
    with pytest.raises(
        AttributeError, match=r"Did you mean a schedule as the learning rate, such as Adam\(schedules\."
    ):
        callbacks.LearningRateScheduler  # noqa: B018


@pytest.mark.parametrize("given", ["quantum", "", "?", None, 3, ["mse"]])
def test_nothing_is_guessed_where_nothing_is_near(given):
    assert hints.did_you_mean("loss", given, ["cross_entropy", "mse"]) == ""


@pytest.mark.parametrize("kind", hints.FOREIGN)
def test_no_name_of_others_is_in_the_table_twice(kind):
    words = " ".join(hints.FOREIGN[kind].values()).split()
    assert len(set(words)) == len(words)


def test_weights_of_classes_that_balance_them_are_made_by_the_recipe():
    model = xpcnn.Sequential([layers.Flatten(), layers.Dense(8, activation="softmax")], (1, 2, 2))
    model.compile()
    with pytest.raises(ValueError, match=r"use class_weight=xpcnn\.recipe\.balanced\(y, 8\)"):
        model.fit(np.zeros((8, 1, 2, 2)), range(8), class_weight="balanced")
