"""Steps on a device equal the host's, without waiting; captured, each is one launch."""

import gc
import weakref

import numpy as np
import pytest

from tests import kernels, strict
from tests.models import bits, mixed, plain, samples, without_seconds
from xpcnn import Sequential, layers, optimizers, presets
from xpcnn.backend import kernels as array_kernels
from xpcnn.backend import to_host
from xpcnn.data import Decoding, Normalized, Preprocessing, augment
from xpcnn.training.callbacks import Callback, LearningRate, StopOnNaN
from xpcnn.training.engine import device_images
from xpcnn.training.engine.device import DeviceEngine
from xpcnn.training.engine.device_prediction import MOST_KINDS
from xpcnn.training.engine.graphs import Captured

pytestmark = pytest.mark.filterwarnings("error:This step can't be captured")


def fit(model, n=44, **arguments):
    x, y = samples(n)
    return model.fit(x, y, **{"epochs": 3, "batch_size": 16, "verbose": 0, **arguments})


def assert_alike(model, history, other, other_history):
    """Assert the same run up to rounding."""
    np.testing.assert_allclose(history.steps, other_history.steps, rtol=1e-4)
    for name, column in without_seconds(other_history).items():
        np.testing.assert_allclose(history.history[name], column, rtol=1e-4, err_msg=name)
    weights = other.get_weights()
    for name, value in model.get_weights().items():
        np.testing.assert_allclose(value, weights[name], rtol=2e-3, atol=2e-4, err_msg=name)


def both(make, xp, **arguments):
    """Fit a model on the device and one on the host, and assert that the runs are alike."""
    runs = []
    for backend in (xp, np):
        model = make(backend)
        runs += [model, fit(model, **arguments)]
    assert_alike(*runs)
    return runs[0]


def test_50_steps_of_the_blood_network_are_the_hosts(device):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 1, 50, 50)).astype(np.float32), np.arange(20) % 8

    class Seen(Callback):
        def on_fit_begin(self, fit):
            self.first, self.batches = fit.model.get_weights(), []

        def on_step_end(self, fit):
            self.batches.append(fit.batch[0].tobytes())

    runs = []
    for xp in (device, np):
        model, seen = Sequential(presets.blood((1, 50, 50), 8), (1, 50, 50), xp), Seen()
        # At this rate a rounding that tips one ReLU moves no loss by more than roundings do.
        model.compile(optimizers.Adam(1e-4))
        steps = model.fit(x, y, epochs=10, batch_size=4, verbose=0, seed=3, callbacks=[seen]).steps
        runs.append((steps, seen))
    (steps, seen), (expected, expected_seen) = runs
    assert len(steps) == 50
    np.testing.assert_allclose(steps, expected, rtol=1e-4)
    assert seen.batches == expected_seen.batches
    for name, value in expected_seen.first.items():
        np.testing.assert_array_equal(seen.first[name], value)


def test_a_network_with_every_kind_of_layer_learns_as_on_the_host(device):
    if array_kernels(device) is None:
        pytest.skip("without kernels dropout draws its masks on the host")
    both(mixed, device, validation_split=0.2, augment="light")


@pytest.mark.parametrize("optimizer", [optimizers.SGD(0.05, 0.9), optimizers.AdamW(1e-2, weight_decay=0.1)])
def test_weights_of_samples_and_classes_count_as_on_the_host(device, optimizer):
    weight = np.random.default_rng(0).uniform(0, 2, 44)
    weight[:16] = 0

    def make(xp):
        model = plain(xp)
        model.compile(optimizers.get(optimizer.config()), metrics=["accuracy", "precision", "cross_entropy"])
        return model

    both(make, device, sample_weight=weight, class_weight={0: 2.0}, shuffle=False)


def test_once_captured_a_step_is_one_launch_and_nothing_passes_between_host_and_device(monkeypatch):
    whole = DeviceEngine.step
    seen = []

    def step(self, positions, on_gradient):
        with strict.counting() as counts, strict.forbid():
            whole(self, positions, on_gradient)
        seen.append(counts.launches)

    monkeypatch.setattr(DeviceEngine, "step", step)
    fit(plain(strict.xp), n=48, epochs=2)
    assert seen[-3:] == [1, 1, 1]
    assert min(seen[:2]) > 20


