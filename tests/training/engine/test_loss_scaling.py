"""A fit in float16: steps whose gradient overflows are skipped, and halve the loss scale, whoever runs them."""

import threading

import numpy as np
import pytest

from tests import strict
from tests.models import CLASSES, SHAPE, bits, mixed, plain, samples, without_seconds
from xpcnn import Sequential, callbacks, files, layers, optimizers, schedules
from xpcnn.backend import to_host
from xpcnn.communicator import Communicator
from xpcnn.training.callbacks import Callback, StopOnNaN
from xpcnn.training.engine.device import DeviceEngine

WITH_KERNELS = pytest.mark.parametrize("device", ["kernels", "cupy"], indirect=True)
#: 40 images, 4 a batch: 10 steps an epoch, so that steps are skipped, and others made, in the same one.
ARGUMENTS = {"epochs": 2, "batch_size": 4, "shuffle": False, "verbose": 0}
STEPS = 20
RATE = schedules.StepDecay(0.01, every=1, factor=0.9)


class Begin(Callback):
    """Begins with another scale."""

    def __init__(self, scale):
        self.scale = scale

    def on_fit_begin(self, fit):
        fit.optimizer.loss_scale.load(self.scale)


class Interrupt(Callback):
    """Ends the fit after so many steps, as Ctrl-C does."""

    def __init__(self, step):
        self.step = step

    def on_step_end(self, fit):
        if fit.step == self.step:
            fit.interrupt("asked to")


class Watch(Callback):
    """Looks at every gradient, for which the host drives the steps."""

    def on_fit_begin(self, fit):
        self.gradients = []

    def on_gradient(self, fit, result):
        self.gradients.append(np.array(to_host(result.gradient)))


def far():
    """Images, and targets so far away that gradients times the scale overflow in the first steps."""
    x, _ = samples(40)
    return x, np.random.default_rng(0).normal(size=(40, 3)) * 1000


def overflowing(device):
    """A scale with which they do: on the stand-in without kernels, nothing is rounded to float16."""
    return Begin(2.0**127 if device is strict.xp else 2.0**20)


def compiled(device, build=plain, precision="float16", **options):
    return build(device, optimizer=optimizers.Adam(RATE, **options), loss="mse", precision=precision)


def fit(model, *called, **arguments):
    x, y = far()
    return model.fit(x, y, **(ARGUMENTS | arguments), callbacks=called)


def numbers(model):
    return model.optimizer.loss_scale.numbers()


@pytest.mark.parametrize("clip_norm", [None, 1.0])
def test_a_skipped_step_counts_for_the_schedule_but_not_for_adams_correction(clip_norm):
    """As if NumPy had made all steps but those, each at the learning rate of its number."""
    model, watched = (compiled(strict.xp, clip_norm=clip_norm) for _ in range(2))
    host, watch = compiled(np, precision=None, clip_norm=clip_norm), Watch()
    fit(model, overflowing(strict.xp))
    fit(watched, overflowing(strict.xp), watch)
    finite = [np.isfinite(gradient).all() for gradient in watch.gradients]
    assert finite[:2] == [False, False]
    assert any(finite[:10])
    assert numbers(model)["scale"] == 2.0 ** (127 - finite.count(False))
    assert (model.optimizer.step, model.optimizer.skipped) == (STEPS, finite.count(False))
    x, y = far()
    adam, network = optimizers.Adam(clip_norm=clip_norm), host.network
    adam.build(np, network.parameters)
    for step in np.flatnonzero(finite):
        batch = slice(step % 10 * 4, step % 10 * 4 + 4)
        _, gradients = host.loss_and_gradients(x[batch], y[batch])
        adam.learning_rate = RATE(step)
        flat = np.zeros_like(network.parameters)
        for name, view in network.layout.views(flat).items():
            view[...] = gradients[name]
        adam.update(network.parameters, flat, [(slice(0, len(flat)), False)])
    for name, weight in host.get_weights().items():
        np.testing.assert_allclose(model.get_weights()[name], weight, rtol=1e-4, atol=1e-6, err_msg=name)


