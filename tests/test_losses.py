import dataclasses
import math

import numpy as np
import pytest

from tests import strict
from xpcnn import losses
from xpcnn.backend import to_host
from xpcnn.losses import BinaryCrossEntropy, CrossEntropy, MeanSquaredError

N, WIDTH = 5, 4
SAMPLE_WEIGHTS = [0.5, 2.0, 0.0, 1.0, 1.5]
CASES = {
    "labels": (CrossEntropy(), "labels", None),
    "smoothing": (CrossEntropy(label_smoothing=0.2), "labels", None),
    "class weights": (CrossEntropy(class_weights=[1, 2, 0.5, 3]), "labels", None),
    "smoothing and all weights": (CrossEntropy(0.1, [1, 2, 0.5, 3]), "labels", SAMPLE_WEIGHTS),
    "soft rows": (CrossEntropy(label_smoothing=0.1), "soft", SAMPLE_WEIGHTS),
    "binary": (BinaryCrossEntropy(), "soft", None),
    "binary, smoothed": (BinaryCrossEntropy(label_smoothing=0.2), "soft", None),
    "binary, weights": (BinaryCrossEntropy(), "labels", SAMPLE_WEIGHTS),
    "mse": (MeanSquaredError(), "soft", None),
    "mse, weights": (MeanSquaredError(), "labels", SAMPLE_WEIGHTS),
}
both_inputs = pytest.mark.parametrize("from_logits", [True, False], ids=["logits", "probabilities"])
every_case = pytest.mark.parametrize("case", CASES)


def targets_of(case, dtype):
    loss, kind, sample_weight = CASES[case]
    random = np.random.default_rng(1)
    labels, soft = random.integers(0, WIDTH, N), random.dirichlet(np.ones(WIDTH), N)
    return loss, loss.prepare(labels if kind == "labels" else soft, WIDTH, sample_weight, dtype)


def outputs_of(loss, from_logits, dtype):
    z = np.random.default_rng(2).normal(0, 2, (N, WIDTH)).astype(dtype)
    return z if from_logits or loss.name == "mse" else np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)


def evaluate(loss, xp, outputs, targets, from_logits):
    weights = None if targets.weights is None else xp.asarray(targets.weights)
    rows = xp.asarray(targets.encoded)
    return loss.evaluate(xp, xp.asarray(outputs), rows, weights, targets.normalizer, from_logits)


def value_of(loss, xp, y, outputs, from_logits=True, sample_weight=None):
    outputs = np.asarray(outputs, np.float64)
    targets = loss.prepare(y, outputs.shape[1], sample_weight, np.float64)
    return float(to_host(evaluate(loss, xp, outputs, targets, from_logits)[0]))


@every_case
@both_inputs
def test_the_gradient_is_that_of_the_value(xp, case, from_logits):
    loss, targets = targets_of(case, np.float64)
    outputs, step = outputs_of(loss, from_logits, np.float64), 1e-6
    gradient = to_host(evaluate(loss, xp, outputs, targets, from_logits)[1])
    numerical = np.zeros_like(outputs)
    for index in np.ndindex(*outputs.shape):
        nudge = np.zeros_like(outputs)
        nudge[index] = step
        up, down = (
            float(to_host(evaluate(loss, xp, outputs + sign * nudge, targets, from_logits)[0])) for sign in (1, -1)
        )
        numerical[index] = (up - down) / (2 * step)
    np.testing.assert_allclose(gradient, numerical, rtol=1e-6, atol=1e-8)


@every_case
@both_inputs
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_results_keep_the_dtype_of_the_outputs(xp, case, from_logits, dtype):
    loss, targets = targets_of(case, dtype)
    outputs = outputs_of(loss, from_logits, dtype)
    value, gradient, probabilities = evaluate(loss, xp, outputs, targets, from_logits)
    assert targets.encoded.dtype == dtype
    assert value.shape == ()
    assert value.dtype == gradient.dtype == probabilities.dtype == dtype
    assert gradient.shape == probabilities.shape == outputs.shape


@every_case
def test_values_and_gradients_of_the_shards_add_up(xp, case):
    loss, targets = targets_of(case, np.float64)
    outputs = outputs_of(loss, True, np.float64)
    value, gradient, _ = evaluate(loss, xp, outputs, targets, True)
    shards = []
    for part in (slice(0, 2), slice(2, 3), slice(3, 5)):
        weights = None if targets.weights is None else targets.weights[part]
        shard = dataclasses.replace(targets, encoded=targets.encoded[part], weights=weights)
        shards.append(evaluate(loss, xp, outputs[part], shard, True))
    assert sum(float(to_host(shard[0])) for shard in shards) == pytest.approx(float(to_host(value)))
    np.testing.assert_allclose(np.concatenate([to_host(shard[1]) for shard in shards]), to_host(gradient), rtol=1e-12)