@pytest.mark.slow  # compiles kernels
def test_with_kernels_dropout_and_everything_else_is_in_the_graph(monkeypatch):
    if kernels.COMPILER is None:
        pytest.skip("there is no C++ compiler")
    whole, seen = DeviceEngine.step, []

    def step(self, positions, on_gradient):
        with strict.counting() as counts, strict.forbid():
            whole(self, positions, on_gradient)
        seen.append(counts.launches)

    monkeypatch.setattr(DeviceEngine, "step", step)
    model = mixed(kernels.xp, metrics=["accuracy", "f1"])
    fit(model, n=48, epochs=2, callbacks=[StopOnNaN()])
    assert seen[-3:] == [1, 1, 1]


def test_captured_steps_give_the_bits_of_steps_that_are_not(device, monkeypatch):
    runs = []
    for warm_ups in (2, 1000):
        monkeypatch.setattr("xpcnn.training.engine.graphs.WARM_UPS", warm_ups)
        model = plain(device)
        steps = fit(model, augment="microscopy").steps
        runs.append((bits(model), steps))
    assert runs[0] == runs[1]


def test_training_goes_on_from_what_was_loaded_meanwhile(device):
    runs = []
    for xp in (device, np):
        model = plain(xp)
        fit(model)
        model.set_weights({name: value * 0.5 for name, value in plain(np, seed=7).get_weights().items()})
        model.optimizer.load_state({**model.optimizer.state(), "step": np.array(3)})
        runs += [model, fit(model, seed=1)]
    assert_alike(*runs)


def test_a_rate_that_a_callback_changes_in_the_middle_of_an_epoch_counts_from_the_next_step(device):
    class Drop(Callback):
        def on_step_end(self, fit):
            if fit.step == 5:
                fit.optimizer.learning_rate = 0.0

    model = plain(device)
    fit(model, epochs=5, callbacks=[Drop(), LearningRate(0.01)])
    other = plain(np)
    fit(other, epochs=5, callbacks=[Drop(), LearningRate(0.01)])
    for name, value in other.get_weights().items():
        np.testing.assert_allclose(model.get_weights()[name], value, rtol=1e-3, atol=1e-5)


GREY = Preprocessing(Decoding(6, 6, 3), (100.0, 90.0, 80.0), (50.0, 60.0, 70.0))
EACH = Preprocessing(Decoding(6, 6, 3), (0.0,) * 3, (1.0,) * 3, per_image=True)
PICTURES = np.random.default_rng(0).integers(0, 256, (50, 3, 6, 6), dtype=np.uint8)
ORDER = np.random.default_rng(1).permutation(50)[:44]
SETS = {
    "floats": lambda: PICTURES[:44].astype(np.float64) / 200,
    "bytes": lambda: PICTURES[:44],
    "normalised": lambda: Normalized(PICTURES, ORDER, GREY),
    "each by itself": lambda: Normalized(
        PICTURES, ORDER, Preprocessing(Decoding(6, 6, 3), (0.0,) * 3, (1.0,) * 3, True)
    ),
}
KEPT = {"floats": "float32", "bytes": "uint8", "normalised": "uint8", "each by itself": None}


@pytest.mark.parametrize("augmentation", [None, "light", "microscopy", lambda x, seed, epoch, rows: x[..., ::-1]])
@pytest.mark.parametrize("name", SETS)
def test_images_that_fit_stay_on_the_device_as_they_are_and_others_are_sent(device, monkeypatch, name, augmentation):
    kept = []

    def placed(work):
        found = device_images.place(work)
        kept.append(None if found is None else np.dtype(found.images.dtype).name)
        return found

    monkeypatch.setattr("xpcnn.training.engine.device.place", placed)

    def run(xp):
        model = Sequential([layers.Flatten(), layers.Dense(3, activation="softmax")], (3, 6, 6), xp)
        model.compile(optimizers.SGD(1e-4))
        x = SETS[name]()
        history = model.fit(
            x, np.arange(44) % 3, epochs=3, batch_size=16, verbose=0, augment=augmentation, validation_split=0.1
        )
        return model, history

    assert_alike(*run(device), *run(np))
    stays = augmentation is None or isinstance(augmentation, str)
    assert set(kept) == {KEPT[name] if stays else None}


def test_images_that_do_not_fit_are_sent_batch_by_batch(monkeypatch):
    monkeypatch.setattr(strict.xp.cuda.runtime, "memGetInfo", lambda: (100, 100))
    model = both(plain, strict.xp, augment="light")
    assert model.backend == "strict"


