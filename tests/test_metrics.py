import itertools
import math
from statistics import NormalDist

import numpy as np
import pytest

from tests import strict
from xpcnn import metrics
from xpcnn.backend import to_host

# Three classes and one that never occurs; predictions 0 0 1 2 1, so confusion [[2,1,0],[0,1,0],[0,0,1]].
OUTPUTS = np.array(
    [[0.7, 0.2, 0.1, 0], [0.5, 0.3, 0.2, 0], [0.3, 0.4, 0.3, 0], [0.1, 0.2, 0.7, 0], [0.1, 0.6, 0.3, 0]],
    np.float32,
)
LABELS = np.array([0, 0, 0, 2, 1])


def sums(metric, xp, outputs, labels):
    return metric.sums(xp, xp.asarray(outputs), xp.asarray(labels))


def measure(name, xp, outputs=OUTPUTS, labels=LABELS):
    metric = metrics.get(name)
    return metric.result(to_host(sums(metric, xp, outputs, labels)))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("accuracy", 4 / 5),
        ("top_1", 4 / 5),
        ("top_2", 1.0),
        ("top_9", 1.0),
        ("precision", (1 + 1 / 2 + 1) / 3),
        ("recall", (2 / 3 + 1 + 1) / 3),
        ("f1", (4 / 5 + 2 / 3 + 1) / 3),
    ],
)
def test_a_metric_is_what_a_hand_counts(xp, name, value):
    result = measure(name, xp)
    assert type(result) is float
    assert result == pytest.approx(value)


def test_the_confusion_matrix_has_true_classes_in_its_rows(xp):
    confusion = measure("confusion_matrix", xp)
    assert confusion.dtype == np.int64
    assert confusion.tolist() == [[2, 1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]


def test_a_class_counts_in_a_mean_if_it_occurs_as_label_or_prediction(xp):
    outputs = np.eye(4, dtype=np.float32)[[0, 1]]  # class 1 is predicted but no sample's; 2 and 3 do not occur
    assert measure("recall", xp, outputs, np.array([0, 0])) == pytest.approx((1 / 2 + 0) / 2)
    assert measure("precision", xp, outputs, np.array([0, 0])) == pytest.approx((1 + 0) / 2)


def test_the_calibration_error_is_the_mean_distance_of_a_bin_from_its_promise(xp):
    outputs = np.array([[0.95, 0.05], [0.05, 0.95], [0.65, 0.35], [0.31, 0.69], [1.0, 0.0]], np.float32)
    labels = np.array([0, 0, 0, 0, 0])
    # 0.9 to 1: 3 samples, 2 right, mean 0.9667; 0.6 to 0.7: 2 samples, 1 right, mean 0.67
    expected = (abs(2 - 2.9) + abs(1 - 1.34)) / 5
    assert measure("calibration_error", xp, outputs, labels) == pytest.approx(expected)
    assert measure("calibration_error", xp, outputs[:, 1:], labels) == pytest.approx(expected)
    assert np.isnan(measure("calibration_error", xp, outputs[:0], labels[:0]))


@pytest.mark.parametrize("name", ["accuracy", "top_2", "f1", "confusion_matrix"])
def test_counts_of_pieces_add_up_to_those_of_the_whole(xp, name):
    metric = metrics.get(name)
    pieces = sums(metric, xp, OUTPUTS[:2], LABELS[:2]) + sums(metric, xp, OUTPUTS[2:], LABELS[2:])
    whole = sums(metric, xp, OUTPUTS, LABELS)
    assert whole.dtype == np.int64
    assert whole.ndim == 1
    np.testing.assert_array_equal(to_host(pieces), to_host(whole))


@pytest.mark.parametrize("name", ["accuracy", "top_1", "confusion_matrix"])
def test_one_output_divides_two_classes_at_one_half(xp, name):
    outputs = np.array([[0.9], [0.5], [0.4], [0.6]], np.float32)
    labels = np.array([1, 0, 1, 0])
    result = measure(name, xp, outputs, labels)
    if name == "confusion_matrix":
        assert result.tolist() == [[1, 1], [1, 1]]
    else:
        assert result == 0.5


@pytest.mark.parametrize("fill", [0.25, np.nan])
def test_a_constant_or_broken_model_gets_no_credit_in_top_k(xp, fill):
    outputs = np.full((4, 4), fill, np.float32)
    expected = 0.5 if fill == 0.25 else 0.0  # of equal outputs the first two count
    assert measure("top_2", xp, outputs, np.arange(4)) == expected


@pytest.mark.parametrize("name", ["accuracy", "top_2", "precision"])
def test_no_samples_have_no_figure(xp, name):
    assert np.isnan(measure(name, xp, np.zeros((0, 3), np.float32), np.zeros(0, np.int64)))


@pytest.mark.parametrize("name", ["accuracy", "top_2", "confusion_matrix"])
def test_counting_never_waits_for_the_device(name):
    outputs, labels = strict.xp.asarray(OUTPUTS), strict.xp.asarray(LABELS)
    with strict.forbid():
        metrics.get(name).sums(strict.xp, outputs, labels)


def test_top_k_is_named_after_its_k_and_kept_with_it():
    metric = metrics.get("top_3")
    assert metric.name == "top_3"
    assert metric.config() == {"name": "top_k", "k": 3}
    assert metrics.get(metric.config()).name == "top_3"
    assert metrics.get("top_k").name == "top_5"


@pytest.mark.parametrize("name", ["top_0", "top_", "top_x", "auc"])
def test_unknown_metrics_are_refused(name):
    with pytest.raises(ValueError, match="Received"):
        metrics.get(name)


def test_the_confusion_of_two_lists_counts_pairs():
    confusion = metrics.confusion_matrix([0, 0, 2, 2], [0, 1, 2, 2], classes=3)
    assert confusion.dtype == np.int64
    assert confusion.tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 2]]
    assert metrics.confusion_matrix([], [], classes=2).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize(("labels", "predicted"), [([0, 1], [0]), ([[0]], [[0]]), ([0, 3], [0, 0]), ([0, 0], [-1, 0])])
