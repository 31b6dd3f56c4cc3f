"""What is kept between runs: memory for each thread, and recordings of the latest kinds of batches while valid."""

import gc
import tracemalloc
import weakref

import numpy as np
import pytest

import xpcnn
from tests.models import CLASSES, SHAPE, bits, plain, samples
from xpcnn import layers, losses
from xpcnn.ops.workspace import Workspace
from xpcnn.program.execute import Shard
from xpcnn.program.memory import MOST_KINDS, Memory
from xpcnn.recording import Recording, watched


def test_pieces_on_one_thread_share_their_memory_until_each_gets_its_own():
    memory = Memory(np, 2)
    assert [memory.workspace(0), memory.workspace(1)] == [memory.workspace(2), memory.workspace(3)]
    memory.grow(3)
    assert len({id(memory.workspace(piece)) for piece in range(3)}) == 3
    first, third = (memory.workspace(piece).scratch((3,), np.float32, "one") for piece in (0, 2))
    assert np.shares_memory(first, third)


def test_what_is_recorded_takes_the_memory_of_its_thread():
    memory, results = Memory(np, 1), []
    for piece in range(2):
        with Recording():
            memory.workspace(piece)
            results.append(np.exp(watched(np.ones(5))))
    assert np.shares_memory(*results)


def test_only_the_latest_kinds_of_batches_are_remembered():
    memory = Memory(np, 1)
    first = [memory.replay(kind, 0) for kind in range(MOST_KINDS)]
    assert memory.replay(0, 0) is first[0]
    memory.replay("one more", 0)
    assert memory.replay(0, 0) is first[0], "used later than the second"
    assert memory.replay(1, 0) is not first[1]


def test_recordings_are_forgotten_once_what_they_hold_for_has_changed():
    memory = Memory(np, 1)
    before = memory.replay("kind", 1)
    assert memory.replay("kind", 2) is not before
    assert memory.replay("kind", 1) is not before


def test_nothing_is_recorded_where_it_cannot_be_known_what_holds():
    assert Memory(np, 1).replay("kind", None) is None


@pytest.mark.parametrize("activation", ["relu", "sigmoid", "tanh", "leaky_relu"])
def test_recorded_predictions_take_memory_for_each_thread_and_not_for_each_piece(activation):
    stack = [layers.Conv2D(8, 3, activation=activation), layers.GlobalAveragePool2D(), layers.Dense(3)]
    model, x = xpcnn.Sequential(stack, (1, 20, 20), np), np.ones((640, 1, 20, 20), np.float32)
    kept = []
    for n in (32, 640):
        tracemalloc.start()
        for number in range(4):
            model.predict(x[:n] * number, batch_size=n, threads=1)
        kept.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
    assert kept[1] < kept[0] + 500_000


def test_gradients_alone_keep_no_more_memory_than_a_fit_and_the_network_is_freed_with_the_model():
    gc.disable()
    try:
        model, (x, y) = plain(), samples(32)
        model.predict(x)
        model.fit(x, y, epochs=4, verbose=0)
        tracemalloc.start()
        for _ in range(5):
            model.loss_and_gradients(x, y)
        kept = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert kept < 100_000
        network = weakref.ref(model.network)
        del model
        assert network() is None
    finally:
        gc.enable()


def test_a_prediction_keeps_neither_its_images_nor_its_results_alive():
    model, (x, _) = plain(), samples(20)
    for _ in range(4):
        given = x.copy()
        result = model.predict(given)
        alive = weakref.ref(given), weakref.ref(result)
        del given, result
        gc.collect()
        assert [one() for one in alive] == [None, None]


def test_a_second_fit_goes_on_with_the_recordings_of_the_first(monkeypatch):
    computed, evaluate = [], Shard.evaluate
    monkeypatch.setattr(Shard, "evaluate", lambda *given: computed.append(1) or evaluate(*given))
    model, (x, y) = plain(), samples(64)
    again, fits = plain(), []
    for number in range(4):
        model.fit(x, y, batch_size=16, verbose=0, seed=number)
        fits.append(len(computed))
        computed.clear()
        with monkeypatch.context() as patch:
            patch.setenv("XPCNN_REPLAY", "0")
            again.fit(x, y, batch_size=16, verbose=0, seed=number)
        computed.clear()
        assert bits(model) == bits(again)
    assert fits == [3, 0, 0, 0]


def test_another_loss_or_a_frozen_layer_is_computed_anew():
    x, y = samples(64)
    results = []
    for replay in "10":
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XPCNN_REPLAY", replay)
            model = plain()
            for smoothing in (0.0, 0.5):
                model.compile("sgd", losses.CrossEntropy(smoothing))
                model.fit(x, y, epochs=2, batch_size=16, verbose=0)
            model.layers[0].trainable = False
            _, gradients = model.loss_and_gradients(x, y)
            assert not gradients["conv2d_1.weight"].any(), "what an earlier step wrote is gone"
            model.fit(x, y, epochs=2, batch_size=16, verbose=0)
            results.append(bits(model))
    assert results[0] == results[1]


