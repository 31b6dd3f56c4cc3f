"""The numbers of a loss scale, and what divides gradients by it."""

import copy

import numpy as np
import pytest

from tests import strict
from xpcnn import optimizers, schedules
from xpcnn.optimizers.loss_scale import LossScale
from xpcnn.precision import in_precision


def test_it_begins_as_pytorchs(xp):
    assert LossScale(xp).numbers() == {"scale": 65536.0, "finite_steps": 0, "skipped": 0}


@pytest.mark.parametrize("wrong", [np.inf, np.nan, 3e38])
def test_a_gradient_is_divided_exactly_and_its_sum_tells_whether_it_is_finite(xp, host, wrong):
    scale, gradient = LossScale(xp, 2.0**20), np.array([1 / 3, -1e-3, 0, 1e-30], np.float32)
    scaled = xp.asarray(gradient * np.float32(2**20))
    assert host(scale.unscale(xp, scaled)).all()
    np.testing.assert_array_equal(host(scaled), gradient)
    scaled = xp.asarray(np.array([1, wrong, wrong], np.float32))
    with np.errstate(over="ignore"):
        assert not host(LossScale(xp, 1.0).unscale(xp, scaled)).any()


@pytest.mark.parametrize("numbers", [{"scale": 0.5}, {"scale": 3.0}, {"scale": np.inf}, {"scale": 2.0**128},
                                     {"finite_steps": 2000}, {"finite_steps": -1}, {"skipped": 2**31},
                                     {"skipped": 1.5}])  # fmt: skip
def test_impossible_numbers_are_refused_and_change_nothing(numbers):
    scale = LossScale(np, 8.0, 7, 6)
    with pytest.raises(ValueError, match="Received"):
        scale.load(**numbers)
    assert scale.numbers() == {"scale": 8.0, "finite_steps": 7, "skipped": 6}


class TestInAnOptimizer:
    half = in_precision(strict.xp, "float16")

    def built(self, xp=half):
        optimizer = optimizers.Adam()
        optimizer.build(xp, xp.zeros(4, dtype=np.float32))
        return optimizer

    def test_only_float16_has_one(self):
        assert self.built(np).loss_scale is None
        assert self.built(strict.xp).loss_scale is None
        assert self.built(in_precision(strict.xp, "bfloat16")).loss_scale is None
        assert self.built().loss_scale.numbers()["scale"] == 65536

    def test_its_state_has_it(self):
        optimizer, other, fresh = self.built(), self.built(), optimizers.Adam()
        optimizer.step = 9
        optimizer.loss_scale.load(4.0, 3, 2)
        state = optimizer.state()
        assert {name: array.item() for name, array in state.items() if array.ndim == 0} == {
            "step": 9, "scale": 4.0, "finite_steps": 3, "skipped": 2,
        }  # fmt: skip
        other.load_state(state)
        fresh.load_state(state)
        fresh.build(self.half, self.half.zeros(4, dtype=np.float32))
        for one in (other, fresh, copy.deepcopy(optimizer)):
            assert one.loss_scale.numbers() == {"scale": 4.0, "finite_steps": 3, "skipped": 2}
            assert (one.step, one.skipped) == (9, 2)
        assert {"scale", "skipped"}.isdisjoint(self.built(np).state())

    def test_more_steps_skipped_than_made_are_refused(self):
        optimizer = self.built()
        with pytest.raises(ValueError, match="at least skipped"):
            optimizer.load_state({**optimizer.state(), "skipped": np.array(1)})
        assert optimizer.loss_scale.numbers()["skipped"] == 0

    def test_another_precision_keeps_the_count_of_skipped_steps_alone(self):
        optimizer = self.built()
        optimizer.step = 9
        optimizer.loss_scale.load(4.0, 3, 2)
        optimizer.to(strict.xp)
        assert (optimizer.loss_scale, optimizer.skipped, optimizer.state()["skipped"]) == (None, 2, 2)
        optimizer.to(self.half)
        assert optimizer.loss_scale.numbers() == {"scale": 65536.0, "finite_steps": 0, "skipped": 2}

    @pytest.mark.parametrize("kind", [optimizers.SGD, optimizers.RMSprop, optimizers.Adam, optimizers.AdamW])
    def test_skipped_steps_count_for_the_schedule_and_not_for_what_corrects_moments(self, kind):
        """Three steps of which the first two are skipped are as one step, at the third one's learning rate."""
        rates = schedules.StepDecay(0.1, every=1, factor=0.5)
        skipping, single = kind(rates), kind(rates(2))
        p, q, gradient = np.ones(3, np.float32), np.ones(3, np.float32), np.array([1, -2, 3e-3], np.float32)
        for optimizer, parameters in ((skipping, p), (single, q)):
            optimizer.build(np, parameters)
        skipping.skip()
        skipping.skip()
        skipping.update(p, gradient, [(slice(0, 3), True)])
        single.update(q, gradient, [(slice(0, 3), True)])
        np.testing.assert_allclose(p, q, rtol=1e-6)
        assert (skipping.step, single.step) == (3, 1)
