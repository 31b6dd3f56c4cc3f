import copy
import dataclasses
import json
import math
import os
import tracemalloc

import numpy as np
import pytest
import safetensors.numpy

import xpcnn
from tests import strict
from tests.models import CLASSES, SHAPE, bits, mixed, plain, samples
from xpcnn import data, files, initializers, layers, losses, metrics, optimizers, schedules
from xpcnn.model import file


class Scale(layers.Layer):
    """A layer of one's own: multiplies each channel by a learned factor, and all by a fixed one."""

    def __init__(self, factor=1.0, *, name=None, xp=None):
        super().__init__(name=name, xp=xp)
        self.factor = factor

    def build(self, input_shape):
        self.declare("weight", (input_shape[0],), initializers.Ones())
        return input_shape

    def forward(self, params, x, context):
        weight = params["weight"][:, None, None] * self.factor

        def backward(dy, gradients):
            gradients["weight"][...] = (dy * x).sum(axis=(0, 2, 3)) * self.factor
            return dy * weight

        return x * weight, backward


def every_layer():
    """A compiled model with every layer and every kind of argument."""
    model = xpcnn.Sequential(
        [
            layers.Conv2D(4, (3, 1), strides=(1, 2), padding="same", dilation=(2, 1), activation="relu", name="first"),
            layers.Conv2D(4, 3, padding=(1, 1), padding_mode="edge", groups=2, use_bias=False),
            layers.BatchNorm(momentum=0.3, epsilon=1e-3),
            layers.LeakyReLU(0.2),
            layers.Residual([layers.Conv2D(4, 1, activation=layers.LeakyReLU(0.3)), layers.Residual([layers.Tanh()])]),
            layers.Upsample2D((1, 2)),
            layers.MaxPool2D(2, strides=1),
            layers.MinPool2D((1, 2), padding=(0, 1)),
            layers.AveragePool2D(2, padding="same"),
            layers.Activation("sigmoid"),
            layers.Dropout(0.25),
            layers.Reshape((2, -1, 3)),
            layers.Softmax(),
            layers.Sigmoid(),
            layers.ReLU(),
            layers.Flatten(),
            layers.Dense(5, kernel_initializer="glorot_uniform", bias_initializer=initializers.Constant(0.5)),
            layers.Dense(CLASSES, activation="softmax", kernel_initializer=initializers.LecunNormal()),
        ],
        input_shape=SHAPE,
        xp=np,
        seed=7,
    )
    model.compile()
    return model


def reload(model, folder, **arguments):
    model.save(folder / "model.safetensors")
    return xpcnn.load(folder / "model.safetensors", **arguments)


# What comes back


@pytest.mark.parametrize("build", [plain, mixed, every_layer])
def test_a_loaded_model_predicts_the_same_bits(tmp_path, build):
    x, y = samples(40)
    model = build()
    model.fit(x, y, epochs=2, verbose=0)
    loaded = reload(model, tmp_path, xp="numpy")
    assert loaded.predict(x).tobytes() == model.predict(x).tobytes()
    assert bits(loaded) == bits(model)
    assert repr(loaded.layers) == repr(model.layers)
    assert [layer.name for layer in loaded.layers] == [layer.name for layer in model.layers]
    assert (loaded.seed, loaded.epochs, loaded.input_shape) == (model.seed, 2, SHAPE)


