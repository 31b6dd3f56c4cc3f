import json
import math

import numpy as np
import pytest

from tests import strict
from xpcnn import optimizers, schedules
from xpcnn.backend import to_host
from xpcnn.optimizers import SGD, Adagrad, Adam, AdamW, RMSprop, base

SIZE = 10
START = np.linspace(-1, 1, SIZE)
GRADIENTS = [np.random.default_rng(step).normal(0, 0.5, SIZE) for step in range(5)]
ALL = [(slice(0, SIZE), True)]
EVERY = {
    "sgd": SGD(0.1),
    "momentum": SGD(0.1, momentum=0.9),
    "nesterov": SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    "rmsprop": RMSprop(0.01),
    "adagrad": Adagrad(0.1),
    "adam": Adam(0.01),
    "adamw": AdamW(0.01, weight_decay=0.1),
    "clipped": Adam(0.01, clip_norm=0.1),
}
every_kind = pytest.mark.parametrize("kind", EVERY)


def fresh(kind):
    return optimizers.get(EVERY[kind].config())


def train(optimizer, xp, gradients=GRADIENTS, start=START, segments=ALL, dtype=np.float64):
    """Return the parameters after one update for each gradient."""
    parameters = xp.asarray(start.astype(dtype))
    optimizer.build(xp, parameters)
    for gradient in gradients:
        optimizer.update(parameters, xp.asarray(gradient.astype(dtype)), segments)
    return to_host(parameters).copy()


def by_rule(rule, start=START, gradients=GRADIENTS):
    """Follow a rule p, g, t, state -> p, one update a gradient, t from 1."""
    p, state = start.copy(), {}
    for t, g in enumerate(gradients, 1):
        p = rule(p, g, t, state)
    return p


def test_plain_gradient_descent(xp):
    np.testing.assert_allclose(train(SGD(0.1), xp), START - 0.1 * sum(GRADIENTS), rtol=1e-12)


@pytest.mark.parametrize("nesterov", [False, True])
def test_gradient_descent_with_momentum_and_decay(xp, nesterov):
    def rule(p, g, t, state):
        g = g + 0.2 * p
        state["v"] = 0.9 * state.get("v", 0) + g
        return p - 0.1 * (g + 0.9 * state["v"] if nesterov else state["v"])

    optimizer = SGD(0.1, momentum=0.9, nesterov=nesterov, weight_decay=0.2)
    np.testing.assert_allclose(train(optimizer, xp), by_rule(rule), rtol=1e-12)


def test_rmsprop(xp):
    def rule(p, g, t, state):
        state["v"] = 0.8 * state.get("v", 0) + 0.2 * g**2
        return p - 0.01 * g / (np.sqrt(state["v"]) + 1e-3)

    np.testing.assert_allclose(train(RMSprop(0.01, decay=0.8, epsilon=1e-3), xp), by_rule(rule), rtol=1e-12)


def test_adagrad(xp):
    def rule(p, g, t, state):
        state["v"] = state.get("v", 0) + g**2
        return p - 0.1 * g / (np.sqrt(state["v"]) + 1e-3)

    np.testing.assert_allclose(train(Adagrad(0.1, epsilon=1e-3), xp), by_rule(rule), rtol=1e-12)


@pytest.mark.parametrize("weight_decay", [None, 0.1])
def test_adam_as_in_the_paper(xp, weight_decay):
    def rule(p, g, t, state):
        state["m"] = 0.7 * state.get("m", 0) + 0.3 * g
        state["v"] = 0.9 * state.get("v", 0) + 0.1 * g**2
        mean, square = state["m"] / (1 - 0.7**t), state["v"] / (1 - 0.9**t)
        return p * (1 - 0.01 * (weight_decay or 0)) - 0.01 * mean / (np.sqrt(square) + 1e-2)

    arguments = {"beta1": 0.7, "beta2": 0.9, "epsilon": 1e-2}  # an epsilon that is felt shows where it stands
    optimizer = AdamW(0.01, weight_decay=0.1, **arguments) if weight_decay else Adam(0.01, **arguments)
    np.testing.assert_allclose(train(optimizer, xp), by_rule(rule), rtol=1e-12)


@every_kind
def test_single_precision_is_kept_and_follows_double(xp, kind):
    optimizer = fresh(kind)
    single = train(optimizer, xp, dtype=np.float32)
    assert single.dtype == np.float32
    assert all(moment.dtype == np.float32 for moment in optimizer.moments.values())
    np.testing.assert_allclose(single, train(fresh(kind), xp), rtol=1e-5, atol=1e-6)


