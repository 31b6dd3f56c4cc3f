import numpy as np
import pytest

from tests import strict
from tests.models import CLASSES, SHAPE, mixed, plain, samples
from xpcnn import layers, losses, metrics
from xpcnn.network import Network
from xpcnn.training.shards import Runner


def train(model, x, y, shards, threads=None, measured=()):
    """Return what one batch gives when it is cut into pieces, with the gradient on the host."""
    targets = model.loss.prepare(y, CLASSES)
    with Runner(model.network, len(x), shards, threads) as runner:
        runner.prepare_training(model.loss)
        return runner.train(x, targets, measured, seed=5, step=7)


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
    assert (Runner(network, 64).shards, Runner(network, 64, threads=8).threads) == (1, 1)
    cut_in_three = Runner(network, 64, shards=3, threads=8)
    assert (cut_in_three.shards, cut_in_three.threads) == (3, 1)


def test_no_more_threads_are_started_than_there_are_pieces():
    assert Runner(plain().network, 32, threads=8).threads == 2


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
    with Runner(network, 30, shards=3, threads=threads) as runner:
        runner.prepare_training(losses.get("mse"))
        with pytest.raises(ArithmeticError, match="rows from"):
            runner.train(x, losses.get("mse").prepare(y, CLASSES), [], 0, 0)


def test_threads_are_only_taken_where_a_piece_has_work_for_one(monkeypatch):
    monkeypatch.setattr("xpcnn.training.threads.available_threads", lambda: 4)
    network = Network([layers.Flatten(), layers.Dense(CLASSES)], SHAPE, np)
    monkeypatch.setattr("xpcnn.training.threads.WORTH_A_THREAD", network.multiplications * 16)
    assert [Runner(network, 64, shards).threads for shards in (None, 4, 5, 16)] == [4, 4, 1, 1]
    assert Runner(network, 64, 16, threads=3).threads == 3