def test_saving_again_gives_the_same_file(tmp_path):
    model = every_layer()
    model.save(tmp_path / "a")
    xpcnn.load(tmp_path / "a").save(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_global_pool_and_a_width_of_one_come_back(tmp_path):
    for pool in (layers.GlobalAveragePool2D(), layers.GlobalMaxPool2D()):
        model = xpcnn.Sequential([pool, layers.Dense(1, "sigmoid")], SHAPE, xp=np)
        x, _ = samples(4)
        np.testing.assert_array_equal(reload(model, tmp_path, xp="numpy").predict(x), model.predict(x))


def with_digests(digests, path):
    model = xpcnn.Sequential([layers.Flatten(), layers.Dense(2)], input_shape=(1, 2, 2))
    model.digests = digests
    model.save(path)
    return path


def test_digests_are_kept_sorted_and_apart_from_the_weights(tmp_path):
    digests = np.array([[9] * 8, [1] * 8, [9] * 8], np.uint8)
    model = xpcnn.load(with_digests(digests, tmp_path / "model.safetensors"))
    assert model.digests.tolist() == [[1] * 8, [9] * 8]
    assert set(model.get_weights()) == {"dense_1.weight", "dense_1.bias"}
    assert copy.deepcopy(model).digests.tolist() == model.digests.tolist()


@pytest.mark.parametrize("digests", [np.zeros((2, 7), np.uint8), np.zeros((2, 8), np.float32), np.zeros(8, np.uint8)])
def test_digests_of_another_form_are_refused(tmp_path, digests):
    with pytest.raises(ValueError, match=r"digests must be uint8 \(n, 8\)"):
        xpcnn.load(with_digests(digests, tmp_path / "model.safetensors"))


def test_a_temperature_is_kept(tmp_path):
    model = plain()
    model.temperature = 1.234
    assert reload(model, tmp_path).temperature == 1.234


@pytest.mark.parametrize("wrong", [0, -1, 0.01, 21, "hot", None, float("nan"), [1]])
def test_a_temperature_that_is_none_is_refused(tmp_path, wrong):
    model = plain()
    with pytest.raises(ValueError, match="temperature must be a number in"):
        model.temperature = wrong
    file.write(tmp_path / "a", dataclasses.replace(model.state(), temperature=wrong))
    with pytest.raises(ValueError, match="temperature must be a number in"):
        xpcnn.load(tmp_path / "a")


def test_a_model_stays_on_its_backend_when_it_is_saved(tmp_path, xp):
    x, y = samples(20)
    model = mixed(xp)
    model.fit(x, y, verbose=0)
    flat = model.network.parameters
    loaded = reload(model, tmp_path, xp=xp)
    assert model.network.parameters is flat
    assert type(flat) is type(xp.zeros(1))
    assert (model.network.xp, loaded.network.xp) == (xp, xp)
    np.testing.assert_array_equal(loaded.predict(x), model.predict(x))


def test_the_backend_of_a_loaded_model_is_chosen_anew(tmp_path, monkeypatch):
    mixed(strict.xp).save(tmp_path / "a")
    monkeypatch.setenv("XPCNN_BACKEND", "numpy")
    assert xpcnn.load(tmp_path / "a").backend == "numpy"
    assert xpcnn.load(tmp_path / "a", xp=strict.xp).backend == "strict"
    with pytest.raises(xpcnn.backend.BackendError, match="no backend 'tpu'"):
        xpcnn.load(tmp_path / "a", xp="tpu")


def test_a_loaded_model_goes_on_with_other_shuffles(tmp_path):
    x, y = samples(40)
    model = plain(optimizer="sgd")  # which carries nothing from step to step
    model.fit(x, y, epochs=2, verbose=0)
    loaded = reload(model, tmp_path, xp=np)
    assert loaded.fit(x, y, verbose=0).steps == model.fit(x, y, verbose=0).steps
    assert bits(loaded) == bits(model)


def test_frozen_layers_stay_frozen(tmp_path):
    x, y = samples(20)
    model = mixed()
    model.layers[0].trainable = model.layers[3].layers[0].trainable = False
    loaded = reload(model, tmp_path)
    assert [loaded.layers[0].trainable, loaded.layers[1].trainable, loaded.layers[3].trainable] == [False, True, True]
    before = bits(loaded)
    loaded.fit(x, y, verbose=0)
    unchanged = {name for name, value in bits(loaded).items() if value == before[name]}
    assert unchanged == {"conv2d_1.weight", "conv2d_2.weight", "conv2d_2.bias"}


def test_class_names_and_preprocessing_are_kept(tmp_path):
    model = plain()
    model.class_names = ["größer", "b", os.fsdecode(b"caf\xe9")]
    model.preprocessing = data.Preprocessing(data.Decoding(6, 6, 3), (1.5, 2.0, 3.0), (4.0, 5.0, 6.0))
    loaded = reload(model, tmp_path)
    assert loaded.class_names == tuple(model.class_names)
    assert loaded.preprocessing == model.preprocessing
    assert reload(plain(), tmp_path).class_names is None


def test_one_output_has_the_names_of_two_classes(tmp_path):
    model = xpcnn.Sequential([layers.Flatten(), layers.Dense(1, "sigmoid")], SHAPE, xp=np)
    model.class_names = ("no", "yes")
    assert reload(model, tmp_path).class_names == ("no", "yes")


@pytest.mark.parametrize("names", ["abc", ("a", "b"), ("a", "b", 3), 3])
def test_class_names_are_one_text_for_each_class(tmp_path, names):
    model = plain()
    model.class_names = names
    with pytest.raises(ValueError, match=r"class_names must be one string for each of 3 classes. Received: "):
        model.save(tmp_path / "a")
    assert os.listdir(tmp_path) == []


def test_what_a_model_was_compiled_with_is_kept(tmp_path):
    schedule = schedules.WarmUp(schedules.Cosine(0.01, steps=50), steps=5)
    model = plain(
        optimizer=optimizers.AdamW(schedule, weight_decay=0.1, clip_norm=1.0),
        loss=losses.CrossEntropy(label_smoothing=0.1, class_weights=(1.0, 2.0, 3.0)),
        metrics=[metrics.TopK(2), "f1", "confusion_matrix", losses.MeanSquaredError()],
    )
    loaded = reload(model, tmp_path)
    assert repr(loaded.optimizer) == repr(model.optimizer)
    assert repr(loaded.loss) == repr(model.loss)
    assert [metric.name for metric in loaded.metrics] == ["top_2", "f1", "confusion_matrix", "mse"]
    x, y = samples(20)
    assert loaded.fit(x, y, verbose=0).steps == model.fit(x, y, verbose=0).steps


def test_a_model_that_was_never_compiled_is_loaded_so(tmp_path):
    model = xpcnn.Sequential(plain().layers, SHAPE, xp=np)
    with pytest.raises(RuntimeError, match="not compiled"):
        reload(model, tmp_path).fit(*samples(4))


class Halved(losses.MeanSquaredError):
    """A loss of one's own."""


class Hits(metrics.Accuracy):
    """A metric of one's own."""


@pytest.mark.parametrize("own", [{"loss": Halved()}, {"metrics": [Hits()]}])
def test_a_model_compiled_with_a_class_of_ones_own_is_loaded_to_be_compiled_again(tmp_path, own):
    x, _ = samples(4)
    model = plain(**own)
    loaded = reload(model, tmp_path, xp=np)
    np.testing.assert_array_equal(loaded.predict(x), model.predict(x))
    assert (loaded.loss, loaded.optimizer, loaded.metrics) == (None, None, [])


# Layers of one's own


def scaled():
    model = xpcnn.Sequential([Scale(np.float32(2.5)), layers.Flatten(), layers.Dense(CLASSES, "softmax")], SHAPE, xp=np)
    model.compile()
    model.fit(*samples(20), verbose=0)
    return model


@pytest.mark.parametrize("name", ["Scale", "scale", "anything"])
def test_layers_of_ones_own_come_back(tmp_path, name):
    x, _ = samples(5)
    model = scaled()
    loaded = reload(model, tmp_path, custom_layers={name: Scale})
    assert loaded.predict(x).tobytes() == model.predict(x).tobytes()
    assert (type(loaded.layers[0]), loaded.layers[0].factor) == (Scale, 2.5)
    assert "scale_1.weight" in loaded.parameters


def test_a_layer_that_is_not_known_is_named_with_those_that_are(tmp_path):
    scaled().save(tmp_path / "a")
    listed = r"Use one of: activation, .*, upsample2d; pass custom layers with load\(path, custom_layers="
    with pytest.raises(ValueError, match=rf"no layer class given for the kind 'scale'. {listed}"):
        xpcnn.load(tmp_path / "a")


@pytest.mark.parametrize("wrong", [[Scale], {"Scale": Scale()}, {"Scale": int}, Scale])
def test_custom_layers_are_classes_by_name(tmp_path, wrong):
    scaled().save(tmp_path / "a")
    with pytest.raises(TypeError, match=r"custom_layers must map names to layer classes.*Received: "):
        xpcnn.load(tmp_path / "a", custom_layers=wrong)


def test_an_argument_that_cannot_be_saved_is_refused_and_leaves_the_old_file(tmp_path):
    plain().save(tmp_path / "a")
    before = (tmp_path / "a").read_bytes()
    model = xpcnn.Sequential([Scale(), layers.Flatten()], SHAPE, xp=np)
    model.layers[0].factor = object()
    with pytest.raises(TypeError, match="A layer's argument cannot be saved: <object"):
        model.save(tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == before
    assert os.listdir(tmp_path) == ["a"]


class Mixture(layers.Layer):
    """Keeps arguments of several kinds."""

    def __init__(self, table=(), inner=None, options=None, *, name=None, xp=None):
        super().__init__(name=name, xp=xp)
        self.table, self.inner, self.options = table, inner, options

    def forward(self, params, x, context):
        return x, lambda dy, gradients: dy


def test_arguments_may_be_lists_arrays_mappings_and_layers(tmp_path):
    layer = Mixture(np.array([[1, 2]]), [layers.Dense(3), None], {"a": (1, "b"), "act": layers.LeakyReLU(0.5)})
    model = xpcnn.Sequential([layer], SHAPE, xp=np)
    loaded = reload(model, tmp_path, custom_layers={"Mixture": Mixture}).layers[0]
    assert loaded.table == [[1, 2]]
    assert repr(loaded.inner) == repr([layers.Dense(3), None])
    assert loaded.options["a"] == [1, "b"]


# Files that are not to be trusted


@pytest.fixture
def described(tmp_path):
    """Write a model's file with a description that was changed, and return its path."""
    model = plain()
    model.class_names = ("a", "b", "c")
    model.preprocessing = data.Preprocessing(data.Decoding(6, 6, 1), (1.0,), (2.0,))
    model.save(tmp_path / "model")
    tensors, description = files.load_tensors(tmp_path / "model")

    def write(change):
        changed = copy.deepcopy(description)
        changed = change(changed) or changed
        files.save_tensors(tmp_path / "model", tensors, changed)
        return tmp_path / "model"

    return write


def put(value, *path):
    """Return a change that puts a value into a description."""

    def change(description):
        for key in path[:-1]:
            description = description[key]
        description[path[-1]] = value

    return change


def drop(*path):
    def change(description):
        for key in path[:-1]:
            description = description[key]
        del description[path[-1]]

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put(3, "format"), "this version of xpcnn reads formats 1 and 2. Received: format 3."),
        (put(2, "format"), "its format is 2, and its thresholds None"),
        (put([0.5] * 3, "thresholds"), r"its format is 1, and its thresholds \[0.5, 0.5, 0.5\]"),
        (put("1", "format"), "Received: format '1'."),
        (drop("format"), "Received: format None."),
        (lambda d: [1, 2], r"Received: format \[1, 2\]."),
        (lambda d: "text", "Received: format 'text'."),
        (drop("layers"), "'layers' is missing"),
        (drop("preprocessing"), "'preprocessing' is missing"),
        (put([], "layers"), "no layers"),
        (put(None, "layers"), "not iterable"),
        (put([5], "layers"), "must be layer objects.*Received: 5"),
        (put({}, "layers", 0), "must be layer objects.*Received: {}"),
        (put("conv9d", "layers", 0, "layer"), "no layer of kind 'conv9d'"),
        (put(["conv2d"], "layers", 0, "layer"), "unhashable"),
        (put(3, "layers", 0, "paddings"), "layer 'conv2d' takes .*Received: paddings"),
        (put("cupy", "layers", 0, "xp"), "Received: xp"),
        (drop("layers", 0, "filters"), "layer 'conv2d' cannot be made from"),
        (put(-1, "layers", 0, "filters"), "filters .*whole number"),
        (put("eval", "layers", 0, "kernel_initializer", "name"), "no initializer with that name"),
        (put(10**12, "layers", 0, "filters"), r"'conv2d_1.weight': expected shape \(1000000000000, 2, 3, 3\)"),
        (put(10**30, "layers", 0, "filters"), "expected shape"),
        (put([10**9, 10**9], "layers", 0, "kernel_size"), "kernel does not fit the 6x6 input"),
        (put(2**31, "layers", 0, "dilation"), "dilation must be at most 2,147,483,647. Received: 2147483648"),
        (put([1, 10**30], "layers", 0, "strides"), "strides must be at most 2,147,483,647"),
        (put(10**12, "layers", 3, "units"), r"'dense_1.weight': expected shape \(1000000000000, 16\)"),
        (put([10**6, 6, 6], "input_shape"), "expected shape"),
        (put([2, 10**9, 10**9], "input_shape"), "expected shape"),
        (put([2, 6], "input_shape"), "takes images"),
        (put([2, 6, 0], "input_shape"), "input_shape must be a whole number"),
        (put("abc", "input_shape"), r"input_shape must be \(channels"),
        (put([float("inf"), 6, 6], "input_shape"), "input_shape must be a whole number"),
        (put(-1, "seed"), "A seed must be an integer"),
        (put(-1, "epochs"), "epochs must be a whole number"),
        (put(1.5, "epochs"), "epochs must be a whole number"),
        (put(["a", "b"], "class_names"), "one string for each of 3 classes"),
        (put("abc", "class_names"), "one string for each of 3 classes"),
        (put([1, 2, 3], "class_names"), "one string for each of 3 classes"),
        (put({}, "preprocessing"), "A preprocessing has"),
        (put([float("nan")], "preprocessing", "mean"), "finite numbers"),
        (put("adam", "compiled"), "must be a mapping"),
        (put({"optimiser": "adam"}, "compiled"), "unexpected keyword"),
        (put("lion", "compiled", "optimizer"), "no optimizer with that name"),
        (put(-1, "compiled", "optimizer", "learning_rate"), "learning_rate must be a number"),
        (put(5, "compiled", "metrics"), "not iterable"),
    ],
)
def test_a_hostile_description_is_refused_in_one_sentence(described, change, message):
    path = described(change)
    with pytest.raises(ValueError, match=rf"^'{path}' does not contain a loadable model: .*{message}") as caught:
        xpcnn.load(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("depth", [300, 100_000])
def test_deep_descriptions_are_refused(tmp_path, depth):
    plain().save(tmp_path / "a")
    tensors, description = files.load_tensors(tmp_path / "a")
    nested = '{"layer": "residual", "layers": [' * depth + '{"layer": "relu"}' + "]}" * depth
    text = json.dumps({**description, "layers": ["nested"]}).replace('"nested"', nested)
    (tmp_path / "a").write_bytes(safetensors.numpy.save(tensors, {"xpcnn": text}))
    with pytest.raises(ValueError, match=r"does not contain a loadable model: |description that cannot be read \("):
        xpcnn.load(tmp_path / "a")


@pytest.mark.parametrize("filters", [10**8, 10**15])
def test_huge_layers_are_refused_before_memory_is_taken(described, filters):
    path = described(put(filters, "layers", 0, "filters"))
    tracemalloc.start()
    with pytest.raises(ValueError, match="expected shape"):
        xpcnn.load(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors: tensors.pop("dense_1.bias"),
        lambda tensors: tensors.update(extra=np.ones(3, np.float32)),
        lambda tensors: tensors.update({"dense_1.bias": np.ones(4, np.float32)}),
        lambda tensors: tensors.update({"dense_1.weight": tensors["dense_1.weight"].T}),
        lambda tensors: tensors.clear(),
    ],
    ids=["missing", "extra", "longer", "transposed", "none"],
)
def test_arrays_of_other_names_or_shapes_are_refused(tmp_path, change):
    plain().save(tmp_path / "a")
    tensors, description = files.load_tensors(tmp_path / "a")
    change(tensors)
    files.save_tensors(tmp_path / "a", tensors, description)
    with pytest.raises(ValueError, match="does not contain a loadable model: The arrays do not fit the network"):
        xpcnn.load(tmp_path / "a")


