"""A model whose products and convolutions compute in another precision: how it is chosen, kept, shown and resumed."""

import copy
import pickle

import numpy as np
import pytest

from tests import precisions, strict
from xpcnn import Sequential, callbacks, files, layers, load
from xpcnn.backend import BackendError
from xpcnn.precision import in_precision
from xpcnn.training import checkpoints

WITH_KERNELS = pytest.mark.parametrize("device", ["kernels", "cupy"], indirect=True)
IN_EACH = pytest.mark.parametrize("precision", precisions.NAMES)


@pytest.fixture(autouse=True)
def unset(monkeypatch):
    monkeypatch.delenv("XPCNN_PRECISION", raising=False)


def network(xp, **compiled):
    model = Sequential(
        [
            layers.Conv2D(6, 3, padding=1, activation="relu"), layers.AveragePool2D(2), layers.BatchNorm(),
            layers.Conv2D(6, 3, groups=2), layers.Flatten(), layers.Dense(3, activation="softmax"),
        ],
        input_shape=(1, 8, 8), xp=xp,
    )  # fmt: skip
    model.compile(**compiled)
    return model


def data(n=40):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, 1, 8, 8)).astype(np.float32), rng.integers(3, size=n)


@WITH_KERNELS
@IN_EACH
def test_its_gradients_are_float32s_to_within_the_rounding(device, precision):
    loss, gradients = network(device, precision=precision).loss_and_gradients(*data())
    exact_loss, exact = network(device).loss_and_gradients(*data())
    assert 0 < abs(loss - exact_loss) < 100 * precisions.UNIT[precision]
    for name, gradient in gradients.items():
        assert gradient.dtype == np.float32
        if name != "conv2d_1.bias":  # next to nothing, before batch normalisation
            off = np.linalg.norm(gradient - exact[name]) / np.linalg.norm(exact[name])
            assert off < 20 * precisions.UNIT[precision], name


@WITH_KERNELS
@IN_EACH
def test_training_and_prediction_compute_in_it_and_are_repeatable(device, precision):
    def trained(**compiled):
        model = network(device, **compiled)
        history = model.fit(*data(), epochs=3, batch_size=16, verbose=0)
        return history.steps, model.predict(data()[0])

    (steps, outputs), (again, same) = trained(precision=precision), trained(precision=precision)
    exact_steps, exact = trained()
    assert steps == again
    np.testing.assert_array_equal(outputs, same)
    assert steps != exact_steps
    np.testing.assert_allclose(steps, exact_steps, atol=200 * precisions.UNIT[precision])
    assert not np.array_equal(outputs, exact)


def test_compile_chooses_it_and_keeps_it_where_none_is_given():
    model = network(strict.xp)
    assert model.precision == "float32"
    model.compile(precision="tf32")
    model.compile("sgd")
    assert model.precision == "tf32"
    assert model.xp is strict.xp
    model.to("numpy")
    assert (model.precision, model.xp) == ("float32", np)
    model.to(strict.xp)
    assert model.precision == "tf32"
    model.compile(precision="float32")
    assert model.precision == "float32"


@pytest.mark.parametrize("precision", ["tf32", "float16", "fp8"])
def test_the_host_refuses_it_and_the_model_stays(precision):
    model = network("numpy", optimizer="sgd")
    with pytest.raises(BackendError, match=f"'{precision}'"):
        model.compile("adam", precision=precision)
    assert (model.precision, model.optimizer.name) == ("float32", "sgd")


def test_copies_and_pickles_compute_in_it_too(monkeypatch):
    monkeypatch.setattr("xpcnn.precision.choose", lambda name=None: type("Choice", (), {"xp": strict.xp}))
    model = network(strict.xp, precision="bfloat16")
    assert copy.deepcopy(model).precision == pickle.loads(pickle.dumps(model)).precision == "bfloat16"
    monkeypatch.setattr("xpcnn.precision.choose", lambda name=None: type("Choice", (), {"xp": np}))
    assert pickle.loads(pickle.dumps(model)).precision == "float32", "on the host"