@pytest.mark.parametrize(("loss", "activation"), [(CrossEntropy(), "softmax"), (BinaryCrossEntropy(), "sigmoid")])
def test_logits_give_what_their_activation_would(xp, loss, activation):
    assert loss.activation == activation
    z = outputs_of(loss, True, np.float64)
    targets = loss.prepare(np.arange(N) % WIDTH, WIDTH, dtype=np.float64)
    value, _, probabilities = evaluate(loss, xp, z, targets, True)
    expected = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True) if activation == "softmax" else 1 / (1 + np.exp(-z))
    np.testing.assert_allclose(to_host(probabilities), expected, rtol=1e-12)
    again, _, same = evaluate(loss, xp, expected, targets, False)
    assert float(to_host(again)) == pytest.approx(float(to_host(value)), rel=1e-12)
    np.testing.assert_array_equal(to_host(same), expected)


def test_cross_entropy_by_hand(xp):
    probabilities = [[0.5, 0.25, 0.25], [0.2, 0.7, 0.1]]
    assert value_of(CrossEntropy(), xp, [0, 1], probabilities, False) == pytest.approx(
        -(math.log(0.5) + math.log(0.7)) / 2
    )
    assert value_of(CrossEntropy(), xp, [0, 1], np.log(probabilities)) == pytest.approx(
        -(math.log(0.5) + math.log(0.7)) / 2
    )


def test_class_and_sample_weights_make_a_weighted_mean(xp):
    loss = CrossEntropy(class_weights=[1, 3])
    logs = np.log([[0.5, 0.5], [0.2, 0.8], [0.9, 0.1]])
    expected = -(1 * 1 * math.log(0.5) + 3 * 2 * math.log(0.8) + 3 * 4 * math.log(0.1)) / (1 + 6 + 12)
    assert value_of(loss, xp, [0, 1, 1], logs, sample_weight=[1, 2, 4]) == pytest.approx(expected)


def test_one_hot_rows_weigh_as_labels_do(xp):
    loss, logits = CrossEntropy(0.1, [1, 3]), [[0.3, -1.0], [2.0, 0.1]]
    assert value_of(loss, xp, np.eye(2)[[1, 0]], logits) == pytest.approx(value_of(loss, xp, [1, 0], logits))


def test_label_smoothing_gives_every_class_a_share(xp):
    logs = np.log([[0.5, 0.25, 0.25]])
    shares = [0.7 + 0.1, 0.1, 0.1]
    expected = -sum(share * math.log(p) for share, p in zip(shares, [0.5, 0.25, 0.25], strict=True))
    assert value_of(CrossEntropy(label_smoothing=0.3), xp, [0], logs) == pytest.approx(expected)


def test_binary_cross_entropy_by_hand(xp):
    expected = -(math.log(0.8) + math.log(1 - 0.3)) / 2
    assert value_of(BinaryCrossEntropy(), xp, [1, 0], [[0.8], [0.3]], False) == pytest.approx(expected)
    logits = [[math.log(0.8 / 0.2)], [math.log(0.3 / 0.7)]]
    assert value_of(BinaryCrossEntropy(), xp, [1, 0], logits) == pytest.approx(expected)


def test_binary_cross_entropy_of_several_outputs_is_a_mean_over_elements(xp):
    rows, p = [[1, 1, 0]], [[0.5, 0.25, 0.5]]
    expected = -(math.log(0.5) + math.log(0.25) + math.log(0.5)) / 3
    assert value_of(BinaryCrossEntropy(), xp, rows, p, False) == pytest.approx(expected)


def test_smoothing_of_binary_targets_moves_them_towards_a_half(xp):
    loss, rows = BinaryCrossEntropy(label_smoothing=0.2), [[1, 0], [0.5, 1]]
    np.testing.assert_allclose(loss.prepare(rows, 2).encoded, [[0.9, 0.1], [0.5, 0.9]])
    p = [[0.8, 0.3], [0.6, 0.9]]
    smoothed = value_of(BinaryCrossEntropy(), xp, [[0.9, 0.1], [0.5, 0.9]], p, False)
    assert value_of(loss, xp, rows, p, False) == pytest.approx(smoothed)
    assert value_of(loss.unsmoothed(), xp, rows, p, False) == value_of(BinaryCrossEntropy(), xp, rows, p, False)


def test_mean_squared_error_is_a_weighted_mean_over_elements(xp):
    loss, outputs, rows = MeanSquaredError(), [[1.0, 2.0], [3.0, 5.0]], [[0.0, 2.0], [1.0, 1.0]]
    assert value_of(loss, xp, rows, outputs, False) == (1 + 0 + 4 + 16) / 4
    assert value_of(loss, xp, rows, outputs, False, [3, 1]) == (3 * 1 + 1 * 20) / (4 * 2)
    assert value_of(loss, xp, [0, 1], outputs, False) == (0 + 4 + 9 + 16) / 4


