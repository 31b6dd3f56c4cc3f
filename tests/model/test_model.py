import copy
import re
import threading
import warnings

import numpy as np
import pytest

import xpcnn
from tests import reference, strict
from tests.models import CLASSES, SHAPE, bits, mixed, plain, samples, straight
from xpcnn import backend, layers, losses, metrics, optimizers

# Building


def test_the_weights_have_the_names_and_shapes_that_others_rely_on():
    model = mixed()
    assert {name: value.shape for name, value in model.parameters.items()} == {
        "conv2d_1.weight": (4, 2, 3, 3),
        "batch_norm_1.weight": (4,),
        "batch_norm_1.bias": (4,),
        "conv2d_2.weight": (4, 4, 3, 3),
        "conv2d_2.bias": (4,),
        "batch_norm_2.weight": (4,),
        "batch_norm_2.bias": (4,),
        "dense_1.weight": (3, 36),
        "dense_1.bias": (3,),
    }
    assert [*model.parameters] == [name for name in model.get_weights() if "running" not in name]
    assert [*model.loss_and_gradients(*samples(6))[1]] == [*model.parameters]


def test_layers_added_one_by_one_make_the_same_model():
    at_once = plain()
    model = xpcnn.Sequential(input_shape=SHAPE, xp=np)
    for layer in plain().layers:
        model.add(layer)
    assert bits(model) == bits(at_once)


def test_an_added_layer_leaves_the_trained_weights_before_it(xp):
    x, y = samples(20)
    model = mixed(xp)
    model.fit(x, y, verbose=0)
    before, features = model.get_weights(), model.predict(x)
    model.add(layers.Dense(CLASSES, activation="softmax"))
    after = model.get_weights()
    assert [*after] == [*(name for name in before if "running" not in name), "dense_2.weight", "dense_2.bias",
                        *(name for name in before if "running" in name)]  # fmt: skip
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value)
    np.testing.assert_allclose(model.activations(x)["dense_1"], features, rtol=1e-5)
    model.fit(x, y, verbose=0)
    assert model.predict(x).shape == (20, CLASSES)


def test_a_layer_that_does_not_fit_is_refused_and_changes_nothing():
    model = plain()
    before = bits(model)
    with pytest.raises(ValueError, match="Conv2D 'conv2d_2': it takes images"):
        model.add(layers.Conv2D(4, 3))
    with pytest.raises(ValueError, match="Use each layer object once"):
        model.add(model.layers[3])
    assert len(model.layers) == 4
    assert bits(model) == before


@pytest.mark.parametrize("wrong", [3, "relu", layers.ReLU, None, [layers.ReLU()]])
def test_a_model_is_made_of_layers(wrong):
    with pytest.raises(TypeError, match=r"layers must be layer objects.*Received: "):
        xpcnn.Sequential([layers.Flatten(), wrong], input_shape=SHAPE)
    with pytest.raises(TypeError, match="layers must be layer objects"):
        plain().add(wrong)


@pytest.mark.parametrize("shape", [5, (), "abc", (0, 6, 6), (1, 6.0, 6), (1, -6, 6), (True, 6, 6)])
def test_an_impossible_input_shape_is_refused(shape):
    with pytest.raises(ValueError, match=r"input_shape.*Received: "):
        xpcnn.Sequential([layers.Flatten()], input_shape=shape)


@pytest.mark.parametrize(
    ("shape", "odd"),
    [
        ((28, 28, 3), True),
        ((32, 48, 4), True),
        ((28, 28, 1), True),
        ((3, 28, 28), False),
        ((3, 3, 3), False),
        ((12, 1000, 1), False),  # twelve signals
        ((64, 7, 7), False),
    ],
)
def test_an_input_shape_with_the_channels_last_is_warned_of(shape, odd):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = xpcnn.Sequential([layers.Flatten()], input_shape=shape)
    assert model.input_shape == shape  # it may be meant
    told = [f"input_shape={(shape[2], *shape[:2])}" in str(one.message) for one in caught]
    assert told == ([True] if odd else [])
    assert not caught or caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        copy.deepcopy(model)  # which has been warned of


def test_a_model_without_layers_or_shape_says_what_it_needs():
    for model in (xpcnn.Sequential(), xpcnn.Sequential([layers.Flatten()]), xpcnn.Sequential(input_shape=SHAPE)):
        with pytest.raises(ValueError, match=r"no layers or no input_shape yet. Use Sequential\("):
            model.predict(samples(1)[0])