def test_images_are_laid_on_the_device_as_on_the_host(device):
    x, y = samples(40)
    laid = augment("light")(x, 5, 0, np.arange(40))

    class First(Callback):
        def on_step_end(self, fit):
            if fit.step == 1:
                self.batch = fit.batch[0]

    first = First()
    plain_model = plain(device)
    plain_model.fit(x, y, batch_size=40, shuffle=False, seed=5, augment="light", verbose=0, callbacks=[first])
    np.testing.assert_array_equal(first.batch, laid)


class _Wild(Callback):
    """Raises the rate without bound after some steps."""

    def on_epoch_begin(self, fit):
        if fit.epoch == 1:
            fit.optimizer.learning_rate = 1e30


@pytest.mark.filterwarnings("ignore:(invalid|overflow|divide)")
def test_from_a_step_that_fails_on_nothing_is_updated_and_the_error_names_it(device):
    errors = []
    for xp in (device, np):
        model = plain(xp, optimizer=optimizers.SGD(0.01))
        with pytest.raises(FloatingPointError) as error:
            fit(model, epochs=4, callbacks=[_Wild(), StopOnNaN()])
        errors.append(str(error.value))
        assert np.isfinite(to_host(model.network.parameters)).all()
        assert np.isfinite(to_host(model.network.buffers)).all()
        assert model.optimizer.step == int(errors[-1].split()[1].rstrip(",")) - 1
    assert errors[0].partition(";")[0] == errors[1].partition(";")[0]


def test_a_layer_of_ones_own_is_never_captured(device):
    calls = []

    class Own(layers.Layer):
        def forward(self, params, x, context):
            calls.append(None)
            return x * 1.0, lambda dy, gradients: dy * 1.0

    model = Sequential([layers.Flatten(), Own(), layers.Dense(3, activation="softmax")], (2, 6, 6), device)
    model.compile()
    fit(model, n=48, epochs=3)
    assert len(calls) == 9
    model.predict(samples(20)[0])
    for _ in range(4):
        model.predict(samples(20)[0])
    assert len(calls) == 14


def test_predictions_are_captured_for_the_sizes_that_come_again(device):
    model, host = plain(device), plain(np)
    for n in (40, 40, 40, 40, 7, 40, 7, 7, 7):
        x, _ = samples(n, seed=n)
        np.testing.assert_allclose(model.predict(x), host.predict(x), rtol=1e-5, atol=1e-6)
    model.network.layers[0].trainable = False  # a changed layer makes another graph
    np.testing.assert_allclose(model.predict(x), host.predict(x), rtol=1e-5, atol=1e-6)


def test_what_a_fit_took_on_the_device_is_freed_with_it(device):
    x, y = samples(44)
    steps = []
    begin = DeviceEngine.begin_epoch
    gc.disable()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                DeviceEngine, "begin_epoch", lambda self, *given: (steps.append(weakref.ref(self)), begin(self, *given))
            )
            model = plain(device)
            model.fit(x, y, epochs=3, batch_size=16, verbose=0)
        assert steps[0]() is None
    finally:
        gc.enable()


def test_only_the_latest_kinds_of_batch_are_kept(device):
    model = plain(device)
    gc.collect()
    before = sum(isinstance(one, Captured) for one in gc.get_objects())
    for n in range(1, MOST_KINDS + 3):
        model.predict(samples(n)[0])
    gc.collect()
    assert sum(isinstance(one, Captured) for one in gc.get_objects()) <= before + MOST_KINDS


def out_of_memory(*arguments, **keywords):
    raise strict.OutOfMemoryError("Out of memory allocating 1,024 bytes (allocated so far: 7 bytes).\nMore.")


def test_where_memory_runs_out_images_are_sent_and_the_step_is_made_again(monkeypatch):
    monkeypatch.setattr("xpcnn.training.engine.device_images.gather", out_of_memory)
    both(plain, strict.xp, augment="light")


@pytest.mark.parametrize("task", ["fit", "predict", "evaluate"])
def test_a_batch_that_does_not_fit_is_refused_in_one_line_with_its_sizes(monkeypatch, task):
    model, (x, y) = plain(strict.xp), samples(40)
    monkeypatch.setattr("xpcnn.ops.correlation.correlate", out_of_memory)
    with pytest.raises(MemoryError, match=r"^a batch of (32|40) images of 2 x 6 x 6 does not fit .* 7 bytes\)\.$"):
        {
            "fit": lambda: model.fit(x, y, verbose=0),
            "predict": lambda: model.predict(x),
            "evaluate": lambda: model.evaluate(x, y),
        }[task]()


