"""Outputs, targets and metrics are checked against the loss before anything is computed."""

import numpy as np
import pytest

import xpcnn
from tests.models import CLASSES, SHAPE, Block, plain, samples, straight
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
    with pytest.raises(ValueError, match="needs probabilities, but 'dense_1' returns other values"):
        objective(straight(3)).check_outputs()


def branches(merge):
    return Block(merge, *([layers.Flatten(), layers.Dense(3, activation="sigmoid")] for _ in range(2)))


class Normalised(layers.Layer):
    """A last layer of one's own, which may give what it likes."""

    def forward(self, params, x, context):
        return x, lambda dy, gradients: dy


UNBOUNDED = {
    "a residual block": lambda: [layers.Dense(3), layers.Residual([layers.Dense(3)])],
    "a sum of probabilities": lambda: [layers.Dense(3, activation="softmax"), layers.Residual([layers.Softmax()])],
    "a normalisation": lambda: [layers.Dense(3, activation="softmax"), layers.BatchNorm()],
    "leaky ReLU": lambda: [layers.Dense(3), layers.LeakyReLU()],
    "leaky ReLU inside": lambda: [layers.Dense(3, activation=layers.LeakyReLU())],
    "dropout": lambda: [layers.Dense(3), layers.Dropout(0.5)],
    "reshaped": lambda: [layers.Dense(3), layers.Reshape((3,))],
    "the images": lambda: [layers.Reshape((-1,))],
    "a product": lambda: [Block(layers.Multiply(), [layers.Dense(3)], [layers.Dense(3, activation="sigmoid")])],
}
BOUNDED = {
    "softmax": lambda: [layers.Flatten(), layers.Dense(3), layers.Softmax()],
    "reshaped": lambda: [layers.Flatten(), layers.Dense(3, activation="softmax"), layers.Reshape((3,))],
    "a mean": lambda: [layers.Conv2D(3, 1, activation="softmax"), layers.GlobalAveragePool2D()],
    "pooled": lambda: [layers.Conv2D(3, 1, activation="sigmoid"), layers.MaxPool2D(6), layers.Flatten()],
    "a block that ends in softmax": lambda: [layers.Flatten(), layers.Residual([layers.Tanh()], activation="softmax")],
    "branches": lambda: [branches(layers.Concatenate())],
    "a product": lambda: [branches(layers.Multiply())],
    "an average": lambda: [branches(layers.Average())],
    "a custom layer": lambda: [layers.Flatten(), layers.Dense(3), Normalised()],
}


@pytest.mark.parametrize("stack", UNBOUNDED)
def test_outputs_that_no_softmax_or_sigmoid_gives_are_no_probabilities(stack):
    model = xpcnn.Sequential([layers.Flatten(), *UNBOUNDED[stack]()], SHAPE, np)
    model.compile()
    x, y = samples(6)
    message = f"cross_entropy needs probabilities, but '{model.layers[-1].name}' returns other values"
    for use in (model.fit, model.evaluate, model.calibrate, model.loss_and_gradients):
        with pytest.raises(ValueError, match=message):
            use(x, y)


@pytest.mark.parametrize("stack", BOUNDED)
def test_probabilities_may_be_laid_out_averaged_and_merged(stack):
    model = xpcnn.Sequential(BOUNDED[stack](), SHAPE, np)
    model.compile()
    objective(model).check_outputs()


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
    smooth = model.evaluate(x, y)
    model.compile()
    assert model.evaluate(x, y) == smooth