def precisions_shown(model):
    """Return what each layer computes in, and its output is stored in, by the columns of the summary."""
    heading, _, *rows = model.summary(precision=True).splitlines()
    first, second, end = (heading.index(word) for word in ("precision", "stored in", "parameters"))
    return {row.split()[0]: (row[first:second].strip(), row[second:end].split("  ")[0].strip()) for row in rows[:-2]}


@pytest.mark.parametrize("device", ["kernels"], indirect=True)
@IN_EACH
def test_the_summary_lists_what_is_stored_in_it(device, precision):
    model = Sequential(
        [
            layers.Conv2D(6, 3, padding=1), layers.MaxPool2D(2), layers.BatchNorm(), layers.ReLU(),
            layers.Residual([layers.Conv2D(6, 1)]), layers.Conv2D(6, 1), layers.Conv2D(6, 3, groups=2),
            layers.Flatten(), layers.Dense(3, activation="softmax"),
        ],
        input_shape=(1, 8, 8), xp=device,
    )  # fmt: skip
    model.compile(precision=precision)
    images = precision if precision in precisions.OF_16_BITS else "float32"
    assert {name: stored for name, (_, stored) in precisions_shown(model).items()} == {
        "conv2d_1": "", "max_pool2d_1": images, "batch_norm_1": "", "relu_1": images, "conv2d_2": images,
        "residual_1": images, "conv2d_3": "float32", "conv2d_4": "float32", "flatten_1": "float32",
        "dense_1": "float32",
    }  # fmt: skip


@IN_EACH
def test_the_summary_lists_what_computes_in_it(precision):
    model = network(strict.xp, precision=precision)
    assert " precision " not in model.summary()
    shown = {name: computes for name, (computes, _) in precisions_shown(model).items()}
    assert shown == {
        "conv2d_1": precision, "average_pool2d_1": "float32", "batch_norm_1": "float32", "conv2d_2": "float32",
        "flatten_1": "float32", "dense_1": precision,
    }  # fmt: skip
    assert precision not in model.to("numpy").summary(precision=True)


@IN_EACH
def test_a_model_trained_in_it_loads_in_float32(precision, tmp_path):
    model = network(strict.xp, precision=precision)
    model.fit(*data(), batch_size=16, verbose=0)
    model.save(tmp_path / "model.safetensors")
    loaded = load(tmp_path / "model.safetensors", xp="numpy")
    assert loaded.precision == "float32"
    np.testing.assert_allclose(loaded.predict(data()[0]), model.predict(data()[0]), rtol=1e-4, atol=1e-6)


def halved(model):
    """The state of an optimiser that has skipped two steps."""
    size = model.network.layout.size
    moments = {name: np.zeros(size) for name in model.optimizer.moment_names}
    numbers = {"step": 2, "scale": 16384.0, "finite_steps": 0, "skipped": 2}
    return moments | {name: np.array(number) for name, number in numbers.items()}


