"""The recipe: how a classifier is trained by default."""

import argparse

import numpy as np
import pytest

import xpcnn
from tests.models import SHAPE, bits, mixed, samples
from xpcnn import calibration, layers, losses, presets, recipe
from xpcnn.cli import train_arguments


def test_it_is_adamw_under_one_cycle_with_smoothed_labels():
    model = mixed()
    recipe.compile(model, steps=50, learning_rate=0.01, weight_decay=0.1, label_smoothing=0.2)
    assert model.optimizer.config() == {
        "name": "adamw", "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "weight_decay": 0.1, "clip_norm": None,
        "learning_rate": xpcnn.schedules.OneCycle(0.01, 50).config(),
    }  # fmt: skip
    assert model.loss.config() == losses.CrossEntropy(label_smoothing=0.2).config()
    assert [metric.name for metric in model.metrics] == ["accuracy"]


def test_decay_spares_biases_and_normalisation():
    decaying = {d.full_name for d in mixed().network.layout.declarations if d.decays}
    assert decaying == {"conv2d_1.weight", "conv2d_2.weight", "dense_1.weight"}


def test_another_loss_can_be_kept_and_one_step_is_enough():
    model, loss = mixed(), losses.CrossEntropy(class_weights=(1.0, 2.0, 3.0))
    recipe.compile(model, steps=1, loss=loss)
    assert model.loss is loss
    model.fit(*samples(4), verbose=0)


def test_balanced_classes_count_alike():
    weights = recipe.balanced([0] * 6 + [1] * 3 + [3], 4)
    counts = {0: 6, 1: 3, 2: 0, 3: 1}
    assert {label: weights[label] * count for label, count in counts.items()} == pytest.approx(
        {0: 10 / 3, 1: 10 / 3, 2: 0, 3: 10 / 3}
    )
    assert weights[2] == 1


def test_the_first_layers_with_weights_stay_as_they_are():
    model = mixed()
    before = bits(model)
    recipe.freeze(model, 2)
    model.fit(*samples(20), verbose=0)
    unchanged = {name for name, value in bits(model).items() if value == before[name]}
    of_norm = {f"batch_norm_1.{name}" for name in ("weight", "bias", "running_mean", "running_var")}
    assert unchanged == {"conv2d_1.weight", *of_norm}


@pytest.mark.parametrize("count", [4, 100, -1, 1.5])
def test_one_layer_at_least_is_left_to_learn(count):
    with pytest.raises(ValueError, match=r"Cannot freeze|count must be"):
        recipe.freeze(mixed(), count)
    model = xpcnn.Sequential([layers.Flatten(), layers.Dense(3)], SHAPE, np)
    with pytest.raises(ValueError, match="Cannot freeze 1 layers: the model has 1 with weights"):
        recipe.freeze(model, 1)


@pytest.mark.parametrize(
    ("images", "batch_size", "epochs"),
    [(1, 64, 120), (256, 64, 120), (257, 64, 96), (704, 64, 44), (768, 64, 40), (769, 64, 40), (10**6, 64, 40),
     (256, 8, 40), (256, 32, 60)],
)  # fmt: skip
def test_few_images_are_trained_on_for_more_epochs(images, batch_size, epochs):
    assert recipe.epochs_for(images, batch_size) == epochs


def test_of_no_images_there_are_no_epochs():
    with pytest.raises(ValueError, match="images must be"):
        recipe.epochs_for(0)


def test_the_command_line_has_the_same_defaults():
    for name, value in (
        ("epochs", recipe.EPOCHS), ("batch_size", recipe.BATCH_SIZE), ("lr", recipe.LEARNING_RATE),
        ("weight_decay", recipe.WEIGHT_DECAY), ("label_smoothing", recipe.LABEL_SMOOTHING),
    ):  # fmt: skip
        assert train_arguments.DEFAULTS[name] == value
    parser = argparse.ArgumentParser()
    train_arguments.add_arguments(parser)
    told = f"up to {recipe.MOST_EPOCHS}, to make {recipe.FEWEST_STEPS} steps"
    assert told in " ".join(parser.format_help().split())
    assert tuple(presets.PRESETS) == train_arguments.PRESETS
    assert tuple(train_arguments.FINE_TUNING) == recipe.PARTS


def pretrained():
    stack = [
        *(layers.Conv2D(4, 3, padding=1), layers.BatchNorm(), layers.ReLU()),
        layers.Residual([layers.Conv2D(4, 3, padding=1), layers.BatchNorm(), layers.Conv2D(4, 1)]),
        *(layers.GlobalAveragePool2D(), layers.Dense(5), layers.Dense(3, activation="softmax")),
    ]
    return xpcnn.Sequential(stack, (1, 8, 8), np)


@pytest.mark.parametrize(
    ("part", "learning"),
    [
        ("head", {"dense_2"}),
        ("last", {"dense_1", "dense_2"}),
        ("all", {"conv2d_1", "conv2d_2", "conv2d_3", "dense_1", "dense_2"}),
    ],
)
def test_fine_tuning_trains_a_part_and_never_batch_normalisation(part, learning):
    network = pretrained().network
    model = pretrained()
    recipe.fine_tune(model, part)
    assert {node.layer.name for node in network.nodes if node.layer.declarations} - model.network.frozen() == learning


