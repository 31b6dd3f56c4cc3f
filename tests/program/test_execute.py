import inspect
import multiprocessing
import os
import time

import numpy as np
import pytest

import xpcnn
from tests import strict
from tests.models import CLASSES, SHAPE, bits, mixed, plain, samples, without_seconds
from xpcnn import callbacks, layers, losses, metrics
from xpcnn.program.execute import Executor, Shard
from xpcnn.program.network import Network
from xpcnn.program.program import walk
from xpcnn.training.engine.host import ShardedTraining
from xpcnn.training.engine.host_prediction import HostPrediction


def train(model, x, y, shards, threads=None, measured=()):
    """Return what one batch gives when it is cut into pieces, with the gradient on the host."""
    targets = model.loss.prepare(y, CLASSES)
    with Executor(model.network, len(x), shards, threads) as executor:
        sharded = ShardedTraining(executor, model.loss)
        return sharded.train(x, targets, measured, seed=5, step=7)


@pytest.mark.parametrize("build", [plain, mixed])
@pytest.mark.parametrize("shards", [2, 3, 5, 33, 100])
def test_the_pieces_of_a_batch_add_up_to_the_whole(xp, host, build, shards):
    x, y = samples(33)
    model = build(xp)
    whole, pieces = train(model, x, y, 1), train(model, x, y, shards)
    assert float(pieces.loss) == pytest.approx(float(whole.loss), rel=1e-5)
    np.testing.assert_allclose(host(pieces.gradient), host(whole.gradient), rtol=1e-4, atol=2e-6)
    assert pieces.buffers.keys() == whole.buffers.keys()
    for layer, buffers in whole.buffers.items():
        for name, value in buffers.items():
            np.testing.assert_allclose(host(pieces.buffers[layer][name]), host(value), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("build", [plain, mixed])
def test_the_same_pieces_give_the_same_bits_on_any_number_of_threads(build):
    x, y = samples(33)
    results = [train(build(), x, y, shards=4, threads=threads) for threads in (1, 2, 3, 4)]
    assert len({result.gradient.tobytes() for result in results}) == 1
    assert len({result.loss.tobytes() for result in results}) == 1


def test_metrics_are_counted_over_all_pieces(xp, host):
    x, y = samples(33)
    model = plain(xp)
    accuracy, loss = metrics.get("accuracy"), metrics.get("mse")
    rows = np.eye(CLASSES, dtype=np.float32)[y]
    result = train(model, x, y, 4, measured=[(accuracy, y), (loss, rows)])
    outputs = model.predict(x)
    assert host(result.sums[0]).tolist() == [(outputs.argmax(axis=1) == y).sum(), 33]
    assert loss.result(host(result.sums[1])) == pytest.approx(np.square(outputs - rows).mean(), rel=1e-5)


def test_a_device_takes_a_batch_whole_unless_it_is_asked_to_cut():
    network = plain(strict.xp).network
    assert (Executor(network, 64).shards, Executor(network, 64, threads=8).threads) == (1, 1)
    cut_in_three = Executor(network, 64, shards=3, threads=8)
    assert (cut_in_three.shards, cut_in_three.threads) == (3, 1)


def test_no_more_threads_are_started_than_there_are_pieces():
    assert Executor(plain().network, 32, threads=8).threads == 2


class Sensitive(layers.Layer):
    """Passes its input on, but fails on a piece that begins at row 10 or later."""

    def forward(self, params, x, context):
        if context.first_row >= 10:
            raise ArithmeticError(f"rows from {context.first_row}")
        return x, lambda dy, gradients: dy


@pytest.mark.parametrize("threads", [1, 3])
def test_an_error_in_one_piece_reaches_the_caller(threads):
    network = Network([Sensitive(), layers.Flatten(), layers.Dense(CLASSES)], SHAPE, np)
    x, y = samples(30)
    with Executor(network, 30, shards=3, threads=threads) as executor:
        sharded = ShardedTraining(executor, losses.get("mse"))
        with pytest.raises(ArithmeticError, match="rows from"):
            sharded.train(x, losses.get("mse").prepare(y, CLASSES), [], 0, 0)


class Returning(layers.Layer):
    """Returns something from forward, or from backward."""

    def __init__(self, forward=None, backward=None, name="own", xp=None):
        super().__init__(name=name, xp=xp)
        self.forwards, self.backwards = forward, backward

    def forward(self, params, x, context):
        own = lambda dy, gradients: dy if self.backwards is None else self.backwards(dy)  # noqa: E731
        return (x, own) if self.forwards is None else self.forwards(x, own)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"forward": lambda x, own: x}, r"\(y, backward\) from forward. Received: ndarray"),
        (
            {"forward": lambda x, own: (None, own)},
            r"y from forward, .* of shape \(8, 4, 4, 4\). Received: NoneType",
        ),
        ({"forward": lambda x, own: (x[:, :1], own)}, r"y from forward, .* Received: an array of shape \(8, 1, 4, 4\)"),
        ({"forward": lambda x, own: (x[:2], own)}, r"y from forward, .* Received: an array of shape \(2, 4, 4, 4\)"),
        ({"backward": lambda dy: None}, r"the gradient of its input from backward, .* Received: NoneType"),
        (
            {"backward": lambda dy: dy.sum(axis=0)},
            r"the gradient of its input .* Received: an array of shape \(4, 4, 4\)",
        ),
    ],
)
def test_what_a_custom_layer_returns_is_refused_by_its_name_if_it_is_of_another_shape(wrong, said):
    stack = [layers.Conv2D(4, 3), Returning(**wrong), layers.Flatten(), layers.Dense(CLASSES, activation="softmax")]
    model = xpcnn.Sequential(stack, SHAPE, np)
    model.compile()
    x, y = samples(8)
    with pytest.raises(TypeError, match=f"^'own' must return {said}"):
        model.fit(x, y, verbose=0)