class TestResuming:
    def fit(self, model, path, epochs=4, stop=None, **arguments):
        class Stop(callbacks.Callback):
            def on_step_end(self, fit):
                if fit.step == stop:
                    fit.interrupt("enough")

        return model.fit(
            *data(),
            epochs=epochs,
            batch_size=16,
            verbose=0,
            callbacks=[callbacks.Checkpoint(path), Stop()],
            **arguments,
        )

    def test_goes_on_in_the_precision_of_the_checkpoint_whatever_the_environment_says(self, tmp_path, monkeypatch):
        whole, path = network(strict.xp, precision="tf32"), tmp_path / "checkpoint.safetensors"
        self.fit(whole, tmp_path / "whole.safetensors")
        self.fit(network(strict.xp, precision="tf32"), path, stop=5)
        assert files.load_tensors(path)[1]["precision"] == "tf32"
        monkeypatch.setenv("XPCNN_PRECISION", "bfloat16")
        resumed = network(in_precision(strict.xp))
        assert resumed.precision == "bfloat16"
        self.fit(resumed, path, resume=path)
        assert resumed.precision == "tf32"
        for name, weight in whole.get_weights().items():
            np.testing.assert_array_equal(resumed.get_weights()[name], weight)

    @pytest.mark.parametrize(("before", "after"), [("float16", "float32"), ("float32", "float16")])
    def test_in_another_one_it_goes_on_where_that_is_asked_for_with_a_scale_that_begins_anew(
        self, tmp_path, before, after
    ):
        path = tmp_path / "checkpoint.safetensors"
        model, resumed = network(strict.xp, precision=before), network(strict.xp, precision=after)
        if before == "float16":
            model.optimizer.load_state(halved(model))
        self.fit(model, path, stop=5)
        saved = checkpoints.read(path)
        assert (saved.description["loss_scale"] is not None) == (before == "float16")
        self.fit(resumed, path, resume=saved.in_precision(after))
        assert (resumed.epochs, resumed.precision) == (4, after)
        if after == "float16":
            assert resumed.optimizer.loss_scale.numbers() == {"scale": 65536.0, "finite_steps": 7, "skipped": 0}
        else:
            assert (resumed.optimizer.loss_scale, resumed.optimizer.skipped, resumed.optimizer.step) == (None, 2, 14)

    @pytest.mark.parametrize(
        "numbers",
        [{"scale": 3.0}, {"scale": 0}, {"scale": "1"}, {"scale": 1e39}, {"skipped": 6}, {"skipped": -1},
         {"finite_steps": 2000}, {"finite_steps": None}, {"other": 1}],
    )  # fmt: skip
    def test_a_loss_scale_that_is_impossible_is_told_as_damage(self, tmp_path, numbers):
        path = tmp_path / "checkpoint.safetensors"
        model = network(strict.xp, precision="float16")
        self.fit(model, path, stop=5)
        tensors, description = files.load_tensors(path)
        description["loss_scale"] |= numbers
        files.save_tensors(path, tensors, description)
        other = network(strict.xp, precision="float16")
        before = other.get_weights()
        with pytest.raises(ValueError, match=r"checkpoint.safetensors' is damaged and cannot be resumed: .*\.$"):
            self.fit(other, path, resume=path)
        for name, weight in other.get_weights().items():
            np.testing.assert_array_equal(weight, before[name])

    def test_in_another_one_is_refused_naming_both(self, tmp_path):
        path = tmp_path / "checkpoint.safetensors"
        self.fit(network(strict.xp), path, stop=5)
        with pytest.raises(ValueError, match=r"was computed in float32, and the model is compiled for tf32\. Comp"):
            self.fit(network(strict.xp, precision="tf32"), path, resume=path)

    @pytest.mark.parametrize("device", ["kernels"], indirect=True)
    def test_one_from_before_images_were_stored_in_16_bits_is_told(self, device, tmp_path):
        path = tmp_path / "checkpoint.safetensors"
        self.fit(network(device, precision="bfloat16"), path, epochs=2, stop=2)
        self.fit(network(device, precision="bfloat16"), path, epochs=2, stop=3, resume=path)  # without a warning
        tensors, description = files.load_tensors(path)
        assert description["versions"].pop("images") == "bfloat16"
        files.save_tensors(path, tensors, description)
        with pytest.warns(UserWarning, match=r"images.*bfloat16.* may not be bit-identical"):
            self.fit(network(device, precision="bfloat16"), path, epochs=2, resume=path)

    def test_on_the_host_is_refused(self, tmp_path):
        path = tmp_path / "checkpoint.safetensors"
        self.fit(network(strict.xp, precision="tf32"), path, stop=5)
        with pytest.raises(BackendError, match="'tf32' was requested by the checkpoint, but numpy computes in float32"):
            self.fit(network("numpy"), path, resume=path)

    def test_a_checkpoint_from_before_there_were_others_is_of_float32(self, tmp_path):
        path = tmp_path / "checkpoint.safetensors"
        self.fit(network("numpy"), path, stop=5)
        tensors, description = files.load_tensors(path)
        del description["precision"]
        files.save_tensors(path, tensors, description)
        model = network("numpy", precision="float32")
        self.fit(model, path, resume=path)
        assert model.epochs == 4


def test_ranks_must_agree(monkeypatch):
    """What ranks compare includes it."""
    from xpcnn.communicator import ALONE

    compared = {}

    class OneOfTwo(type(ALONE)):
        size = 2

        def same(self, what, value):
            compared[what] = value

    network(strict.xp, precision="tf32").fit(*data(), batch_size=16, verbose=0, communicator=OneOfTwo())
    assert compared["code"]["precision"] == "tf32"
