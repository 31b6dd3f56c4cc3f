"""Outputs, targets and metrics are checked against the loss before anything is computed."""

import numpy as np
import pytest

import xpcnn
from tests.models import CLASSES, SHAPE, plain, samples, straight
from xpcnn import layers
from xpcnn.model.objective import Objective


def objective(model):
    return Objective(model.network, model.loss, model.metrics)


def test_the_width_is_that_of_flat_outputs():
    assert objective(plain()).width == CLASSES
    images = xpcnn.Sequential([layers.Conv2D(2, 3)], SHAPE, np)
    with pytest.raises(ValueError, match=r"needs flat outputs.*returns \(2, 4, 4\)"):
        _ = Objective(images.network, plain().loss, []).width


def test_probabilities_are_needed_by_a_loss_of_them_alone():
    objective(plain()).check_outputs()
    objective(straight(loss="mse")).check_outputs()
    with pytest.raises(ValueError, match="needs probabilities, but 'dense_1' returns unbounded values"):
        objective(straight(3)).check_outputs()


def test_targets_that_are_no_classes_have_no_accuracy():
    y = np.random.default_rng(0).normal(size=(4, 1)) + 3
    model = straight(loss="mse")
    assert objective(model).measurable_targets(y).labels is None
    model.compile(loss="mse", metrics=["accuracy"])
    assert objective(model).targets(y).labels is None
    with pytest.raises(ValueError, match="The targets are not classes, as required for: accuracy"):
        objective(model).measurable_targets(y)


def test_classes_are_calibrated_and_nothing_else():
    y = np.array([0, 2, 1])
    assert objective(plain()).calibration_labels(y).tolist() == [0, 2, 1]
    assert objective(straight(activation="sigmoid", loss="binary_cross_entropy")).calibration_labels(
        np.array([0, 1])
    ).tolist() == [0, 1]
    with pytest.raises(ValueError, match="The loss is mse, and the labels are classes"):
        objective(straight(3, loss="mse")).calibration_labels(y)
    with pytest.raises(ValueError, match="Only class probabilities can be calibrated"):
        objective(straight(3, activation="sigmoid", loss="binary_cross_entropy")).calibration_labels(np.eye(3))


def test_smoothed_labels_train_and_others_measure():
    x, y = samples(12)
    model = plain(loss=xpcnn.losses.CrossEntropy(label_smoothing=0.3))
    smooth = objective(model).evaluate(x, y, None, 12, None)
    model.compile()
    assert objective(model).evaluate(x, y, None, 12, None) == smooth
