"""The error function equals that of the standard library."""

import math

import numpy as np
import pytest

from xpcnn.ops.erf import erf


@pytest.mark.parametrize(("dtype", "error"), [(np.float64, 1e-14), (np.float32, 1e-6)])
def test_it_is_the_standard_librarys(xp, host, dtype, error):
    x = np.concatenate((np.linspace(-8, 8, 4001), [0.0, 1e-9, 1e30, np.inf, -np.inf])).astype(dtype)
    y = host(erf(xp, xp.asarray(x)))
    assert y.dtype == dtype
    np.testing.assert_allclose(y, [math.erf(number) for number in x.tolist()], rtol=0, atol=error)


def test_what_is_not_a_number_stays_so(xp, host):
    assert np.isnan(host(erf(xp, xp.asarray([np.nan])))).all()
