"""Temperature scaling: from overconfident or underconfident probabilities to reliable ones."""

import numpy as np
import pytest

from xpcnn.calibration import LEAST, MOST, find_temperature, find_thresholds, soften


def drawn(n, classes, sharpness, seed=0):
    """Probabilities, and labels that occur as often as they say."""
    draws = np.random.default_rng(seed)
    powers = np.exp(draws.normal(size=(n, classes)) * sharpness)
    probabilities = powers / powers.sum(axis=1, keepdims=True)
    labels = (probabilities.cumsum(axis=1) < draws.random((n, 1))).sum(axis=1)
    return probabilities.astype(np.float32), labels


def cross_entropy(probabilities, labels):
    return -np.log(np.take_along_axis(probabilities, labels[:, None], axis=1)).mean()


def test_softening_divides_the_logits():
    logits = np.array([[1.0, -2.0, 0.5]])
    expected = np.exp(logits / 3) / np.exp(logits / 3).sum()
    softened = soften((np.exp(logits) / np.exp(logits).sum()).astype(np.float32), 3.0)
    assert softened.dtype == np.float32
    assert softened == pytest.approx(expected, rel=1e-6)


def test_one_output_is_softened_as_two_classes_are():
    p = np.array([[0.9], [0.2], [0.0], [1.0]])
    both = soften(np.concatenate((1 - p, p), axis=1), 2.5)
    assert soften(p, 2.5) == pytest.approx(both[:, 1:])


@pytest.mark.parametrize("columns", [1, 3])
def test_logits_say_more_than_probabilities_that_are_rounded(columns):
    logits = np.linspace(-40, 40, 6 * columns).reshape(6, columns).astype(np.float32)
    z = np.concatenate((np.zeros((6, 1)), logits), axis=1) if columns == 1 else logits.astype(float)
    expected = np.exp(z / 4) / np.exp(z / 4).sum(axis=1, keepdims=True)
    softened = soften(logits, 4.0, from_logits=True)
    assert softened == pytest.approx(expected[:, 1:] if columns == 1 else expected, rel=1e-5)
    labels = np.arange(6) % max(2, columns)
    assert find_temperature(logits, labels, from_logits=True) == MOST


def test_no_answer_changes():
    probabilities, _ = drawn(500, 7, sharpness=2)
    for temperature in (LEAST, 0.5, 3.0, MOST):
        assert (soften(probabilities, temperature).argmax(axis=1) == probabilities.argmax(axis=1)).all()


def test_at_1_they_are_those_given():
    probabilities, _ = drawn(5, 3, sharpness=1)
    assert soften(probabilities, 1.0) is probabilities


@pytest.mark.parametrize("classes", [1, 2, 8])
@pytest.mark.parametrize("wrong_by", [0.3, 1.0, 4.0])
def test_the_temperature_that_was_missing_is_found(wrong_by, classes):
    honest, labels = drawn(20_000, max(2, classes), sharpness=1)
    honest = honest[:, 1:] if classes == 1 else honest
    assert find_temperature(soften(honest, 1 / wrong_by), labels) == pytest.approx(wrong_by, rel=0.05)


def test_no_other_temperature_is_better():
    probabilities, labels = drawn(2000, 5, sharpness=1)
    probabilities = soften(probabilities, 0.4)
    found = find_temperature(probabilities, labels)
    least = cross_entropy(soften(probabilities, found), labels)
    assert all(least < cross_entropy(soften(probabilities, found * by), labels) for by in (0.95, 1.05))


def test_a_few_images_that_are_all_right_do_not_make_a_model_sure_of_itself():
    sure = soften(np.array([[0.6, 0.4]] * 8), find_temperature(np.array([[0.6, 0.4]] * 8), np.zeros(8, int)))
    assert sure[0, 0] == pytest.approx(1 - 1 / 10, abs=1e-3)


def test_where_nothing_can_be_found_it_is_1():
    assert find_temperature(np.full((4, 3), 1 / 3), np.array([0, 1, 2, 0])) == 1
    assert find_temperature(np.empty((0, 3)), np.empty(0, int)) == 1


def test_it_stays_within_bounds_where_all_is_wrong():
    certain = np.array([[1.0, 0.0]] * 50)
    assert find_temperature(certain, np.ones(50, int)) == MOST


@pytest.mark.parametrize("seed", range(5))
def test_no_other_threshold_has_a_higher_f1(seed):
    rng = np.random.default_rng(seed)
    probabilities = rng.random((30, 2)).astype(np.float32).round(1 + seed % 2)
    targets = rng.random((30, 2)) < probabilities * 0.8

    def f1(label, threshold):
        predicted = probabilities[:, label] > threshold
        return 2 * (predicted & targets[:, label]).sum() / (predicted.sum() + targets[:, label].sum())

    for label, threshold in enumerate(find_thresholds(probabilities, targets)):
        assert f1(label, threshold) == max(f1(label, other) for other in np.linspace(0, 1, 1001))


def test_a_threshold_is_halfway():
    p = np.array([[0.9, 0.9], [0.5, 0.5], [0.25, 0.25]])
    assert find_thresholds(p, np.array([[1, 1], [0, 1], [0, 0]])) == (0.7, 0.375)


def test_of_equal_thresholds_it_is_the_one_nearest_a_half():
    p = np.array([[0.7], [0.6], [0.55], [0.1], [0.05]])
    assert find_thresholds(p, np.array([[1], [0], [0], [1], [0]])) == pytest.approx((0.65,))  # as good as 0.075


def test_the_threshold_of_a_label_that_none_or_all_have_is_a_half():
    assert find_thresholds(np.full((3, 2), 0.2), np.array([[0, 1]] * 3)) == (0.5, 0.5)