def test_an_impossible_stack_is_refused_at_once():
    with pytest.raises(ValueError, match="Conv2D 'conv2d_1': a 7x7 kernel does not fit the 6x6 input"):
        xpcnn.Sequential([layers.Conv2D(1, 7)], input_shape=SHAPE)


# Backends


def test_the_backend_is_that_of_the_model_then_of_a_layer_then_of_the_environment(monkeypatch):
    def flat(**arguments):
        return layers.Flatten(**arguments)

    assert xpcnn.Sequential([flat()], SHAPE, xp=strict.xp).backend == "strict"
    assert xpcnn.Sequential([flat(), flat(xp=strict.xp)], SHAPE).backend == "strict"
    assert xpcnn.Sequential([flat(xp=strict.xp)], SHAPE, xp="numpy").backend == "numpy"
    monkeypatch.setenv("XPCNN_BACKEND", "numpy")
    assert xpcnn.Sequential([flat()], SHAPE).backend == "numpy"
    monkeypatch.setenv("XPCNN_BACKEND", "tpu")
    with pytest.raises(backend.BackendError, match="no backend 'tpu' in XPCNN_BACKEND"):
        xpcnn.Sequential([flat()], SHAPE)


def test_a_moved_model_computes_the_same(xp, host):
    x, y = samples(20)
    model = mixed()
    model.fit(x, y, verbose=0)
    there = model.predict(x)
    assert model.to(xp) is model
    assert model.network.xp is xp
    assert {type(value) for value in model.parameters.values()} == {type(xp.zeros(1))}
    np.testing.assert_allclose(model.predict(x), there, rtol=1e-5)
    assert bits(model) == bits(model.to("numpy"))
    assert model.backend == "numpy"


def test_training_goes_on_equal_after_a_move(xp):
    x, y = samples(48)
    stayed, moved = mixed(optimizer="adam"), mixed(optimizer="adam")
    for model in (stayed, moved):
        model.fit(x, y, epochs=2, verbose=0)
    moved.to(xp)
    assert {type(moment) for moment in moved.optimizer.moments.values()} == {type(xp.zeros(1))}
    first, second = stayed.fit(x, y, verbose=0), moved.fit(x, y, verbose=0)
    moved.to("numpy")
    third, fourth = stayed.fit(x, y, verbose=0), moved.fit(x, y, verbose=0)
    np.testing.assert_allclose(second.steps + fourth.steps, first.steps + third.steps, rtol=1e-4)
    np.testing.assert_allclose(moved.network.parameters, stayed.network.parameters, atol=1e-5)
    assert moved.optimizer.step == stayed.optimizer.step


def test_a_model_that_is_not_built_yet_can_be_moved():
    model = xpcnn.Sequential(input_shape=SHAPE, xp=np).to(strict.xp)
    model.add(layers.Flatten())
    assert model.predict(samples(2)[0]).shape == (2, 72)
    assert model.backend == "strict"


def test_an_unknown_backend_leaves_the_model_where_it_is():
    model = plain()
    with pytest.raises(backend.BackendError, match=r"no backend 'tpu'. Use one of: numpy, numba, cupy, auto"):
        model.to("tpu")
    assert model.predict(samples(1)[0]).shape == (1, 3)


def test_numpy_and_numba_have_the_same_arrays_and_other_kernels():
    pytest.importorskip("numba")
    x, y = samples(20)
    plain_model, compiled_model = mixed(), mixed().to("numba")
    assert (plain_model.backend, compiled_model.backend) == ("numpy", "numba")
    assert plain_model.xp is compiled_model.xp is np
    for model in (plain_model, compiled_model):
        model.fit(x, y, epochs=2, verbose=0)
    np.testing.assert_allclose(compiled_model.predict(x), plain_model.predict(x), rtol=1e-3, atol=1e-5)


# Compiling


def test_names_and_objects_choose_the_same():
    model = plain(optimizer="sgd", loss="mse", metrics=["accuracy", "top_2", "mse", losses.CrossEntropy(0.1)])
    assert isinstance(model.optimizer, optimizers.SGD)
    assert isinstance(model.loss, losses.MeanSquaredError)
    assert [metric.name for metric in model.metrics] == ["accuracy", "top_2", "mse", "cross_entropy"]
    assert model.metrics[3].loss.label_smoothing == 0.1
    optimizer, loss, metric = optimizers.Adam(0.5), losses.CrossEntropy(), metrics.TopK(2)
    model.compile(optimizer, loss, [metric])
    assert (model.optimizer, model.loss, model.metrics) == (optimizer, loss, [metric])