@pytest.mark.parametrize(
    ("stack", "shape"),
    [
        ([layers.Upsample2D(2)] * 12, "values in memory"),
        ([layers.Upsample2D((2900, 2900))], "values in memory"),
        ([layers.Conv2D(1, 1, padding=20_000, strides=10_000)], "values in memory"),
        ([layers.Upsample2D(1000), layers.MaxPool2D((1, 2000), strides=2)], "values in memory"),
        ([layers.Conv2D(2, 1), layers.Upsample2D(500), layers.Conv2D(2, 200, use_bias=False)], "values in memory"),
        ([layers.Conv2D(64, 1), layers.Upsample2D(92), layers.Conv2D(64, 30)], "multiplications"),
    ],
)
def test_a_model_that_takes_too_much_for_one_image_is_refused_before_it_does(tmp_path, stack, shape):
    copies = [copy.deepcopy(layer) for layer in stack]
    model = xpcnn.Sequential([*copies, layers.GlobalMaxPool2D(), layers.Dense(2)], (1, 6, 6), np)
    model.save(tmp_path / "a")
    tracemalloc.start()
    with pytest.raises(ValueError, match=rf"too much for one image: the limit is [0-9,]+ {shape}.*\. Received: [0-9]+"):
        xpcnn.load(tmp_path / "a")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000_000