def test_threads_are_only_taken_where_a_piece_has_work_for_one(monkeypatch):
    monkeypatch.setattr("xpcnn.program.threads.available_threads", lambda: 4)
    network = Network([layers.Flatten(), layers.Dense(CLASSES)], SHAPE, np)
    monkeypatch.setattr("xpcnn.program.threads.WORTH_A_THREAD", network.multiplications * 16)
    assert [Executor(network, 64, shards).threads for shards in (None, 4, 5, 16)] == [4, 4, 1, 1]
    assert Executor(network, 64, 16, threads=3).threads == 3
    monkeypatch.setattr("xpcnn.program.threads.WORTH_A_THREAD", 3 * network.multiplications * 16)
    assert [Executor(network, 64, training=training).threads for training in (True, False)] == [4, 1]


# Replays. Every layer of the package stands in one of these stacks.

STACKS = {
    "convolutions and pools": lambda: [
        layers.Conv2D(4, 3, padding="same", padding_mode="edge", activation="relu"),
        layers.MaxPool2D(2),
        layers.Conv2D(4, 3, strides=2, padding=1, groups=2, use_bias=False),
        layers.LeakyReLU(),
        layers.Conv2D(33, 2, padding=1, dilation=2, activation="sigmoid"),
        layers.MaxPool2D(3, 1, padding=1),
        layers.MinPool2D(2, 1),
        layers.AveragePool2D(2, 1, padding="same"),
        layers.Flatten(),
        layers.Dense(CLASSES, activation="softmax"),
    ],
    "normalised": lambda: [
        layers.Conv2D(3, 3),
        layers.BatchNorm(),
        layers.ReLU(),
        layers.Residual([layers.Conv2D(3, 3, padding=1), layers.BatchNorm(), layers.Tanh()]),
        layers.Dropout(0.3),
        layers.Upsample2D((1, 2)),
        layers.GlobalMaxPool2D(),
        layers.BatchNorm(),
        layers.Dropout(0.2),
        layers.Dense(CLASSES),
        layers.Softmax(),
    ],
    "averaged": lambda: [
        layers.Conv2D(3, 3, activation="tanh"),
        layers.Activation("leaky_relu"),
        layers.GlobalAveragePool2D(),
        layers.Reshape((3, 1, 1)),
        layers.Flatten(),
        layers.Dense(CLASSES),
        layers.Sigmoid(),
    ],
    "blocks": lambda: [
        layers.Branches([[layers.Conv2D(3, 3, padding=1), layers.ReLU6()], [layers.Conv2D(2, 1), layers.ELU()]]),
        layers.SqueezeExcitation([layers.Conv2D(2, 1), layers.SiLU(), layers.Conv2D(5, 1), layers.HardSigmoid()]),
        layers.Conv2D(4, 3, 2),
        layers.HardSwish(),
        layers.GELU(),
        layers.AdaptiveAveragePool2D(2),
        layers.Flatten(),
        layers.Dense(CLASSES, activation="softmax"),
    ],
    "an average": lambda: [
        layers.Branches(
            [[layers.Flatten(), layers.Dense(CLASSES, activation="softmax")] for _ in range(3)], merge="average"
        )
    ],
}
LOSSES = {"averaged": "binary_cross_entropy", "convolutions and pools": losses.CrossEntropy(0.1)}
BASES = {"Layer", "Context", "Pool2D", "Multiply", "Concatenate"}


def test_every_layer_stands_in_a_stack_that_is_replayed():
    used = {type(layer).__name__ for stack in STACKS.values() for layer in walk(stack())}
    assert {name for name in layers.__all__ if inspect.isclass(getattr(layers, name))} - BASES <= used