@pytest.mark.parametrize(
    ("loss", "expected"), [("cross_entropy", ["accuracy"]), ("binary_cross_entropy", ["accuracy"]), ("mse", [])]
)
def test_losses_of_classes_are_measured_by_accuracy_unless_told_otherwise(loss, expected):
    model = plain(loss=loss)
    assert [metric.name for metric in model.metrics] == expected
    model.compile(loss=loss, metrics=[])
    assert model.metrics == []


@pytest.mark.parametrize(
    ("arguments", "listed"),
    [
        ({"optimizer": "lion"}, "sgd, rmsprop, adagrad, adam, adamw. Received: 'lion'"),
        ({"loss": "hinge"}, "cross_entropy, binary_cross_entropy, mse. Received: 'hinge'"),
        (
            {"metrics": ["auc"]},
            "accuracy, top_k, precision, recall, f1, confusion_matrix, calibration_error, multilabel_f1. "
            "Received: 'auc'",
        ),
    ],
)
def test_an_unknown_name_is_refused_with_those_that_exist_and_changes_nothing(arguments, listed):
    model = plain(optimizer="sgd", loss="mse", metrics=["top_2"])
    before = (model.optimizer, model.loss, model.metrics)
    with pytest.raises(ValueError, match=f"Use one of: {listed}"):
        model.compile(**arguments)
    assert (model.optimizer, model.loss, model.metrics) == before


def test_before_compile_only_prediction_works():
    x, y = samples(4)
    model = xpcnn.Sequential(plain().layers, SHAPE, xp=np)
    for use in (model.fit, model.evaluate, model.loss_and_gradients):
        with pytest.raises(RuntimeError, match=r"not compiled. Call model.compile\("):
            use(x, y)
    assert model.predict(x).shape == (4, CLASSES)


def test_a_model_that_is_called_predicts():
    x, y = samples(30)
    model = mixed()
    model.fit(x, y, verbose=0)
    model.calibrate(x, y)
    np.testing.assert_array_equal(model(x), model.predict(x))
    assert model(x[0]).shape == (1, CLASSES)


# Bad input


@pytest.mark.parametrize("use", ["fit", "evaluate", "loss_and_gradients"])
@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([0, 1, 2, 3], "from 0 to 2, one for each of the 3 outputs. Received: labels from 0 to 3"),
        ([0, 1, 2, -1], "Received: labels from -1 to 2"),
        ([0, 1, 2], r"There are 4 images, so 4 labels are needed. Received an array of shape \(3,\)"),
        (np.eye(4), "one-hot rows of width 4, but the model has 3 outputs"),
        ([0, 1, 0.5, 2], "integers. Received: 0.5"),
        ([0, 1, np.nan, 2], "Targets must be finite"),
        (["a", "b", "c", "d"], r"Received: 'a' \(<U1\)"),
        ([None] * 4, r"Received: None \(object\)"),
        (np.zeros((4, 2, 2)), r"Received: an array of shape \(4, 2, 2\)"),
        (1, r"4 labels are needed. Received an array of shape \(\)"),
    ],
)
def test_labels_that_do_not_fit_are_refused_in_a_sentence(use, y, message):
    x, _ = samples(4)
    with pytest.raises(ValueError, match=message):
        getattr(plain(), use)(x, y)


@pytest.mark.parametrize("use", ["fit", "evaluate", "loss_and_gradients", "predict", "activations"])
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((2, 3, 6, 6)), r"images of shape \(2, 6, 6\).*shape \(2, 3, 6, 6\). It has 3 channels, not 2"),
        (np.full((2, *SHAPE), np.nan), "must be finite.*first in image 0"),
        (np.full((2, *SHAPE), np.inf), "must be finite.*first in image 0"),
        (np.zeros((0, *SHAPE)), "There are no images"),
        (np.zeros((2, *SHAPE), object), "arrays of numbers. Received an array of dtype object"),
        (np.zeros((2, *SHAPE), "U3"), "arrays of numbers. Received an array of dtype <U3"),
    ],
)  # fmt: skip
def test_images_that_do_not_fit_are_refused_in_a_sentence(use, x, message):
    y = () if use in ("predict", "activations") else (np.zeros(len(x), dtype=int),)
    with pytest.raises((ValueError, TypeError), match=message):
        getattr(plain(), use)(x, *y)