@pytest.mark.filterwarnings("ignore:(invalid|overflow)")
def test_after_a_step_that_fails_the_moments_are_those_before_it_too(device):
    states = []
    for xp in (device, np):
        model = plain(xp, optimizer=optimizers.Adam(0.01))
        x, y = samples(48)
        x[40] = 3e38  # finite, and its products are not
        with pytest.raises(FloatingPointError):
            model.fit(x, y, epochs=2, batch_size=8, shuffle=False, verbose=0, callbacks=[StopOnNaN()])
        states.append(model.optimizer.state())
    assert states[0]["step"] == states[1]["step"] == 5
    for name in ("mean", "square"):
        np.testing.assert_allclose(states[0][name], states[1][name], rtol=1e-3, atol=1e-8)


@pytest.mark.filterwarnings("ignore:(invalid|overflow)")
def test_a_gradient_that_is_not_finite_is_named_by_its_layer(device):
    messages = []
    for xp in (device, np):
        model = Sequential([layers.Flatten(), layers.Dense(1, name="first")], (1, 2, 2), xp)
        model.compile(optimizers.SGD(0.1), "mse")
        model.set_weights({"first.weight": np.zeros((1, 4)), "first.bias": np.zeros(1)})
        x, y = np.full((2, 1, 2, 2), 3e38), np.array([10.0, 10.0])
        with pytest.raises(FloatingPointError) as error:
            model.fit(x, y, epochs=1, batch_size=2, verbose=0, callbacks=[StopOnNaN()])
        messages.append(str(error.value))
    assert "the gradient of 'first.weight' is not finite" in messages[0]
    assert messages[0] == messages[1]


def test_the_batch_of_an_epochs_last_step_stays_the_one_it_was(device):
    class Last(Callback):
        def on_epoch_end(self, fit):
            self.batch = fit.batch[0]

    lasts = []
    for xp in (device, np):
        lasts.append(Last())
        fit(plain(xp), epochs=1, augment="light", callbacks=[lasts[-1]])
    np.testing.assert_array_equal(lasts[0].batch, lasts[1].batch)


def test_a_rate_that_changes_at_every_step_sends_no_more_than_its_own_numbers(monkeypatch):
    sent, asarray = [], strict.xp.asarray

    def counted(array, *arguments, **keywords):
        if isinstance(array, np.ndarray) and array.ndim == 2 and array.shape[1] == numbers:
            sent.append(len(array))
        return asarray(array, *arguments, **keywords)

    class Halve(Callback):
        def on_step_end(self, fit):
            fit.optimizer.learning_rate *= 0.5

    model = plain(strict.xp)
    numbers = 1 + len(model.optimizer.scalars(0))  # the normalizer of a batch, and the optimiser's
    monkeypatch.setattr(strict.xp, "asarray", counted)
    fit(model, n=48, epochs=2, callbacks=[Halve()])
    assert sent == [3, 1, 1, 3, 1, 1]


def test_options_of_the_optimiser_that_change_in_the_middle_of_an_epoch_count_from_the_next_step(device):
    class Forget(Callback):
        def on_step_end(self, fit):
            if fit.step == 7:
                fit.optimizer.beta1 = 0.0

    runs = []
    for xp in (device, np):
        model = plain(xp, optimizer=optimizers.Adam(0.05))
        runs += [model, fit(model, epochs=4, callbacks=[Forget()])]
    assert_alike(*runs)


@pytest.mark.slow  # compiles kernels
def test_launches_are_counted_as_the_page_says(monkeypatch):
    """docs/gpu.md: a step of the blood network, with as many multiprocessors as an H100 has."""
    if kernels.COMPILER is None:
        pytest.skip("there is no C++ compiler")
    monkeypatch.setattr("xpcnn.ops.cuda.compiler.count_multiprocessors", lambda xp, device: 132)
    whole, seen = DeviceEngine.step, []

    def step(self, positions, on_gradient):
        with strict.counting() as counts:
            whole(self, positions, on_gradient)
        seen.append(counts.launches)

    monkeypatch.setattr(DeviceEngine, "step", step)
    model = Sequential(presets.blood((1, 50, 50), 8), (1, 50, 50), kernels.xp)
    model.compile("adam")
    rng = np.random.default_rng(0)
    model.fit(rng.normal(size=(16, 1, 50, 50)), np.arange(16) % 8, batch_size=8, verbose=0)
    assert seen[1] == 30