@every_kind
def test_only_the_segments_change_and_the_gradient_never(xp, kind):
    parameters, gradient = xp.asarray(START.copy()), xp.asarray(GRADIENTS[0].copy())
    optimizer = fresh(kind)
    optimizer.build(xp, parameters)
    optimizer.update(parameters, gradient, [(slice(2, 5), True), (slice(7, 8), False)])
    changed = to_host(parameters) != START
    assert changed.nonzero()[0].tolist() == [2, 3, 4, 7]
    np.testing.assert_array_equal(to_host(gradient), GRADIENTS[0])


@pytest.mark.parametrize("kind", ["nesterov", "adamw"])
def test_weight_decay_spares_the_segments_that_say_so(xp, kind):
    zeros = [np.zeros(SIZE)] * 3
    after = train(fresh(kind), xp, zeros, segments=[(slice(0, 4), True), (slice(4, SIZE), False)])
    assert (abs(after[:4]) < abs(START[:4])).all()
    np.testing.assert_array_equal(after[4:], START[4:])


@every_kind
def test_a_segment_takes_its_fraction_of_each_step(xp, kind):
    gradients, parts = GRADIENTS[:1], [(slice(0, 4), True, 0.25), (slice(4, SIZE), True)]
    steps, whole = (train(fresh(kind), xp, gradients, segments=s) - START for s in (parts, ALL))
    np.testing.assert_allclose(steps[:4], whole[:4] / 4, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(steps[4:], whole[4:])


def test_clipping_scales_to_the_norm_over_the_segments(xp):
    gradient = np.array([3.0, 4.0, 1e6])
    segments = [(slice(0, 1), True), (slice(1, 2), True)]
    after = train(SGD(1.0, clip_norm=2.5), xp, [gradient], np.zeros(3), segments)
    np.testing.assert_allclose(after, [-1.5, -2.0, 0.0], rtol=1e-6)


def test_clipping_leaves_small_gradients_as_they_are(xp):
    after = train(SGD(1.0, clip_norm=10.0), xp, [np.array([3.0, 4.0])], np.zeros(2), [(slice(0, 2), True)])
    np.testing.assert_array_equal(after, [-3.0, -4.0])


@every_kind
def test_blocks_give_what_one_piece_gives(kind, monkeypatch):
    whole = train(fresh(kind), np)
    monkeypatch.setattr(base, "BLOCK", 3)
    np.testing.assert_allclose(train(fresh(kind), np), whole, rtol=1e-14)


@every_kind
def test_an_update_never_waits_for_the_device(kind):
    parameters, gradient = strict.xp.asarray(START), strict.xp.asarray(GRADIENTS[0])
    optimizer = fresh(kind)
    optimizer.build(strict.xp, parameters)
    with strict.forbid():
        for _ in range(base.FLUSH_EVERY):
            optimizer.update(parameters, gradient, ALL)


def test_the_rate_follows_the_schedule_and_can_be_set(xp):
    optimizer = SGD(schedules.StepDecay(1.0, every=1, factor=0.5))
    assert optimizer.rate == 1.0
    after = train(optimizer, xp, [np.ones(1)] * 3, np.zeros(1), [(slice(0, 1), False)])
    assert after.tolist() == [-(1 + 0.5 + 0.25)]
    assert optimizer.rate == 0.125
    assert optimizer.step == 3
    optimizer.learning_rate = np.float64(0.25)
    assert type(optimizer.rate) is float  # a NumPy scalar would turn float32 weights into float64
    assert optimizer.rate == 0.25


@every_kind
def test_a_state_that_is_saved_and_loaded_goes_on_as_if_nothing_happened(xp, kind):
    straight = train(fresh(kind), xp)
    first = fresh(kind)
    halfway = train(first, xp, GRADIENTS[:2])
    state = first.state()
    train(first, xp, GRADIENTS[2:], halfway)  # a state is a copy: what comes later does not show in it
    assert state["step"] == 2
    for built_before in (False, True):
        second = fresh(kind)
        if built_before:
            train(second, xp, GRADIENTS[:3])
        second.load_state(state)
        np.testing.assert_allclose(train(second, xp, GRADIENTS[2:], halfway), straight, rtol=1e-14)
        assert second.step == 5


@every_kind
def test_moving_the_state_changes_nothing(kind):
    straight = train(fresh(kind), np)
    optimizer = fresh(kind)
    halfway = train(optimizer, np, GRADIENTS[:2])
    optimizer.to(strict.xp)
    assert all(isinstance(moment, strict.ndarray) for moment in optimizer.moments.values())
    there = train(optimizer, strict.xp, GRADIENTS[2:4], halfway)
    optimizer.to(np)
    np.testing.assert_allclose(train(optimizer, np, GRADIENTS[4:], there), straight, rtol=1e-12)


def test_moving_before_there_is_a_state_does_nothing():
    optimizer = Adam()
    optimizer.to(np)
    assert optimizer.moments == {}


def test_building_again_keeps_a_state_that_fits_and_replaces_another():
    optimizer = Adam()
    train(optimizer, np)
    optimizer.build(np, np.zeros(SIZE))
    assert optimizer.step == 5
    optimizer.build(np, np.zeros(SIZE + 1))
    assert optimizer.step == 0
    assert all(moment.shape == (SIZE + 1,) and not moment.any() for moment in optimizer.moments.values())


def state_of_adam(**changes):
    state = {"step": np.array(3), "mean": np.ones(SIZE), "square": np.ones(SIZE)} | changes
    return {name: array for name, array in state.items() if array is not None}


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (state_of_adam(square=None), "must contain step, mean, square. Received: step, mean"),
        (state_of_adam(other=np.ones(SIZE)), "Received: step, mean, square, other"),
        ({}, "Received: nothing"),
        (state_of_adam(step=np.array(-1)), "step must be a single integer"),
        (state_of_adam(step=np.array(1.0)), "step must be a single integer"),
        (state_of_adam(step=np.array([1, 2])), "step must be a single integer"),
        (
            state_of_adam(mean=np.ones(3)),
            r"Received: mean float64 \(3,\), .* for \(10,\)",
        ),
        (state_of_adam(mean=np.ones(3), square=np.ones(3)), "as many as the model has parameters"),
        (state_of_adam(mean=np.full(SIZE, np.nan)), "finite values"),
        (state_of_adam(mean=np.ones(SIZE, dtype=int)), "Received: mean int64"),
    ],
)
def test_a_state_of_another_optimizer_or_model_is_refused_and_changes_nothing(state, message):
    optimizer = Adam()
    train(optimizer, np)
    before = optimizer.state()
    with pytest.raises(ValueError, match=message):
        optimizer.load_state(state)
    for name, array in optimizer.state().items():
        np.testing.assert_array_equal(array, before[name])