@pytest.mark.parametrize("wrong", [0, -1, 1.5, "2", True])
@pytest.mark.parametrize("what", ["epochs", "batch_size", "threads", "shards"])
def test_counts_are_whole_numbers_from_1_on(what, wrong):
    begun = []

    class Begun(xpcnn.callbacks.Callback):
        def on_fit_begin(self, fit):
            begun.append(fit)

    model = plain()
    with pytest.raises(ValueError, match=rf"{what} must be a whole number, at least 1. Received: {wrong!r}"):
        model.fit(*samples(8), callbacks=[Begun()], verbose=0, **{what: wrong})
    assert begun == []
    assert bits(model) == bits(plain())


def test_counts_may_be_of_numpy():
    history = plain().fit(*samples(8), epochs=np.int64(2), batch_size=np.int32(4), verbose=0)
    assert len(history.steps) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"validation_split": 1.0}, "validation_split must be between 0 and 1. Received: 1.0"),
        ({"validation_split": -0.1}, "Received: -0.1"),
        ({"validation_split": np.nan}, "Received: nan"),
        ({"validation_split": "0.2"}, "Received: '0.2'"),
        ({"validation_data": samples(4)[0]}, r"validation_data must be a pair \(x, y\). Received: array"),
        ({"validation_data": (*samples(4), None)}, "validation_data must be a pair"),
        ({"validation_data": (samples(4)[0], [0])}, "There are 4 images, so 4 labels"),
        ({"validation_data": (samples(4)[0], [0, 1, 2, 3])}, "Received: labels from 0 to 3"),
        ({"sample_weight": [1, 2]}, "each of the 8 samples"),
        ({"sample_weight": [0] * 8}, "All sample weights are 0, so there is nothing to average"),
        ({"sample_weight": [1] * 7 + [np.nan]}, "finite"),
        ({"class_weight": {3: 1}}, "each of the 3 classes"),
        ({"augment": "heavy"}, "no augmentation 'heavy'. Use one of: none, shift, light, microscopy"),
        ({"seed": -1}, "A seed must be an integer from 0"),
        ({"seed": 0.5, "validation_split": 0.5}, "A seed must be an integer from 0"),
        ({"data_format": "last"}, "data_format must be one of"),
    ],
)  # fmt: skip
def test_arguments_that_do_not_fit_are_refused_before_anything_is_learned(arguments, message):
    model = plain()
    with pytest.raises(ValueError, match=message):
        model.fit(*samples(8), verbose=0, **arguments)
    assert bits(model) == bits(plain())


def test_a_class_with_one_image_cannot_be_split():
    x, _ = samples(4)
    with pytest.raises(ValueError, match=r"class index 2 has too few images.*Received: 1"):
        plain().fit(x, [0, 0, 2, 0], validation_split=0.5)


def test_metrics_of_classes_need_classes():
    x, _ = samples(4)
    with pytest.raises(ValueError, match="not classes, as required for: accuracy, f1"):
        straight(loss="mse", metrics=["accuracy", "mse", "f1"]).fit(x, [0.5, 3, 1, -1])


def test_a_model_that_ends_in_images_predicts_but_does_not_learn():
    x, y = samples(4)
    model = xpcnn.Sequential([layers.Conv2D(3, 3)], SHAPE, xp=np)
    model.compile()
    assert model.predict(x).shape == (4, 3, 4, 4)
    with pytest.raises(ValueError, match=r"needs flat outputs.*returns \(3, 4, 4\). Add Flatten"):
        model.fit(x, y)


def test_channels_may_come_last_everywhere():
    x, y = samples(12)
    last = x.transpose(0, 2, 3, 1)
    first, other = plain(), plain()
    first.fit(x, y, validation_data=(x, y), verbose=0)
    other.fit(last, y, validation_data=(last, y), verbose=0, data_format="channels_last")
    assert bits(first) == bits(other)
    assert other.evaluate(last, y, data_format="channels_last") == first.evaluate(x, y)
    np.testing.assert_array_equal(other.predict(last, data_format="channels_last"), first.predict(x))
    np.testing.assert_array_equal(other.predict(last[0], data_format="channels_last"), first.predict(x[:1]))


