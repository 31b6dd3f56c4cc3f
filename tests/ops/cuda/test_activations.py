"""Activations are one kernel forward and one backward; for their values see tests/layers/test_activation.py."""

import numpy as np
import pytest

from tests import strict
from xpcnn.ops import activations
from xpcnn.ops.workspace import Workspace

WITH_KERNELS = pytest.mark.parametrize("device", ["kernels", "cupy"], indirect=True)
OF_ONE_NUMBER = pytest.mark.parametrize("name", [n for n in activations.ACTIVATIONS if n not in ("linear", "softmax")])


@pytest.mark.parametrize("device", ["kernels"], indirect=True)
@OF_ONE_NUMBER
def test_each_is_one_launch_forward_and_one_backward(device, name):
    workspace = Workspace(device)
    x, dy = workspace.batch_last((3, 4, 2, 2), np.float32), workspace.batch_last((3, 4, 2, 2), np.float32)
    x[...] = dy[...] = 0.5
    with strict.counting() as forward:
        _, backward = activations.get(name)(device, x, workspace)
    with strict.counting() as back:
        backward(dy)
    assert (forward.launches, back.launches) == (1, 1)


@WITH_KERNELS
@OF_ONE_NUMBER
def test_what_is_no_number_or_infinite_comes_out_as_of_the_generic_code(device, host, name):
    x = np.array([[np.nan, np.inf, -np.inf, 0.0, -0.0, 3e38, -3e38, 1e-40, -1e-40, 3.0, -3.0, 6.0, -1.0]], np.float32).T

    def results(function, xp):
        y, backward = function(xp, xp.asarray(x), Workspace(xp))
        return host(y), host(backward(xp.asarray(np.full_like(x, 2.0))))

    with np.errstate(all="ignore"):
        expected, expected_dx = results(activations.get(name).__wrapped__, np)
    y, dx = results(activations.get(name), device)
    np.testing.assert_allclose(y, expected, rtol=1e-6, atol=1e-37)
    known = ~np.isinf(x)
    np.testing.assert_allclose(dx[known], expected_dx[known], rtol=1e-5, atol=1e-37)