def test_a_step_that_is_made_again_where_memory_ran_out_counts_once(monkeypatch):
    models, apply, ran_out = (compiled(strict.xp), compiled(strict.xp)), optimizers.Adam.apply, []

    def too_large_at_first(self, *arguments):
        if not ran_out:
            ran_out.append(True)
            raise strict.OutOfMemoryError
        apply(self, *arguments)

    fit(models[0], overflowing(strict.xp))
    monkeypatch.setattr(optimizers.Adam, "apply", too_large_at_first)
    fit(models[1], overflowing(strict.xp))
    assert ran_out
    assert numbers(models[1]) == numbers(models[0])
    assert bits(models[1]) == bits(models[0])


@WITH_KERNELS
def test_what_overflows_float16_halves_the_first_scale_until_it_does_not(device):
    model = compiled(device)
    fit(model, StopOnNaN())
    skipped = numbers(model)["skipped"]
    assert 1 <= skipped < STEPS
    assert numbers(model)["scale"] == 65536 / 2**skipped
    assert not np.array_equal(model.get_weights()["dense_1.weight"], compiled(device).get_weights()["dense_1.weight"])
    in_bfloat16 = compiled(device, precision="bfloat16")
    fit(in_bfloat16)
    assert in_bfloat16.optimizer.skipped == 0


def test_gradients_that_float16_would_lose_are_kept_by_the_scale(device):
    """Half of 2^-24, the smallest, becomes 0 on tensor cores unless it is scaled."""
    if device is strict.xp:
        pytest.skip("rounds nothing")
    model = Sequential([layers.Flatten(), layers.Dense(1)], (1, 2, 2), device)
    model.compile(optimizers.SGD(1.0), "mse", precision="float16")
    model.set_weights({"dense_1.weight": np.zeros((1, 4)), "dense_1.bias": np.zeros(1)})
    x, y = np.ones((4, 1, 2, 2)), np.full(4, 2.0**-26)
    _, gradients = model.loss_and_gradients(x, y)
    np.testing.assert_allclose(gradients["dense_1.weight"], -(2.0**-25))
    model.fit(x, y, verbose=0)
    np.testing.assert_allclose(model.get_weights()["dense_1.weight"], 2.0**-25)


def test_a_gradient_too_large_for_the_first_scale_is_found_with_a_smaller_one(device):
    model, exact = compiled(device), compiled(device, precision="float32")
    _, gradients = model.loss_and_gradients(*far())
    _, expected = exact.loss_and_gradients(*far())
    for name, gradient in expected.items():
        assert np.linalg.norm(gradients[name] - gradient) <= 0.01 * np.linalg.norm(gradient), name


def test_once_captured_a_step_is_one_launch_and_skips_without_the_host(monkeypatch):
    whole, seen = DeviceEngine.step, []

    def step(self, positions, on_gradient):
        with strict.counting() as counts, strict.forbid():
            whole(self, positions, on_gradient)
        seen.append(counts.launches)

    monkeypatch.setattr(DeviceEngine, "step", step)
    x, y = far()
    model = compiled(strict.xp)
    model.fit(x[:32], y[:32], **ARGUMENTS, callbacks=[overflowing(strict.xp), StopOnNaN()])
    assert seen[3:] == [1] * 13
    assert numbers(model)["skipped"] > 2


@pytest.mark.parametrize("build", [plain, mixed])
def test_steps_that_the_host_drives_skip_the_same_and_show_gradients_without_the_scale(device, build):
    ours, watched, watch = compiled(device, build), compiled(device, build), Watch()
    history = fit(ours, overflowing(device))
    other = fit(watched, overflowing(device), watch)
    assert numbers(ours) == numbers(watched)
    assert watched.optimizer.skipped == numbers(watched)["skipped"] > 0
    np.testing.assert_allclose(history.steps, other.steps, rtol=1e-4)
    finite = [np.isfinite(gradient).all() for gradient in watch.gradients]
    assert finite.count(False) == watched.optimizer.skipped
    if device is strict.xp and build is plain:  # dividing by a power of 2 is exact
        exact = Watch()
        fit(compiled(device, build, "float32"), exact, epochs=1)
        unscaled = Watch()
        fit(compiled(device, build), unscaled, epochs=1)
        np.testing.assert_array_equal(unscaled.gradients[0], exact.gradients[0])


