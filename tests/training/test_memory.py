"""What a run keeps: memory for each thread, and recordings of the latest kinds of batches for as long as they hold."""

import gc
import tracemalloc
import weakref

import numpy as np
import pytest

import xpcnn
from tests.models import CLASSES, SHAPE, plain, samples
from xpcnn import layers
from xpcnn.recording import Recording, watched
from xpcnn.training.memory import MOST_KINDS, Memory


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
    first = [memory.repetition(kind, 0) for kind in range(MOST_KINDS)]
    assert memory.repetition(0, 0) is first[0]
    memory.repetition("one more", 0)
    assert memory.repetition(0, 0) is first[0], "used later than the second"
    assert memory.repetition(1, 0) is not first[1]


def test_recordings_are_forgotten_once_what_they_hold_for_has_changed():
    memory = Memory(np, 1)
    before = memory.repetition("kind", 1)
    assert memory.repetition("kind", 2) is not before
    assert memory.repetition("kind", 1) is not before


def test_nothing_is_recorded_where_it_cannot_be_known_what_holds():
    assert Memory(np, 1).repetition("kind", None).state.name == "NEVER"


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


def test_training_memory_is_freed_with_the_fit_and_the_network_with_the_model():
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