@pytest.mark.parametrize("kind", ["device", "generator", "pairs"])
def test_what_holds_images_elsewhere_trains_the_same(kind):
    x, y = samples(24)
    given = {
        "device": (strict.xp.asarray(x), strict.xp.asarray(y)),
        "generator": ((one for one in x), y),
        "pairs": (zip(x, y, strict=True), None),
    }[kind]
    first, other = plain(), plain()
    first.fit(x, y, verbose=0)
    other.fit(*given, verbose=0)
    assert bits(first) == bits(other)


# Prediction


def test_one_image_gives_one_row(xp):
    x, _ = samples(3)
    model = mixed(xp)
    one = model.predict(x[1])
    assert (type(one), one.shape, one.dtype) == (np.ndarray, (1, CLASSES), np.float32)
    np.testing.assert_allclose(one, model.predict(x)[1:2], rtol=1e-5)


def read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x.astype(np.uint8),
        lambda x: x.astype(np.int64),
        lambda x: x.astype(np.float64),
        lambda x: x.astype(np.float16),
        lambda x: x.astype(">f4"),
        lambda x: x.tolist(),
        read_only,
        np.asfortranarray,
        lambda x: np.repeat(x, 2, axis=3)[..., ::2],
        lambda x: x[::-1].copy()[::-1],
        lambda x: np.ascontiguousarray(x.transpose(2, 3, 0, 1)).transpose(2, 3, 0, 1),
    ],
    ids=[
        "uint8", "int64", "float64", "float16", "big-endian", "lists", "read-only", "Fortran", "strided", "reversed",
        "other axes",
    ],
)  # fmt: skip
@pytest.mark.parametrize("build", [plain, mixed])
def test_the_kind_and_the_layout_of_the_images_change_nothing(build, change):
    x = np.random.default_rng(0).integers(0, 9, (7, *SHAPE)).astype(np.float32)
    model = build()
    given = change(x)
    np.testing.assert_array_equal(model.predict(given), model.predict(x))
    np.testing.assert_array_equal(given, x)


@pytest.mark.parametrize(
    "first",
    [
        layers.ReLU(), layers.LeakyReLU(), layers.Tanh(), layers.Sigmoid(), layers.Softmax(), layers.BatchNorm(),
        layers.Dropout(0.5), layers.Flatten(), layers.MaxPool2D(), layers.AveragePool2D(1), layers.Upsample2D(1),
        layers.Residual([layers.ReLU()]), layers.Reshape((72, 1, 1)), layers.Conv2D(2, 1), layers.GlobalMaxPool2D(),
    ],
    ids=lambda layer: layer.kind(),
)  # fmt: skip
def test_no_layer_writes_into_the_images(first):
    x, y = samples(6)
    kept = x.copy()
    model = xpcnn.Sequential([first, layers.Flatten(), layers.Dense(CLASSES, "softmax")], SHAPE, xp=np)
    model.compile()
    model.predict(x)
    model.activations(x)
    model.loss_and_gradients(x, y)
    model.fit(x, y, verbose=0, batch_size=6, shuffle=False)
    np.testing.assert_array_equal(x, kept)


def test_predictions_are_the_callers_own():
    x, _ = samples(4)
    model = plain()
    first = model.predict(x)
    kept = first.copy()
    model.predict(-x)
    np.testing.assert_array_equal(first, kept)