def test_ten_thousand_layers_are_loaded_and_one_more_is_not(described):
    relu = {"layer": "relu"}
    nested = [{"layer": "residual", "layers": [relu] * 9995}]
    assert len(xpcnn.load(described(lambda d: d.update(layers=nested + d["layers"]))).layers) == 5
    with pytest.raises(ValueError, match=r"A model has at most 10,000 layers\. Received: 10,001\."):
        xpcnn.load(described(lambda d: d.update(layers=[relu, *nested, *d["layers"]])))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["conv2d_1.weight", "batch_norm_1.running_var"])
def test_weights_that_are_not_finite_are_refused(tmp_path, name, value):
    model = mixed()
    model.save(tmp_path / "a")
    tensors, description = files.load_tensors(tmp_path / "a")
    tensors[name].ravel()[-1] = value
    files.save_tensors(tmp_path / "b", tensors, description)
    with pytest.raises(ValueError, match=rf"not contain a loadable model: The array '{name}' contains NaN or infinite"):
        xpcnn.load(tmp_path / "b")
    model.set_weights(tensors)
    with pytest.raises(ValueError, match=rf"The array '{name}' contains NaN or infinite values. Use the model of an"):
        model.save(tmp_path / "a")
    assert xpcnn.load(tmp_path / "a").get_weights().keys() == tensors.keys()


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int32, np.bool_])
def test_arrays_of_another_dtype_are_refused(tmp_path, dtype):
    plain().save(tmp_path / "a")
    tensors, description = files.load_tensors(tmp_path / "a")
    files.save_tensors(tmp_path / "a", {**tensors, "dense_1.bias": tensors["dense_1.bias"].astype(dtype)}, description)
    with pytest.raises(ValueError, match=rf"'dense_1.bias' is {np.dtype(dtype)}, but a model's arrays must be float32"):
        xpcnn.load(tmp_path / "a")


