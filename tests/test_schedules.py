import math

import numpy as np
import pytest

from xpcnn import schedules


def rates(schedule, count):
    return [schedule(step) for step in range(count)]


def test_a_number_is_a_constant_rate():
    assert rates(schedules.get(0.1), 3) == [0.1, 0.1, 0.1]
    assert rates(schedules.get(np.float32(0.5)), 2) == [0.5, 0.5]


def test_step_decay_falls_after_every_so_many_updates():
    assert rates(schedules.StepDecay(8.0, every=2, factor=0.5), 6) == [8, 8, 4, 4, 2, 2]


def test_exponential_falls_smoothly_by_its_factor():
    assert rates(schedules.Exponential(8.0, factor=0.25, every=2), 5) == pytest.approx([8, 4, 2, 1, 0.5])


def test_cosine_goes_from_its_rate_to_the_final_one_and_stays():
    schedule = schedules.Cosine(1.0, steps=4, final=0.2)
    middle = [0.2 + 0.8 * (1 + math.cos(math.pi * part)) / 2 for part in (0.25, 0.5, 0.75)]
    assert rates(schedule, 7) == pytest.approx([1.0, *middle, 0.2, 0.2, 0.2])


def test_warm_up_rises_in_a_line_and_then_starts_the_schedule():
    schedule = schedules.WarmUp(schedules.StepDecay(1.0, every=1, factor=0.5), steps=4)
    assert rates(schedule, 7) == [0.25, 0.5, 0.75, 1.0, 1.0, 0.5, 0.25]


def test_one_cycle_rises_to_its_peak_and_falls_far_below_its_start():
    schedule = schedules.OneCycle(1.0, steps=11, warm_fraction=3 / 11, start_divisor=10, final_divisor=100)
    got = rates(schedule, 13)
    assert got[:3] == pytest.approx([0.1, 0.55, 1.0])  # half a cosine over two updates passes its middle
    assert got[6] == pytest.approx((1.0 + 0.001) / 2)
    assert got[10:] == pytest.approx([0.001] * 3)
    assert got[2:11] == sorted(got[2:11], reverse=True)


def test_one_cycle_without_room_for_a_rise_starts_at_its_peak():
    assert rates(schedules.OneCycle(1.0, steps=3, warm_fraction=0.0), 3) == pytest.approx([1.0, 0.500002, 4e-6])


@pytest.mark.parametrize(
    "make",
    [
        lambda: schedules.Constant(-1),
        lambda: schedules.Constant(float("nan")),
        lambda: schedules.StepDecay(1.0, every=0, factor=0.5),
        lambda: schedules.StepDecay(1.0, every=1, factor=1.5),
        lambda: schedules.Exponential(1.0, factor=0.0),
        lambda: schedules.Cosine(1.0, steps=0),
        lambda: schedules.Cosine(1.0, steps=10, final=-1),
        lambda: schedules.WarmUp(1.0, steps=0),
        lambda: schedules.WarmUp({"name": "cosine"}, steps=3),
        lambda: schedules.OneCycle(1.0, steps=1),
        lambda: schedules.OneCycle(1.0, steps=10, warm_fraction=1.0),
        lambda: schedules.OneCycle(1.0, steps=10, start_divisor=0.5),
        lambda: schedules.get("cosine"),
    ],
)
def test_impossible_schedules_are_refused(make):
    with pytest.raises(ValueError, match="Received"):
        make()


def test_a_schedule_of_ones_own_writes_its_rate():
    class Halving(schedules.Schedule):
        def _rate(self, step):
            return np.float64(2.0**-step)

    halving = Halving()
    assert schedules.get(halving) is halving
    assert type(halving(1)) is float  # a NumPy scalar would turn float32 weights into float64