def test_two_predictions_at_once_are_both_right(xp):
    model = mixed(xp)
    inputs = [samples(40, seed=seed)[0] for seed in range(4)]
    expected = [model.predict(x) for x in inputs]
    wrong, start = [], threading.Barrier(4)

    def predict(x, right):
        start.wait()
        for _ in range(10):
            if not np.array_equal(model.predict(x), right):
                wrong.append(x)

    threads = [threading.Thread(target=predict, args=pair) for pair in zip(inputs, expected, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# Loss and gradients


def test_gradients_stay_as_they_are_when_others_are_computed(xp):
    model, (x, y) = plain(xp), samples(16)
    _, gradients = model.loss_and_gradients(x, y)
    kept = {name: gradient.copy() for name, gradient in gradients.items()}
    model.loss_and_gradients(x + 1, y)
    model.fit(x, y, verbose=0)
    for name, gradient in gradients.items():
        np.testing.assert_array_equal(gradient, kept[name])


def test_loss_and_gradients_change_nothing(xp):
    x, y = samples(20)
    model = mixed(xp)
    model.fit(x, y, verbose=0)
    before = bits(model), model.optimizer.step, model.epochs
    first, second = model.loss_and_gradients(x, y), model.loss_and_gradients(x, y)
    assert (bits(model), model.optimizer.step, model.epochs) == before
    assert first[0] == second[0]
    for name, gradient in first[1].items():
        assert (type(gradient), gradient.dtype) == (np.ndarray, np.dtype(np.float32))
        np.testing.assert_array_equal(gradient, second[1][name])


def oracle(weights, x, y):
    """The mean cross-entropy of the plain model, from the textbook."""
    z = reference.conv2d(x, weights["conv2d_1.weight"], weights["conv2d_1.bias"])
    pooled = reference.pool2d(np.maximum(z, 0), "max", (2, 2), (2, 2))
    p = reference.softmax(
        reference.dense(pooled.reshape(len(x), -1), weights["dense_1.weight"], weights["dense_1.bias"])
    )
    return -np.log(p[np.arange(len(y)), y]).mean()


def test_loss_and_gradients_are_the_textbooks(xp):
    x, y = samples(3)
    model = plain(xp)
    loss, gradients = model.loss_and_gradients(x, y)
    weights = {name: value.astype(np.float64) for name, value in model.get_weights().items()}
    assert loss == pytest.approx(oracle(weights, x.astype(np.float64), y), rel=1e-5)
    for name in ("conv2d_1.bias", "dense_1.bias", "conv2d_1.weight"):
        numerical = reference.numerical_gradient(lambda _: oracle(weights, x, y), weights[name])
        np.testing.assert_allclose(gradients[name], numerical, rtol=1e-3, atol=1e-5, err_msg=name)


def test_loss_and_gradients_are_those_of_training(xp):
    x, y = samples(10)
    model = plain(xp, optimizer=optimizers.SGD(0.5))
    loss, gradients = model.loss_and_gradients(x, y)
    before = model.get_weights()
    history = model.fit(x, y, shuffle=False, verbose=0)
    assert history.steps == [pytest.approx(loss, rel=1e-6)]
    for name, after in model.get_weights().items():
        np.testing.assert_allclose(after, before[name] - 0.5 * gradients[name], atol=1e-6)


# Activations


def test_activations_are_the_outputs_of_the_layers_alone(xp):
    x, _ = samples(5)
    model = mixed(xp)
    model.fit(*samples(30), verbose=0)
    activations = model.activations(x)
    assert [*activations] == [
        "conv2d_1", "batch_norm_1", "relu_1", "conv2d_2", "tanh_1", "batch_norm_2", "residual_1",
        "max_pool2d_1", "flatten_1", "dropout_1", "dense_1",
    ]  # fmt: skip
    assert {type(output) for output in activations.values()} == {np.ndarray}
    for depth, name in [(1, "conv2d_1"), (2, "batch_norm_1"), (3, "relu_1"), (4, "residual_1"), (5, "max_pool2d_1")]:
        part = xpcnn.Sequential(mixed().layers[:depth], SHAPE, xp=xp)
        part.set_weights({key: value for key, value in model.get_weights().items() if key in part.get_weights()})
        np.testing.assert_allclose(activations[name], part.predict(x), rtol=1e-5, atol=1e-6, err_msg=name)
    np.testing.assert_allclose(activations["dense_1"], model.predict(x), rtol=1e-5)
    np.testing.assert_allclose(
        activations["residual_1"], activations["relu_1"] + activations["batch_norm_2"], rtol=1e-5, atol=1e-6
    )


def test_activations_stay_when_the_model_goes_on():
    x, y = samples(5)
    model = mixed()
    first = model.activations(x)
    kept = {name: output.copy() for name, output in first.items()}
    model.fit(x, y, verbose=0)
    model.activations(-x)
    for name, output in first.items():
        np.testing.assert_array_equal(output, kept[name])


# Weights


def test_weights_are_copied_out_and_written_in_place(xp):
    x, y = samples(20)
    model, other = mixed(xp), mixed(xp, seed=1)
    other.fit(x, y, verbose=0)
    flat, weights = model.network.parameters, other.get_weights()
    model.set_weights(weights)
    assert model.network.parameters is flat
    assert bits(model) == bits(other)
    np.testing.assert_array_equal(model.predict(x), other.predict(x))
    for value in weights.values():
        value[...] = 0
    assert bits(model) == bits(other)


def test_writing_into_a_parameter_changes_the_model(xp):
    x, _ = samples(4)
    model = plain(xp)
    model.parameters["dense_1.weight"][...] = 0
    model.parameters["dense_1.bias"][...] = 0
    np.testing.assert_allclose(model.predict(x), 1 / 3, rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("dense_1.bias"), "'dense_1.bias': expected shape (3,). Received: nothing"),
        (lambda w: w.update(extra=np.ones(2)), "'extra': expected no such array. Received: shape (2,)"),
        (lambda w: w.update({"dense_1.bias": np.ones(4)}), "expected shape (3,). Received: shape (4,)"),
        (lambda w: w.update({"dense_1.bias": ["a", "b", "c"]}), "could not convert string"),
        (lambda w: w.update({"dense_1.bias": np.ones(3) * 1j}), "'dense_1.bias' must contain real numbers"),
    ],
)
def test_weights_that_do_not_fit_are_refused_and_none_is_written(change, message):
    model = plain()
    weights = {name: value + 1 for name, value in model.get_weights().items()}
    change(weights)
    with pytest.raises(ValueError, match=re.escape(message)):
        model.set_weights(weights)
    assert bits(model) == bits(plain())