@pytest.mark.filterwarnings("ignore:1 of 1 steps changed nothing")
def test_a_skipped_step_leaves_running_statistics_and_moments_as_they_are(device):
    model, first = compiled(device, mixed), compiled(device, mixed)
    fit(model, overflowing(device), Interrupt(1))
    assert numbers(model)["skipped"] == model.optimizer.step == 1
    assert bits(model) == bits(first)
    assert not model.optimizer.state()["mean"].any()


def test_2000_finite_steps_double_it(device):
    class Almost(Callback):
        def on_fit_begin(self, fit):
            fit.optimizer.loss_scale.load(8.0, finite_steps=1998)

    model = compiled(device)
    fit(model, Almost(), Interrupt(2))
    assert numbers(model) == {"scale": 16.0, "finite_steps": 0, "skipped": 0}


def test_a_second_fit_goes_on_with_the_scale(device):
    model = compiled(device)
    fit(model, overflowing(device))
    before = numbers(model)
    fit(model, epochs=1)
    assert numbers(model) == {**before, "finite_steps": before["finite_steps"] + 10}


# To the same end


@pytest.mark.filterwarnings("ignore:. of . steps changed nothing")
@pytest.mark.parametrize("step", [1, 4, 9, 10, 13])
def test_a_fit_interrupted_at_any_step_ends_with_the_same_bits(device, tmp_path, step):
    path, begin = tmp_path / "a", overflowing(device)
    whole, model, resumed = (compiled(device, mixed) for _ in range(3))
    history = fit(whole, begin)
    fit(model, begin, callbacks.Checkpoint(path), Interrupt(step))
    assert files.load_tensors(path)[1]["loss_scale"] == numbers(model)
    assert 0 < numbers(model)["skipped"] <= step
    again = fit(resumed, resume=path)
    assert bits(resumed) == bits(whole)
    assert again.steps == history.steps
    assert without_seconds(again) == without_seconds(history)
    assert numbers(resumed) == numbers(whole)
    for name, moment in resumed.optimizer.state().items():
        assert moment.tobytes() == whole.optimizer.state()[name].tobytes(), name


def test_checkpoints_written_meanwhile_change_no_bits(device, tmp_path):
    whole, writing = compiled(device), compiled(device)
    fit(whole, overflowing(device))
    fit(writing, overflowing(device), callbacks.Checkpoint(tmp_path / "a", steps=2))
    assert bits(writing) == bits(whole)


# Where it ends


