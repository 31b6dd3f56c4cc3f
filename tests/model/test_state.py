"""A model as plain data; models that are copied or sent to another process."""

import copy
import dataclasses
import pickle
import subprocess
import sys

import numpy as np
import pytest

import xpcnn
from tests.models import SHAPE, bits, mixed, samples
from xpcnn import callbacks, data, layers, optimizers
from xpcnn.precision import resolve


def from_read_only_memory(model):
    """Return a copy whose arrays lay in memory that can't be written, as joblib hands it to other processes."""
    buffers = []
    pickled = pickle.dumps(model, protocol=5, buffer_callback=buffers.append)
    return pickle.loads(pickled, buffers=[bytes(buffer) for buffer in buffers])


COPIES = pytest.mark.parametrize(
    "copied",
    [lambda model: pickle.loads(pickle.dumps(model)), copy.deepcopy, copy.copy, from_read_only_memory],
    ids=["pickle", "deepcopy", "copy", "read-only"],
)


class Doubled(layers.Layer):
    """A layer of one's own."""

    def __init__(self, factor=2.0, name=None, xp=None):
        super().__init__(name=name, xp=xp)
        self.factor = factor

    def forward(self, params, x, context):
        return x * self.factor, lambda dy, gradients: dy * self.factor


def full():
    """A model in which no field of the state has the value that a new model gives it."""
    x, y = samples()
    model = mixed(seed=3)
    model.fit(x, y, epochs=2, verbose=0)
    model.calibrate(x, y)
    model.thresholds = (0.25, 0.5, 0.75)
    model.class_names, model.digests = ("a", "b", "c"), np.ones((1, 8), np.uint8)
    model.preprocessing = data.Preprocessing(data.Decoding(6, 6, 2, as_channels=True), (1.0, 2.0), (3.0, 4.0))
    return model


def told(state):
    """Return every field of a state as what can be compared."""

    def plain(value):
        if isinstance(value, np.ndarray):
            return value.tolist()
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, list):
            return [plain(item) for item in value]
        return value.config() if hasattr(value, "config") else value

    return {field.name: plain(getattr(state, field.name)) for field in dataclasses.fields(state)}


def saved(model, path):
    model.save(path)
    return xpcnn.load(path)


@pytest.mark.parametrize(
    "again",
    [lambda model, path: xpcnn.Sequential.from_state(copy.deepcopy(model.state())), saved],
    ids=["state", "file"],
)
def test_every_field_comes_back(again, tmp_path):
    new, model = told(xpcnn.Sequential().state()), full()
    state = told(model.state())
    assert [name for name in state if state[name] == new[name]] == []
    assert told(again(model, tmp_path / "a").state()) == state


def test_an_input_shape_that_was_changed_too_late_is_not_that_of_the_state():
    model = xpcnn.Sequential([layers.Flatten(), layers.Dense(2)], input_shape=(1, 4, 4))
    model.input_shape = (1, 8, 8)
    assert xpcnn.Sequential.from_state(model.state()).input_shape == (1, 4, 4)


def test_a_state_is_a_copy_that_cannot_be_changed():
    model = full()
    state = model.state()
    before = told(state)["arrays"]
    model.parameters["dense_1.bias"][...] = 7
    assert told(state)["arrays"] == before
    with pytest.raises(dataclasses.FrozenInstanceError):
        state.epochs = 3


@COPIES
def test_a_copy_predicts_the_same_bits_and_shares_nothing(copied):
    x, y = samples()
    model = mixed()
    model.fit(x, y, epochs=2, verbose=0)
    model.class_names = ("a", "b", "c")
    model.calibrate(x, y)
    other = copied(model)
    assert other.predict(x).tobytes() == model.predict(x).tobytes()
    assert (other.class_names, other.temperature, other.epochs) == (("a", "b", "c"), model.temperature, 2)
    before = bits(model)
    other.fit(x, y, verbose=0)
    assert bits(model) == before


@COPIES
def test_a_copy_goes_on_as_the_model_would_have(copied):
    x, y = samples()
    model = mixed(optimizer=optimizers.Adam(xpcnn.schedules.Cosine(0.01, 20)))
    model.fit(x, y, epochs=2, verbose=0)
    other = copied(model)
    for one in (model, other):
        one.fit(x, y, epochs=2, seed=3, verbose=0)
    assert bits(other) == bits(model)
    assert other.optimizer.step == model.optimizer.step


@COPIES
def test_names_frozen_layers_and_layers_of_ones_own_are_kept(copied):
    stack = [Doubled(3.0), layers.Flatten(), layers.Dense(3, activation="softmax", name="last")]
    model = xpcnn.Sequential(stack, SHAPE, np)
    model.layers[0].trainable = False
    other = copied(model)
    assert type(other.layers[0]) is Doubled
    assert [layer.name for layer in other.layers] == [layer.name for layer in model.layers]
    assert [layer.trainable for layer in other.layers] == [False, True, True]
    assert other.optimizer is None
    x, _ = samples()
    assert other.predict(x).tobytes() == model.predict(x).tobytes()


def test_numpy_stays_numpy_whatever_is_the_default_where_it_arrives(monkeypatch):
    pickled = pickle.dumps(mixed())
    monkeypatch.setenv("XPCNN_BACKEND", "cupy")
    assert pickle.loads(pickled).backend == "numpy"


def test_what_a_device_computed_is_read_where_the_default_is(device):
    x, y = samples()
    model = mixed(device)
    model.fit(x, y, verbose=0)
    other = pickle.loads(pickle.dumps(model))
    assert other.xp is resolve(None)
    np.testing.assert_allclose(other.predict(x), model.predict(x), rtol=1e-4, atol=1e-6)
    other.fit(x, y, verbose=0)


def test_a_model_without_layers_is_copied_too():
    other = copy.deepcopy(xpcnn.Sequential())
    other.add(layers.Flatten())
    assert len(other.layers) == 1


def test_a_model_that_is_training_can_be_copied():
    """The optimiser then holds scratch arrays, and the network what it lends."""
    x, y = samples()
    copies = []

    class Copy(callbacks.Callback):
        def on_epoch_end(self, fit):
            copies.append(pickle.loads(pickle.dumps(fit.model)))

    model = mixed()
    model.fit(x, y, epochs=2, verbose=0, callbacks=[Copy()])
    assert bits(copies[1]) == bits(model) != bits(copies[0])


def test_an_argument_that_is_no_plain_value_is_refused():
    model = xpcnn.Sequential([Doubled(np.float32)], SHAPE, np)
    with pytest.raises(TypeError, match="A layer's argument cannot be saved"):
        pickle.dumps(model)


def test_another_process_reads_it(tmp_path):
    x, _ = samples(4)
    model = mixed()
    (tmp_path / "model").write_bytes(pickle.dumps((model, x)))
    code = (
        "import pickle, sys; model, x = pickle.load(open(sys.argv[1], 'rb'));"
        "print(model.predict(x).tobytes().hex(), model.backend)"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "model"], capture_output=True, text=True)
    assert done.stdout.split() == [model.predict(x).tobytes().hex(), "numpy"], done.stderr