def test_a_state_loaded_for_another_model_is_refused_when_it_is_built():
    optimizer = Adam()
    optimizer.load_state(state_of_adam())
    with pytest.raises(ValueError, match=r"Received: moments of shape \(10,\), for parameters of shape \(4,\)"):
        optimizer.build(np, np.zeros(4))


def test_updating_before_building_is_refused():
    with pytest.raises(RuntimeError, match="call build"):
        Adam().update(np.zeros(3), np.zeros(3), [(slice(0, 3), True)])


def test_moments_of_gradients_that_stay_zero_end_at_zero():
    gradients = [np.ones(SIZE)] + [np.zeros(SIZE)] * 1000
    for optimizer in (Adam(), SGD(momentum=0.9)):
        train(optimizer, np, gradients, dtype=np.float32)
        assert (optimizer.moments[optimizer.moment_names[0]] == 0).all()  # not subnormal, which is slow


@pytest.mark.parametrize(
    "make",
    [
        lambda: SGD(-0.1),
        lambda: SGD("fast"),
        lambda: SGD(momentum=1.0),
        lambda: SGD(nesterov=True),
        lambda: SGD(weight_decay=-1),
        lambda: SGD(clip_norm=0),
        lambda: RMSprop(decay=1.0),
        lambda: RMSprop(epsilon=0),
        lambda: Adagrad(epsilon=-1),
        lambda: Adam(beta1=1.0),
        lambda: Adam(beta2=-0.1),
        lambda: Adam(math.nan),
        lambda: AdamW(weight_decay=math.inf),
        lambda: optimizers.get({"name": "adam", "lr": 1e-3}),
        lambda: optimizers.get("adamax"),
    ],
)
def test_impossible_arguments_are_refused(make):
    with pytest.raises(ValueError, match="Received"):
        make()


def test_a_schedule_is_kept_with_the_optimizer():
    optimizer = AdamW(schedules.WarmUp(schedules.Cosine(0.1, 10), 3), weight_decay=0.1, clip_norm=1.0)
    again = optimizers.get(json.loads(json.dumps(optimizer.config())))
    assert again.config() == optimizer.config()
    assert again.rate == optimizer.rate == pytest.approx(0.1 / 3)