def test_freezing_a_block_between_two_fits_takes_effect():
    x, y = samples(32)
    block = layers.Residual([layers.Conv2D(2, 3, padding="same"), layers.BatchNorm()])
    model = xpcnn.Sequential([block, layers.Flatten(), layers.Dense(CLASSES, activation="softmax")], SHAPE, np)
    model.compile("sgd")

    def inside():
        return [value for name, value in bits_by_name(model).items() if not name.startswith("dense")]

    model.fit(x, y, epochs=4, batch_size=16, verbose=0)
    block.trainable, frozen = False, inside()
    model.fit(x, y, epochs=4, batch_size=16, verbose=0)
    assert inside() == frozen
    block.trainable = True
    model.fit(x, y, epochs=4, batch_size=16, verbose=0)
    assert all(now != before for now, before in zip(inside(), frozen, strict=True))


def bits_by_name(model):
    return {name: value.tobytes() for name, value in model.get_weights().items()}


CHANGES = {
    "slope": (layers.LeakyReLU(), "slope", 0.5),
    "epsilon": (layers.BatchNorm(), "epsilon", 2.0),
    "padding_mode": (layers.Conv2D(2, 3, padding="same"), "padding_mode", "edge"),
    "forward": (layers.Tanh(), "forward", lambda params, x, context: (x, lambda dy, gradients: dy)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_layer_that_is_changed_is_computed_anew(change):
    layer, name, value = CHANGES[change]
    model = xpcnn.Sequential([layer, layers.Flatten(), layers.Dense(CLASSES)], SHAPE, np)
    x, _ = samples(20)
    for number in range(5):
        before = model.predict(x - number)
    setattr(layer, name, value)
    after = model.predict(x - number)
    assert not np.array_equal(before, after)
    assert model.predict(x - number).tobytes() == after.tobytes()


# Memory is used again after its last use


def kept_by(run):
    """Return the bytes of arrays that a run keeps when it has been made some times."""
    tracemalloc.start()
    for number in range(5):
        run(number)
    arrays = tracemalloc.take_snapshot().filter_traces([tracemalloc.DomainFilter(True, np.lib.tracemalloc_domain)])
    tracemalloc.stop()
    return sum(trace.size for trace in arrays.traces)


def convolutions(count, **arguments):
    return [layers.Conv2D(4, 3, padding="same", activation="relu", **arguments) for _ in range(count)]


def classifier(*stack):
    ends = [layers.GlobalAveragePool2D(), layers.Dense(3, activation="softmax")]
    return xpcnn.Sequential([layers.Conv2D(4, 3, padding="same"), *stack, *ends], (1, 32, 32), np)


X = np.random.default_rng(0).normal(size=(16, 1, 32, 32)).astype(np.float32)
#: One output of a convolution, for all images.
ACTIVATION = 4 * X.nbytes


@pytest.mark.parametrize("replay", "01")
@pytest.mark.parametrize("blocks", [False, True])
def test_predicting_through_forty_convolutions_holds_no_more_than_through_five(monkeypatch, replay, blocks):
    monkeypatch.setenv("XPCNN_REPLAY", replay)
    kept = []
    for count in (5, 40):
        inside = convolutions(count)
        model = classifier(*([layers.Residual([layer]) for layer in inside] if blocks else inside))
        kept.append(kept_by(lambda number, model=model: model.predict(X * number, threads=1)))
    assert kept[1] < kept[0] + ACTIVATION / 2


@pytest.mark.parametrize("replay", "01")
def test_training_holds_no_more_inside_a_residual_block_than_outside(monkeypatch, replay):
    monkeypatch.setenv("XPCNN_REPLAY", replay)
    kept = []
    for wrap in (lambda inside: inside, lambda inside: [layers.Residual(inside)]):
        model = classifier(*wrap(convolutions(12)))
        model.compile("sgd")
        peak = 0

        class Look(xpcnn.callbacks.Callback):
            def on_step_end(self, fit):
                nonlocal peak
                peak = max(peak, tracemalloc.get_traced_memory()[0])

        tracemalloc.start()
        model.fit(X, np.arange(16) % 3, epochs=5, batch_size=16, verbose=0, shards=1, callbacks=[Look()])
        tracemalloc.stop()
        kept.append(peak)
    assert kept[1] < kept[0] + 3 * ACTIVATION, "the input of the block, its sum, and the gradient around it"


def test_training_gives_the_bits_that_it_gives_where_nothing_is_used_again(monkeypatch):
    results = []
    for reclaim in (Workspace.reclaim, lambda *arguments: None):
        monkeypatch.setattr(Workspace, "reclaim", reclaim)
        block = layers.Residual([*convolutions(2), layers.BatchNorm()], [layers.Conv2D(4, 1), layers.BatchNorm()])
        model = classifier(layers.LeakyReLU(), block, layers.MaxPool2D(2), layers.Dropout(0.2), *convolutions(1))
        model.compile("adam")
        model.fit(X, np.arange(16) % 3, epochs=5, batch_size=8, verbose=0)
        results.append([value.tobytes() for value in model.get_weights().values()] + [model.predict(X).tobytes()])
    assert results[0] == results[1]