@pytest.mark.filterwarnings("ignore:(invalid|overflow)")
class TestStopOnNaN:
    def infinite(self, xp, precision="float16"):
        """A model whose loss is finite and whose gradient is not, whatever the scale."""
        model = Sequential([layers.Flatten(), layers.Dense(1, name="first")], (1, 2, 2), xp)
        model.compile(optimizers.SGD(0.1), "mse", precision=precision)
        model.set_weights({"first.weight": np.zeros((1, 4)), "first.bias": np.zeros(1)})
        return model, np.full((4, 1, 2, 2), 3e38), np.full(4, 10.0)

    @pytest.mark.parametrize("watched", [False, True])
    def test_it_stops_once_the_scale_is_1_and_names_the_layer_and_the_step(self, watched):
        model, x, y = self.infinite(strict.xp)
        with pytest.raises(FloatingPointError) as error:
            model.fit(
                x, y, batch_size=1, epochs=9, verbose=0, callbacks=[Begin(8.0), StopOnNaN(), *([Watch()] * watched)]
            )
        assert str(error.value) == (
            "Step 4, epoch 1: the gradient of 'first.weight' is not finite with a loss scale of 1; loss 100. The "
            "weights are those before this step. Likely cause: pixel values of up to 3e+38. Scale images to about 0 "
            "to 1."
        )
        assert (model.optimizer.step, model.optimizer.skipped) == (3, 3)
        assert numbers(model) == {"scale": 1.0, "finite_steps": 0, "skipped": 3}
        assert not model.get_weights()["first.weight"].any()

    @pytest.mark.parametrize(("begin", "ends"), [(8.0, 1.0), (65536.0, 256.0)])
    def test_without_it_such_steps_are_all_skipped_which_is_told(self, begin, ends):
        model, x, y = self.infinite(strict.xp)
        says = f"^8 of 8 steps changed nothing, since their gradients overflowed .* the loss scale is now {ends:g}"
        with pytest.warns(UserWarning, match=says):
            model.fit(x, y, batch_size=1, epochs=2, verbose=0, callbacks=[Begin(begin)])
        assert numbers(model) == {"scale": ends, "finite_steps": 0, "skipped": 8}
        assert not model.get_weights()["first.weight"].any()

    @pytest.mark.parametrize("watched", [False, True])
    def test_a_loss_that_is_not_finite_stops_at_once(self, device, watched):
        model = compiled(device)
        x, y = far()
        x[4] = 3e38
        with pytest.raises(
            FloatingPointError, match=r"^Step 2, epoch 1: the output of '\w+' is not finite with a loss"
        ):
            model.fit(x, y, **ARGUMENTS, callbacks=[StopOnNaN(), *([Watch()] * watched)])
        assert model.optimizer.step == 1
        assert np.isfinite(to_host(model.network.parameters)).all()

    @WITH_KERNELS
    def test_the_layer_is_named_whose_output_is_infinite_as_it_is_stored(self, device):
        first, ends = layers.Conv2D(4, 3, name="first"), [layers.Flatten(), layers.Dense(CLASSES, activation="softmax")]
        model = Sequential([first, layers.BatchNorm(), *ends], SHAPE, device)
        model.compile(precision="float16")
        model.parameters["first.weight"][...] *= 1e4
        x, y = samples(32)
        with pytest.raises(FloatingPointError, match="the output of 'first' is not finite with a loss scale of"):
            model.fit(10 * x, y, verbose=0, callbacks=[StopOnNaN()])

    @WITH_KERNELS
    def test_outputs_beyond_float16_are_told_with_what_to_do(self, device):
        model = compiled(device)
        model.set_weights({name: weight * 1e6 for name, weight in model.get_weights().items()})
        with pytest.raises(FloatingPointError, match=r"beyond 65,504, the largest of float16, or a learning rate"):
            fit(model, StopOnNaN())


# Several processes


class Two(Communicator):
    """Two ranks, each a thread of this process."""

    size = 2

    def __init__(self, rank, barrier, slots):
        self.rank, self._barrier, self._slots = rank, barrier, slots

    def allgather(self, value):
        self._slots[self.rank] = value
        self._barrier.wait(60)
        everyone = list(self._slots)
        self._barrier.wait(60)
        return everyone

    def broadcast(self, value):
        return self.allgather(value)[0]

    def shards(self, count):
        half = -(-count // 2)
        return [slice(0, half), slice(half, count)]

    def add(self, xp, flat, holders):
        first, second = self.allgather(to_host(flat).copy())
        flat[...] = xp.asarray(first + second)
        return flat


def test_ranks_skip_the_same_steps_though_the_gradient_of_only_one_overflows():
    x, y = far()
    y[np.arange(40) % 4 < 2] *= 1e-6  # the half of each batch that rank 0 computes
    barrier, slots, ended = threading.Barrier(2), [None, None], {}

    def run(rank):
        try:
            model, watch = compiled(strict.xp), Watch()
            model.fit(
                x, y, **ARGUMENTS, callbacks=[overflowing(strict.xp), watch], communicator=Two(rank, barrier, slots)
            )
            ended[rank] = bits(model), numbers(model), [gradient.tobytes() for gradient in watch.gradients]
        except BaseException:
            barrier.abort()
            raise

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ended[0] == ended[1]
    assert ended[0][1]["skipped"] > 1
