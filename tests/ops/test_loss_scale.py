"""The loss scale halves where a gradient overflows, and doubles after 2000 steps in which none did."""

import numpy as np
import pytest

from xpcnn.ops.loss_scale import LARGEST, update_scale


@pytest.mark.parametrize(
    ("before", "finite", "after"),
    [
        ((65536, 0, 0), True, (65536, 1, 0)),
        ((65536, 1998, 3), True, (65536, 1999, 3)),
        ((65536, 1999, 3), True, (131072, 0, 3)),
        ((LARGEST, 1999, 3), True, (LARGEST, 0, 3)),
        ((65536, 1999, 3), False, (32768, 0, 4)),
        ((1, 5, 3), False, (1, 0, 4)),
    ],
)
@pytest.mark.parametrize("failed", [False, True])
def test_one_step(xp, host, before, finite, after, failed):
    numbers = [
        xp.asarray([number], dtype=kind) for number, kind in zip(before, (np.float32, np.int32, np.int32), strict=True)
    ]
    update_scale(xp, *numbers, xp.asarray([finite]), xp.asarray([failed]))
    assert tuple(host(number)[0] for number in numbers) == (before if failed else after)
    assert [number.dtype for number in numbers] == [np.float32, np.int32, np.int32]