def test_impossible_lists_are_refused(labels, predicted):
    with pytest.raises(ValueError, match="Received"):
        metrics.confusion_matrix(labels, predicted, classes=3)


@pytest.mark.parametrize(
    ("correct", "count", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_the_interval_of_a_fraction_is_the_one_that_was_published(correct, count, low, high):
    """Newcombe, "Two-sided confidence intervals for the single proportion", 1998, table I, method 3."""
    assert metrics.wilson_interval(correct, count) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(("confidence", "deviations"), [(0.6826895, 1), (0.9544997, 2), (0.9973002, 3)])
def test_a_bound_is_the_fraction_from_which_the_observed_one_deviates_just_so_much(confidence, deviations):
    for bound in metrics.wilson_interval(7, 30, confidence):
        assert abs(7 / 30 - bound) == pytest.approx(deviations * math.sqrt(bound * (1 - bound) / 30), rel=1e-5)


def test_the_interval_of_a_fraction_is_exact_at_its_ends():
    for count in range(1, 200):
        assert metrics.wilson_interval(0, count)[0] == 0.0
        assert metrics.wilson_interval(count, count)[1] == 1.0
    assert metrics.wilson_interval(0, 0) == (0.0, 1.0)


def test_the_interval_of_a_fraction_holds_it_and_shrinks_with_more_samples():
    few, many = metrics.wilson_interval(8, 10), metrics.wilson_interval(np.int64(800), np.int64(1000))
    assert few[0] < many[0] < 0.8 < many[1] < few[1]


@pytest.mark.parametrize("received", [(3, 2), (-1, 2), (1, -2), (1, 2, 0.0), (1, 2, 1.0), (1, 2, math.nan), (0.5, 2)])
def test_an_interval_of_no_fraction_is_refused(received):
    with pytest.raises(ValueError, match="Received"):
        metrics.wilson_interval(*received)


def test_mcnemar_is_the_exact_binomial_test():
    for first, second in itertools.product(range(30), repeat=2):
        count = first + second
        tail = sum(math.comb(count, number) for number in range(min(first, second) + 1))
        assert metrics.mcnemar(first, second) == pytest.approx(min(1.0, 2 * tail / 2**count), rel=1e-12)


def test_mcnemar_of_many_samples_comes_close_to_its_normal_approximation():
    """With continuity correction: Edwards, "Note on the correction for continuity", 1948."""
    first, second = 500_000, 502_000
    z = (second - first - 1) / math.sqrt(first + second)
    assert metrics.mcnemar(first, second) == pytest.approx(2 * NormalDist().cdf(-z), rel=1e-4)
    assert metrics.mcnemar(0, 10**6) == 0.0


def test_mcnemar_favours_neither():
    assert metrics.mcnemar(0, 0) == metrics.mcnemar(7, 7) == 1.0
    assert metrics.mcnemar(np.int64(3), 12) == metrics.mcnemar(12, 3) < metrics.mcnemar(4, 12) < 1


@pytest.mark.parametrize("received", [(-1, 2), (2, -1), (0.5, 2), ("1", 2)])
def test_mcnemar_counts_samples(received):
    with pytest.raises((TypeError, ValueError), match="Received"):
        metrics.mcnemar(*received)


def test_the_interval_of_macro_f1_is_that_of_samples_drawn_again():
    rng = np.random.default_rng(0)
    targets = rng.random((400, 3)) < 0.4
    predicted = targets ^ (rng.random((400, 3)) < 0.2)
    low, high = metrics.macro_f1_interval(targets, predicted)
    f1s = [
        metrics.per_label(targets[drawn], predicted[drawn]).f1.mean()
        for drawn in (rng.integers(400, size=400) for _ in range(2000))
    ]
    assert (low, high) == pytest.approx(np.quantile(f1s, [0.025, 0.975]), abs=0.005)
    assert metrics.macro_f1_interval(targets, predicted) == (low, high)
    less, more = metrics.macro_f1_interval(targets, predicted, confidence=0.5)
    assert low < less < metrics.per_label(targets, predicted).f1.mean() < more < high


def test_macro_f1_lies_within_its_interval_where_labels_have_a_single_sample_too():
    targets, predicted = np.zeros((2, 500, 11))
    targets[:250, 0] = predicted[10:260, 0] = 1
    targets[range(10), range(1, 11)] = 1  # of which none is found
    low, high = metrics.macro_f1_interval(targets, predicted)
    assert low <= metrics.per_label(targets, predicted).f1.mean() <= high


def test_the_interval_of_macro_f1_leaves_out_labels_that_no_sample_has():
    targets, predicted = np.array([[1, 0], [0, 0]] * 9), np.array([[1, 0], [0, 0]] * 9)
    assert metrics.macro_f1_interval(targets, predicted) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("targets", "predicted", "confidence"),
    [
        (np.zeros((2, 2)), np.ones((2, 2)), 0.95),
        (np.ones((2, 2)), np.ones((2, 3)), 0.95),
        (np.ones(2), np.ones(2), 0.95),
        (np.ones((2, 2)), np.ones((2, 2)), 1.0),
    ],
)
def test_an_interval_of_no_macro_f1_is_refused(targets, predicted, confidence):
    with pytest.raises(ValueError, match="Received: "):
        metrics.macro_f1_interval(targets, predicted, confidence)


def test_figures_of_each_class_are_zero_where_they_have_no_divisor():
    figures = metrics.per_class(np.array([[3, 1, 0], [2, 0, 0], [0, 0, 0]]))
    assert figures.precision.tolist() == [0.6, 0.0, 0.0]
    assert figures.recall.tolist() == [0.75, 0.0, 0.0]
    assert figures.f1 == pytest.approx([2 / 3, 0, 0])
    assert figures.support.tolist() == [4, 2, 0]


# Several labels a sample

TARGETS = (np.random.default_rng(0).random((40, 4)) < (0.5, 0.3, 0.1, 0)).astype(np.float32)
SCORES = np.random.default_rng(1).random((40, 4)).round(1).astype(np.float32)


def test_the_f1_of_several_labels_is_the_mean_over_those_that_some_sample_has(xp):
    hits = ((SCORES > 0.5) & (TARGETS > 0.5)).sum(axis=0)
    expected = [2 * h / ((SCORES[:, k] > 0.5).sum() + TARGETS[:, k].sum()) for k, h in enumerate(hits[:3])]
    assert (SCORES[:, 3] > 0.5).any()  # though none has the label
    assert measure("multilabel_f1", xp, SCORES, TARGETS) == pytest.approx(np.mean(expected))
    assert math.isnan(measure("multilabel_f1", xp, SCORES * 0, TARGETS * 0))


def test_the_figures_of_each_label_are_those_of_a_hand():
    found = metrics.per_label(np.array([[1, 0, 0], [1, 1, 0]]), np.array([[1, 1, 0], [0, 1, 0]]))
    assert [column.tolist() for column in found] == [[1, 0.5, 0], [0.5, 1, 0], [2 / 3, 2 / 3, 0], [2, 1, 0]]


def test_average_precision_is_that_of_scikit_learn_and_nan_without_samples():
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    found = metrics.average_precision(TARGETS, SCORES)  # with many ties
    expected = sklearn_metrics.average_precision_score(TARGETS[:, :3], SCORES[:, :3], average=None)
    np.testing.assert_allclose(found[:3], expected)
    assert math.isnan(found[3])


def test_the_f1_of_scikit_learn_is_the_same():
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    expected = sklearn_metrics.f1_score(TARGETS[:, :3], SCORES[:, :3] > 0.5, average="macro")
    assert measure("multilabel_f1", np, SCORES[:, :3], TARGETS[:, :3]) == pytest.approx(expected)