def test_a_refusal_does_not_repeat_a_long_name_whole(described):
    with pytest.raises(ValueError, match=r"takes .* Received: xxx") as caught:
        xpcnn.load(described(put(1, "layers", 0, "x" * 100_000)))
    assert len(str(caught.value)) < 1500


@pytest.mark.parametrize("part", [0, 0.001, 0.02, 0.5, 0.9, 0.9999])
def test_a_file_that_is_cut_off_is_refused(tmp_path, part):
    plain().save(tmp_path / "a")
    content = (tmp_path / "a").read_bytes()
    (tmp_path / "a").write_bytes(content[: int(part * len(content))])
    with pytest.raises(ValueError, match="is not a model file, or is damaged"):
        xpcnn.load(tmp_path / "a")


def test_a_file_of_the_same_kind_that_is_no_model_is_refused(tmp_path):
    files.save_tensors(tmp_path / "a", {"a": np.ones(2, np.float32)}, {"step": 3})
    with pytest.raises(ValueError, match=r"reads formats 1 and 2. Received: format None"):
        xpcnn.load(tmp_path / "a")


@pytest.mark.parametrize("name", ["cells.keras", "cells.h5", "cells.onnx", "cells.pt"])
def test_a_file_of_another_library_is_refused_with_what_can_be_read(tmp_path, name):
    (tmp_path / name).write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(
        ValueError, match=rf"{name}' is not a model file.*PyTorch.*formats\.torch\.load_state_dict"
    ) as caught:
        xpcnn.load(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_name_of_another_library_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match=r"the extension of Keras, .*Use '.*cells\.safetensors'\.$"):
        plain().save(tmp_path / "cells.keras")
    assert not list(tmp_path.iterdir())


