import numpy as np
import pytest

from tests.models import CLASSES, mixed, plain, samples, straight
from xpcnn.program.execute import Shard


def cross_entropy(probabilities, y):
    return -np.log(probabilities[np.arange(len(y)), y].astype(float))


@pytest.mark.parametrize("batch_size", [1, 7, 19, 20, 1000])
def test_the_batch_size_changes_no_prediction(xp, batch_size):
    x, _ = samples(20)
    model = mixed(xp)
    np.testing.assert_allclose(model.predict(x, batch_size=batch_size), model.predict(x), rtol=1e-5, atol=1e-7)


def test_loss_and_accuracy_are_those_of_the_predictions(xp):
    x, y = samples(50)
    model = mixed(xp)
    probabilities = model.predict(x)
    measured = model.evaluate(x, y, batch_size=16)
    assert measured["loss"] == pytest.approx(cross_entropy(probabilities, y).mean(), rel=1e-5)
    assert measured["accuracy"] == (probabilities.argmax(axis=1) == y).mean()
    assert {type(value) for value in measured.values()} == {float}


def test_a_smaller_batch_size_is_kept_to():
    model, sizes = straight(CLASSES, "softmax"), []
    x, y = samples(20)
    dense = model.layers[1]
    forward = dense.forward
    dense.forward = lambda params, x, context: (sizes.append(len(x)), forward(params, x, context))[1]
    model.evaluate(x, y, batch_size=6)
    assert sizes == [6, 6, 6, 2]


def test_sample_weights_weigh_the_loss():
    x, y = samples(10)
    model = plain()
    weights = np.arange(10)
    expected = np.average(cross_entropy(model.predict(x), y), weights=weights)
    assert model.evaluate(x, y, sample_weight=weights)["loss"] == pytest.approx(expected, rel=1e-5)
    assert model.evaluate(x, y, sample_weight=weights.tolist())["loss"] == pytest.approx(expected, rel=1e-5)


def test_certain_answers_are_measured_from_the_logits():
    x, _ = samples(4)
    model = straight(CLASSES, "softmax")
    model.set_weights({"dense_1.weight": np.zeros((3, 72)), "dense_1.bias": [400.0, 0, 0]})
    assert model.evaluate(x, np.ones(4, dtype=int))["loss"] == pytest.approx(400)


def test_a_matrix_of_confusion_comes_whole():
    x, y = samples(30)
    model = plain(metrics=["confusion_matrix", "top_2"])
    measured = model.evaluate(x, y)
    assert measured["confusion_matrix"].sum(axis=1).tolist() == np.bincount(y).tolist()
    assert 0 < measured["top_2"] <= 1


@pytest.mark.parametrize("y", [np.linspace(0, 1, 20), np.linspace(-3, 5, 20)], ids=["from 0 to 1", "from -3 to 5"])
def test_a_losses_name_as_metric_measures_the_values_given(y):
    x, _ = samples(20)
    measured = straight(loss="mse", metrics=["mse"]).evaluate(x, y)
    assert measured["mse"] == pytest.approx(measured["loss"], rel=1e-6)


def test_a_losses_name_as_metric_measures_soft_rows_without_the_losses_own_weights():
    x, _ = samples(20)
    rows = np.random.default_rng(0).dirichlet(np.ones(CLASSES), 20)
    soft = plain(metrics=["cross_entropy"]).evaluate(x, rows)
    assert soft["cross_entropy"] == pytest.approx(soft["loss"], rel=1e-5)
    weighted = plain(metrics=["cross_entropy"]).evaluate(x, rows, sample_weight=np.arange(20))
    assert weighted["cross_entropy"] == pytest.approx(soft["loss"], rel=1e-5)
    assert weighted["loss"] != pytest.approx(soft["loss"], rel=1e-3)


def test_metrics_of_classes_are_refused_for_values():
    x, _ = samples(10)
    with pytest.raises(ValueError, match=r"not classes, as required for: accuracy\. Compile with metrics=\[\]"):
        straight(loss="mse", metrics=["accuracy"]).evaluate(x, np.linspace(-3, 5, 10))


@pytest.mark.parametrize("batch_size", [0, -5, "8", 2.5, True])
def test_impossible_batch_sizes_are_refused(batch_size):
    x, y = samples(4)
    for use in (lambda: plain().predict(x, batch_size=batch_size), lambda: plain().evaluate(x, y, batch_size)):
        with pytest.raises(ValueError, match=r"batch_size must be a whole number, at least 1. Received: "):
            use()


def test_one_batch_predicted_again_and_again_is_soon_replayed(monkeypatch):
    computed, forward = [], Shard.forward
    monkeypatch.setattr(Shard, "forward", lambda *given: computed.append(1) or forward(*given))
    model, (x, _) = mixed(np), samples(8)
    first = model.predict(x)
    for _ in range(6):
        assert (model.predict(x) == first).all()
    assert len(computed) == 4, "computed, recorded, repeated, and once for the comparison"
    assert (model.predict(x + 1) != first).any()