def test_weights_are_given_by_name_and_not_in_a_list_as_in_keras():
    with pytest.raises(TypeError, match=r"weights must be a dict by name.*Received: list"):
        plain().set_weights([*plain().get_weights().values()])


def test_a_layer_belongs_to_one_model_and_an_optimiser_too():
    convolution = layers.Conv2D(2, 3, padding="same", strides=2)
    first = xpcnn.Sequential([convolution, layers.GlobalAveragePool2D()], (1, 8, 8), np)
    expected = first.predict(np.ones((1, 1, 8, 8))).tolist()
    with pytest.raises(ValueError, match=r"'conv2d_1' belongs to another model.*set_weights"):
        xpcnn.Sequential([convolution, layers.Flatten()], (1, 7, 7), np)
    assert first.predict(np.ones((1, 1, 8, 8))).tolist() == expected
    del first
    xpcnn.Sequential([convolution, layers.Flatten()], (1, 7, 7), np)
    adam = optimizers.Adam()
    one, other = (xpcnn.Sequential([layers.Flatten()], (1, 1, 2), np) for _ in range(2))
    one.compile(adam)
    one.compile(adam, "mse")
    other.compile("sgd")
    with pytest.raises(ValueError, match="state of another model"):
        other.compile(adam, "mse", [])
    assert (other.optimizer.name, other.loss.name, len(other.metrics)) == ("sgd", "cross_entropy", 1)


def test_a_stack_that_cannot_be_built_leaves_its_layers_free():
    convolution = layers.Conv2D(2, 5)
    with pytest.raises(ValueError, match="does not fit") as refused:
        xpcnn.Sequential([convolution], (1, 3, 3), np)
    assert refused.value.__traceback__ is not None, "the trace keeps the model that failed alive"
    assert xpcnn.Sequential([convolution], (1, 9, 9), np).network.output_shape == (2, 5, 5)


@pytest.mark.parametrize(
    ("last", "loss"),
    [
        (lambda: layers.Dense(3), "cross_entropy"),
        (lambda: layers.Dense(3, activation="relu"), "cross_entropy"),
        (lambda: layers.Dense(3, activation="tanh"), "binary_cross_entropy"),
    ],
)
def test_a_loss_of_probabilities_refuses_outputs_that_are_none(last, loss):
    model = xpcnn.Sequential([layers.Flatten(), last()], (1, 2, 2), np)
    model.compile(loss=loss)
    with pytest.raises(ValueError, match=r"needs probabilities.*Give the last layer activation="):
        model.fit(np.ones((4, 1, 2, 2)), np.array([0, 1, 2, 0]))


def test_the_layers_are_a_tuple_that_only_add_makes_longer():
    model = xpcnn.Sequential([layers.Flatten()], (1, 2, 2), np)
    model.add(layers.Dense(2))
    assert [type(layer).__name__ for layer in model.layers] == ["Flatten", "Dense"]
    with pytest.raises(AttributeError):
        model.layers.pop()


def test_one_metric_needs_no_list_and_one_callback_does():
    model = xpcnn.Sequential([layers.Flatten(), layers.Dense(2, activation="softmax")], (1, 2, 2), np)
    model.compile(metrics="accuracy")
    assert [metric.name for metric in model.metrics] == ["accuracy"]
    with pytest.raises(TypeError, match="callbacks must be a list of callbacks"):
        model.fit(np.ones((2, 1, 2, 2)), [0, 1], callbacks=xpcnn.callbacks.Callback())
    with pytest.raises(ValueError, match="verbose"):
        model.fit(np.ones((2, 1, 2, 2)), [0, 1], verbose="auto")