def test_a_missing_file_is_missing_and_a_folder_is_a_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no model file '.*none'. Give one that xpcnn wrote"):
        xpcnn.load(tmp_path / "none")
    with pytest.raises(IsADirectoryError, match=r"is a directory, not a model file. Give a file"):
        xpcnn.load(tmp_path)


def test_a_path_that_cannot_be_written_is_an_error_that_names_it(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match=r"[Nn]o.* directory") as caught:
        plain().save(tmp_path / "file" / "model.safetensors")
    assert caught.value.filename == str(tmp_path / "file" / "model.safetensors")


# What stands in the file


def test_the_file_is_one_tensor_table_with_a_description_in_json(tmp_path):
    model = plain()
    model.save(tmp_path / "a")
    content = (tmp_path / "a").read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert {*header} == {"__metadata__", *model.get_weights()}
    assert header["conv2d_1.weight"]["dtype"] == "F32"
    assert header["conv2d_1.weight"]["shape"] == [4, 2, 3, 3]
    description = json.loads(header["__metadata__"]["xpcnn"])
    assert description["version"] == xpcnn.__version__
    assert [layer["layer"] for layer in description["layers"]] == ["conv2d", "max_pool2d", "flatten", "dense"]


def test_a_class_of_ones_own_with_the_name_of_a_layer_is_not_loaded_as_that(tmp_path):
    class Dense(layers.Dense):
        def forward(self, params, x, context):
            y, backward = super().forward(params, x, context)
            return y + 1, backward

    model = xpcnn.Sequential([layers.Flatten(), Dense(3)], (1, 2, 2), np)
    model.save(tmp_path / "a")
    with pytest.raises(ValueError, match="no layer class given for the kind 'dense'"):
        xpcnn.load(tmp_path / "a")
    x = np.ones((2, 1, 2, 2))
    assert xpcnn.load(tmp_path / "a", custom_layers={"Dense": Dense}).predict(x).tolist() == model.predict(x).tolist()