def fit(stack, monkeypatch, recordable, **arguments):
    """Return the bits that a fit of eight steps and a prediction give, and how often the network really trained."""
    passes, evaluate = [], Shard.evaluate
    with monkeypatch.context() as patch:
        patch.setattr(Shard, "evaluate", lambda *given: passes.append(1) or evaluate(*given))
        patch.setenv("XPCNN_REPLAY", str(int(recordable)))
        model = xpcnn.Sequential(STACKS[stack](), SHAPE, np)
        model.compile("adam", LOSSES.get(stack, "cross_entropy"), metrics=["accuracy", "mse"])
        x, y = samples(64)
        history = model.fit(x, y, epochs=4, batch_size=32, shards=2, threads=2, verbose=0, **arguments)
        predicted = [model.predict(x[:n]).tobytes() for n in (20, 20, 64, 20, 20, 20)]
    return (bits(model), history.steps, without_seconds(history), predicted), len(passes)


@pytest.mark.parametrize("stack", STACKS)
def test_a_replayed_fit_gives_the_bits_of_a_computed_one(monkeypatch, stack):
    replayed, passes = fit(stack, monkeypatch, recordable=True)
    computed, all_passes = fit(stack, monkeypatch, recordable=False)
    assert replayed == computed
    assert (passes, all_passes) == (3 * 2, 8 * 2), "two pieces: run, recorded and verified, or eight steps"


@pytest.mark.parametrize("stack", STACKS)
def test_weighted_samples_give_the_same_too(monkeypatch, stack):
    weights = {"sample_weight": np.arange(64) % 5}
    assert fit(stack, monkeypatch, True, **weights)[0] == fit(stack, monkeypatch, False, **weights)[0]


def test_a_layer_of_ones_own_is_computed_every_time():
    class Noisy(layers.Layer):
        passes = 0

        def forward(self, params, x, context):
            Noisy.passes += 1
            return x * Noisy.passes, lambda dy, gradients: dy

    network = Network([Noisy(), layers.Flatten()], SHAPE, np)
    x, y = np.ones((4, *SHAPE), np.float32), np.empty((4, 72), np.float32)
    with Executor(network, 4) as executor:
        prediction = HostPrediction(executor)
        for number in range(1, 6):
            prediction.infer(x, network.program(), y)
            assert set(y.ravel()) == {number}


def test_a_later_prediction_replays_what_an_earlier_one_recorded_until_the_model_moves(monkeypatch):
    model, (x, _) = plain(), samples(20)
    passes, deliver = [], Shard.deliver
    monkeypatch.setattr(Shard, "deliver", lambda *given: passes.append(1) or deliver(*given))

    def predict(x):
        passes.clear()
        return model.predict(x)

    for number in range(3):
        predict(x + number)
    first = predict(x)
    assert not passes
    model.set_weights({name: 2 * value for name, value in model.get_weights().items()})
    doubled = predict(x)
    assert not passes
    assert not np.array_equal(doubled, first)
    model.to(strict.xp).to(np)
    assert predict(x).tobytes() == doubled.tobytes()
    assert passes


@pytest.mark.parametrize(("name", "values"), [("rate", (0.0, 0.5, 0.5, 0.0)), ("momentum", (0.1, 0.9, 0.9, 0.1))])
def test_a_schedule_of_a_layers_attribute_takes_effect_in_a_running_fit(monkeypatch, name, values):
    class Schedule(callbacks.Callback):
        def on_epoch_begin(self, fit):
            for layer in fit.model.layers:
                if hasattr(layer, name):
                    setattr(layer, name, values[fit.epoch])

    runs = []
    for replayed in "10":
        monkeypatch.setenv("XPCNN_REPLAY", replayed)
        model, (x, y) = mixed(), samples(64)
        history = model.fit(x, y, epochs=4, batch_size=8, callbacks=[Schedule()], verbose=0)
        runs.append((bits(model), history.steps))
    assert runs[0] == runs[1]


def test_an_error_on_one_thread_is_raised_when_all_have_ended():
    ended = []

    class Slow(layers.Layer):
        def forward(self, params, x, context):
            if context.first_row == 1:
                raise ArithmeticError
            time.sleep(0.05)
            ended.append(context.first_row)
            return x, lambda dy, gradients: dy

    network = Network([Slow(), layers.Flatten(), layers.Dense(CLASSES)], SHAPE, np)
    loss, (x, y) = losses.get("mse"), samples(3)
    with Executor(network, 3, shards=3, threads=3) as executor:
        sharded = ShardedTraining(executor, loss)
        with pytest.raises(ArithmeticError):
            sharded.train(x, loss.prepare(y, CLASSES), [], 0, 0)
    assert sorted(ended) == [0, 2]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_starts_threads_of_its_own():
    model = plain()
    x, _ = samples(64)
    expected = model.predict(x, threads=2)

    def predict():
        assert (model.predict(x, threads=2) == expected).all()

    process = multiprocessing.get_context("fork").Process(target=predict)
    process.start()
    process.join(30)
    process.kill()
    assert process.exitcode == 0