def test_fine_tuning_more_thaws_what_was_frozen():
    model = pretrained()
    recipe.freeze(model, 3)
    recipe.fine_tune(model, "head")
    recipe.fine_tune(model, "all")
    assert model.network.frozen() == {"batch_norm_1", "batch_norm_2"}


def test_the_learning_rate_falls_from_the_head_to_the_first_layer():
    model = pretrained()
    recipe.fine_tune(model, "all")
    rates = {node.layer.name: node.layer.learning_rate_factor for node in model.network.nodes}
    falling = [rates[name] for name in ("dense_2", "dense_1", "conv2d_3", "conv2d_2", "conv2d_1")]
    assert falling == sorted(falling, reverse=True)
    assert (falling[0], falling[1], falling[-1]) == pytest.approx((1, recipe.BODY, recipe.BODY / 3))
    with pytest.raises(ValueError, match=r"part must be one of head, last, all\. Received: 'most'"):
        recipe.fine_tune(model, "most")


# Several labels an image


def several(temperatures=(1.0, 1.0, 1.0), n=400):
    """A model whose logits are off by a factor for each label, images, and labels that its right logits gave."""
    model = xpcnn.Sequential([layers.Flatten(), layers.Dense(3, activation="sigmoid")], (1, 2, 3), xp=np, seed=1)
    model.thresholds = (0.5, 0.5, 0.5)
    recipe.compile(model, steps=1)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 1, 2, 3)).astype(np.float32)
    y = (rng.random((n, 3)) < model.predict(x)).astype(int)
    weights = model.get_weights()
    weights["dense_1.weight"] *= np.array(temperatures, np.float32)[:, None]
    weights["dense_1.bias"] *= np.array(temperatures, np.float32)
    model.set_weights(weights)
    return model, x, y


def test_a_model_with_thresholds_gets_binary_cross_entropy_and_macro_f1():
    model, _, _ = several()
    assert model.loss.config() == losses.BinaryCrossEntropy(label_smoothing=0.05).config()
    assert [metric.name for metric in model.metrics] == ["multilabel_f1"]


def test_several_labels_are_learned_on_every_backend(xp):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, (60, 3))
    x = rng.normal(0, 0.3, (60, *SHAPE)) + y[:, :2, None, None]
    x[:, :, 0] += 2 * y[:, 2:, None]
    stack = [layers.Conv2D(4, 3, activation="relu"), layers.Flatten(), layers.Dense(3, activation="sigmoid")]
    model = xpcnn.Sequential(stack, SHAPE, xp=xp)
    model.thresholds = (0.5,) * 3
    recipe.compile(model, steps=40 * 3, learning_rate=0.02)
    history = model.fit(x, y, epochs=40, batch_size=16, validation_split=0.2, verbose=0).history
    assert history["multilabel_f1"][-1] > 0.9
    assert history["val_multilabel_f1"][-1] > 0.9
    assert model.evaluate(x, y)["multilabel_f1"] > 0.9
    recipe.calibrate_labels(model, x, y)
    assert ((model.predict(x) > model.thresholds) == y).mean() > 0.95


def test_each_label_is_calibrated_by_a_temperature_of_its_own():
    wrong_by = (1.0, 3.0, 0.4)
    model, x, y = several(wrong_by, n=5000)
    found = recipe.calibrate_labels(model, x, y)
    assert found == pytest.approx(wrong_by, rel=0.15)
    right, _, _ = several()
    np.testing.assert_allclose(model.predict(x), right.predict(x), atol=0.05)
    assert model.temperature == 1
    assert model.thresholds == calibration.find_thresholds(model.predict(x), y)


def test_labels_that_no_image_has_or_that_all_have_are_left_as_they_are():
    model, x, y = several((1.0, 3.0, 2.0))
    y[:, 0], y[:, 1] = 0, 1
    before = model.predict(x)
    temperatures = recipe.calibrate_labels(model, x, y)
    assert temperatures[:2] == (1, 1)
    assert model.thresholds[:2] == (0.5, 0.5)
    np.testing.assert_array_equal(model.predict(x)[:, :2], before[:, :2])


def test_a_fit_forgets_the_thresholds_of_the_earlier_weights():
    model, x, y = several()
    recipe.calibrate_labels(model, x, y)
    model.fit(x, y, verbose=0)
    assert model.thresholds == (0.5, 0.5, 0.5)


def test_only_a_model_with_thresholds_and_a_sigmoid_is_calibrated_by_label():
    model, x, y = several()
    model.thresholds = None
    with pytest.raises(ValueError, match=r"Only a model with thresholds .* Received: thresholds None"):
        recipe.calibrate_labels(model, x, y)
    other = xpcnn.Sequential([layers.Flatten(), layers.Dense(3, activation="softmax")], (1, 2, 3), xp=np)
    other.thresholds = (0.5,) * 3
    with pytest.raises(ValueError, match="ends in Dense and a sigmoid"):
        recipe.calibrate_labels(other, x, y)