def test_extreme_inputs_give_finite_values_and_gradients(xp):
    extremes = np.array([-1e30, -1e4, -100, 0, 100, 1e4, 1e30], np.float32)
    outputs = np.array([[a, b] for a in extremes for b in extremes])
    with np.errstate(all="raise", under="ignore"):
        for loss in (CrossEntropy(), BinaryCrossEntropy()):
            for label in (0, 1):
                targets = loss.prepare(np.full(len(outputs), label), 2)
                for from_logits in (True, False):
                    for result in evaluate(loss, xp, outputs, targets, from_logits):
                        assert np.isfinite(to_host(result)).all()


def test_impossible_probabilities_cost_one_hundred(xp):
    assert value_of(CrossEntropy(), xp, [0], [[0.0, 1.0]], False) == 100
    assert value_of(BinaryCrossEntropy(), xp, [1, 0], [[0.0], [1.0]], False) == 100
    targets = CrossEntropy().prepare([0], 2)
    gradient = evaluate(CrossEntropy(), xp, np.array([[0.0, 1.0]], np.float32), targets, False)[1]
    assert to_host(gradient).tolist() == [[pytest.approx(-1e12), 0]]


def test_nan_outputs_give_a_nan_loss(xp):
    for loss in (CrossEntropy(), BinaryCrossEntropy(), MeanSquaredError()):
        for from_logits in (True, False):
            assert np.isnan(value_of(loss, xp, [0, 1], [[np.nan, 0.5], [0.5, 0.5]], from_logits))


@every_case
@both_inputs
def test_evaluating_never_waits_for_the_device(case, from_logits):
    loss, targets = targets_of(case, np.float32)
    rows, outputs = (
        strict.xp.asarray(targets.encoded),
        strict.xp.asarray(outputs_of(loss, from_logits, np.float32)),
    )
    weights = None if targets.weights is None else strict.xp.asarray(targets.weights)
    with strict.forbid():
        loss.evaluate(strict.xp, outputs, rows, weights, targets.normalizer, from_logits)


def test_normalizers_count_samples_elements_or_weights():
    labels = [0, 1, 2]
    assert CrossEntropy().prepare(labels, 3).normalizer == 3
    assert CrossEntropy().prepare(labels, 3, [1, 2, 3]).normalizer == 6
    assert CrossEntropy(0.1, [1, 2, 3]).prepare(labels, 3, [1, 2, 3]).normalizer == 1 + 4 + 9
    assert MeanSquaredError().prepare(labels, 3).normalizer == 9
    assert BinaryCrossEntropy().prepare(labels, 3, [1, 2, 3]).normalizer == 18
    assert type(CrossEntropy(0.1, [1, 2, 3]).prepare(labels, 3).normalizer) is float


def test_labels_are_kept_for_metrics():
    for loss in (CrossEntropy(), BinaryCrossEntropy(), MeanSquaredError()):
        assert loss.prepare(np.eye(3)[[2, 0]], 3).labels.tolist() == [2, 0]


@pytest.mark.parametrize(
    ("loss", "y", "width", "message"),
    [
        (CrossEntropy(), [0, 1], 1, "use binary_cross_entropy with one output. Received: 1 output"),
        (CrossEntropy(), [[1, 1, 0]], 3, "sum to 1. Received: values from 0 to 1, sums from 2 to 2"),
        (CrossEntropy(), [[2, -1, 0]], 3, "Received: values from -1 to 2"),
        (CrossEntropy(), [3], 3, "Received: labels from 3 to 3"),
        (CrossEntropy(class_weights=[1, 2]), [0], 3, "each of the 3 outputs. Received: 2"),
        (BinaryCrossEntropy(), [0, 2], 1, "between 0 and 1.*Received: values from 0 to 2"),
        (BinaryCrossEntropy(), [[0.5, -0.5]], 2, "Received: values from -0.5 to 0.5"),
        (MeanSquaredError(), np.zeros((2, 5)), 8, "rows of width 5, but the model has 8 outputs"),
    ],
)
def test_targets_that_a_loss_is_not_defined_for_are_refused(loss, y, width, message):
    with pytest.raises(ValueError, match=message):
        loss.prepare(y, width)


@pytest.mark.parametrize("loss", [CrossEntropy(), BinaryCrossEntropy(), MeanSquaredError()], ids=lambda loss: loss.name)
def test_sample_weights_of_another_length_are_refused_and_zeros_leave_nothing_to_divide_by(loss):
    with pytest.raises(ValueError, match="each of the 2 samples"):
        loss.prepare([0, 1], 2, [1.0])
    assert loss.prepare([0, 1], 2, [0.0, 0.0]).normalizer == 0


@pytest.mark.parametrize("arguments", [{"label_smoothing": 1.0}, {"label_smoothing": -0.1}, {"class_weights": [1, -1]}])
def test_impossible_arguments_are_refused(arguments):
    with pytest.raises(ValueError, match="Received"):
        CrossEntropy(**arguments)


def test_unknown_losses_are_refused():
    with pytest.raises(ValueError, match=r"one of: cross_entropy, binary_cross_entropy, mse\. Received: 'hinge'"):
        losses.get("hinge")