def test_a_gradient_that_is_put_in_place_of_its_view_is_an_error():
    class Wrong(layers.Layer):
        def build(self, input_shape):
            self.declare("weight", input_shape, xpcnn.initializers.Ones())
            return input_shape

        def forward(self, params, x, context):
            def backward(dy, gradients):
                gradients["weight"] = (dy * x).sum(axis=0)
                return dy

            return x * params["weight"], backward

    model = xpcnn.Sequential([layers.Flatten(), Wrong(), layers.Dense(2, activation="softmax")], (1, 2, 2), np)
    model.compile()
    with pytest.raises(TypeError, match="item assignment"):
        model.fit(np.ones((2, 1, 2, 2)), [0, 1], verbose=0)


def test_labels_are_smoothed_in_training_and_not_in_validation():
    x, y = samples(24)
    seen = []
    for smoothing in (0.0, 0.3):
        model = plain(optimizer=optimizers.SGD(0.0), loss=losses.CrossEntropy(smoothing))
        fitted = model.fit(x, y, validation_data=(x, y), verbose=0)
        assert model.evaluate(x, y)["loss"] == fitted.history["val_loss"][0]
        seen.append((fitted.history["loss"][0], fitted.history["val_loss"][0]))
    assert seen[0][0] != seen[1][0]
    assert seen[0][1] == seen[1][1]


# Calibration


def sharpened(xp=np, by=6.0):
    """A trained model that is far too sure of itself."""
    x, y = samples(60)
    model = plain(xp)
    model.fit(x, y, epochs=3, verbose=0)
    for name in ("dense_1.weight", "dense_1.bias"):
        model.parameters[name][...] *= by
    return model, samples(200, seed=1)


def test_a_model_that_is_too_sure_is_calibrated_and_answers_the_same(xp):
    model, (x, y) = sharpened(xp)
    model.metrics = [metrics.get("calibration_error")]
    sure, before = model.predict(x), model.evaluate(x, y)
    temperature = model.calibrate(x, y)
    after = model.evaluate(x, y)
    assert temperature == model.temperature > 1.5
    np.testing.assert_array_equal(model.predict(x).argmax(axis=1), sure.argmax(axis=1))
    assert after["loss"] < before["loss"]
    assert after["calibration_error"] < before["calibration_error"]
    own = model.predict(x)[np.arange(len(y)), y]
    assert after["loss"] == pytest.approx(-np.log(own).mean(), rel=1e-5)


def test_calibrating_again_finds_the_same():
    model, (x, y) = sharpened()
    assert model.calibrate(x, y) == model.calibrate(x, y)


def test_each_way_to_lay_an_image_is_calibrated_before_the_mean():
    model, (x, y) = sharpened()
    model.calibrate(x, y)
    expected = (model.predict(x) + model.predict(x[..., ::-1])) / 2
    np.testing.assert_allclose(model.predict(x, augment="light"), expected, rtol=1e-6)


def test_training_on_forgets_a_calibration():
    model, (x, y) = sharpened()
    model.calibrate(x, y)
    model.fit(x, y, verbose=0)
    assert model.temperature == 1


def test_only_probabilities_of_classes_can_be_calibrated():
    x, y = samples(6)
    model = plain(loss="mse")
    with pytest.raises(ValueError, match="The loss is mse"):
        model.calibrate(x, y)
    with pytest.raises(RuntimeError, match="not compiled"):
        xpcnn.Sequential([layers.Flatten(), layers.Dense(3)], SHAPE).calibrate(x, y)


def test_class_weights_weigh_training_and_not_validation():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 1, 2, 2)), np.arange(40) % 2
    losses_seen = []
    for weights in ({0: 1.0, 1: 1.0}, {0: 1.0, 1: 9.0}):
        model = xpcnn.Sequential([layers.Flatten(), layers.Dense(2, activation="softmax")], (1, 2, 2), np)
        model.compile(optimizers.SGD(0.0))
        fitted = model.fit(x, y, validation_split=0.5, class_weight=weights, verbose=0)
        losses_seen.append((fitted.history["loss"][0], fitted.history["val_loss"][0]))
    assert losses_seen[0][0] != losses_seen[1][0]
    assert losses_seen[0][1] == losses_seen[1][1]