def test_a_layers_name_and_initialisers_of_ones_own_survive(tmp_path):
    class Halves(initializers.Initializer):
        name = "halves"

        def _draw(self, generator, shape):
            return np.full(shape, 0.5)

    class Bare(layers.Layer):
        def __init__(self):
            pass

        def build(self, input_shape):
            self.declare("weight", input_shape, Halves())
            return input_shape

        def forward(self, params, x, context):
            return x * params["weight"], lambda dy, gradients: dy

    named = Bare()
    named.name = "scaled"
    stack = [layers.Flatten(), named, layers.Dense(3, kernel_initializer=Halves())]
    model = xpcnn.Sequential(stack, (1, 2, 2), np)
    model.save(tmp_path / "a")
    loaded = xpcnn.load(tmp_path / "a", custom_layers={"Bare": Bare})
    assert loaded.parameters.keys() == model.parameters.keys()
    assert set(loaded.parameters["dense_1.weight"].ravel().tolist()) == {0.5}


# Several labels an image


def labelling(thresholds=(0.25, 0.5, 0.75)):
    model = xpcnn.Sequential([layers.Flatten(), layers.Dense(3, activation="sigmoid")], SHAPE, xp=np)
    model.thresholds = thresholds
    return model


def test_thresholds_are_kept_by_files_copies_and_moves(tmp_path):
    labelling().save(tmp_path / "a")
    assert files.load_tensors(tmp_path / "a")[1]["format"] == 2, "version 0.1.0 would name one class"
    for model in (xpcnn.load(tmp_path / "a"), copy.deepcopy(labelling()), labelling().to("numpy")):
        assert model.thresholds == (0.25, 0.5, 0.75)


@pytest.mark.parametrize("thresholds", [(0.5,), (0.5, 0.5, 1.5), (0.5, "a", 0.5), 0.5, (math.nan, 0.5, 0.5)])
def test_thresholds_that_do_not_fit_are_not_saved(tmp_path, thresholds):
    with pytest.raises(ValueError, match="thresholds must be one number from 0 to 1 for each of 3 outputs"):
        labelling(thresholds).save(tmp_path / "a")
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("thresholds", [[0.5], [0.5, 0.5, 2], {}, "abc", 1])
def test_thresholds_that_do_not_fit_are_not_loaded(tmp_path, thresholds):
    labelling().save(tmp_path / "a")
    tensors, description = files.load_tensors(tmp_path / "a")
    files.save_tensors(tmp_path / "b", tensors, {**description, "thresholds": thresholds})
    with pytest.raises(ValueError, match=r"'.*b' does not contain a loadable model: thresholds must be"):
        xpcnn.load(tmp_path / "b")
