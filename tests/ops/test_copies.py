"""Several arrays written at once."""

import numpy as np
import pytest

from tests import strict
from xpcnn.ops.copies import copy_each


@pytest.mark.parametrize("count", [0, 1, 3, 8, 19])
def test_each_array_gets_its_value_and_no_more(xp, host, count):
    rng = np.random.default_rng(count)
    flat = xp.full(19 * 300, 7, dtype=np.float32)
    targets = [flat[300 * number :][: rng.integers(1, 299)] for number in range(count)]
    values = [rng.normal(size=len(target)).astype(np.float32) for target in targets]
    copy_each(xp, [(target, xp.asarray(value)) for target, value in zip(targets, values, strict=True)])
    for target, value in zip(targets, values, strict=True):
        np.testing.assert_array_equal(host(target), value)
    assert (host(flat) == 7).sum() == flat.size - sum(map(len, values))


def test_values_of_another_type_order_or_shape_are_written_as_by_an_assignment(xp, host):
    targets = [xp.zeros((2, 3), dtype=np.float32) for _ in range(4)]
    values = [
        np.arange(6.0).reshape(2, 3),
        np.arange(6, dtype=np.float32).reshape(3, 2).T,
        np.arange(3.0),
        np.float32(5),
    ]
    copy_each(xp, [(target, xp.asarray(value)) for target, value in zip(targets, values, strict=True)])
    for target, value in zip(targets, values, strict=True):
        np.testing.assert_array_equal(host(target), np.broadcast_to(value, (2, 3)))
    with pytest.raises(ValueError, match="broadcast"):
        copy_each(xp, [(targets[0], xp.zeros(4, dtype=np.float32))])


@pytest.mark.parametrize("device", ["kernels"], indirect=True)
@pytest.mark.parametrize(("count", "launches"), [(0, 0), (1, 1), (8, 1), (9, 2)])
def test_eight_arrays_are_one_launch(device, count, launches):
    pairs = [(device.zeros(3), device.ones(3)) for _ in range(count)]
    with strict.counting() as counts:
        copy_each(device, pairs)
    assert counts.launches == launches
