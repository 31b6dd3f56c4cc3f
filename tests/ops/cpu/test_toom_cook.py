"""The matrices of Winograd's convolution."""

import numpy as np
import pytest

pytest.importorskip("numba")
from xpcnn.ops.cpu.toom_cook import TILE, transforms


@pytest.mark.parametrize("taps", TILE)
def test_the_matrices_give_the_correlation_of_rows(taps):
    inputs, filters, outputs = transforms(taps, "float64")
    rng = np.random.default_rng(taps)
    w, x = rng.normal(size=taps), rng.normal(size=TILE[taps] + taps - 1)
    np.testing.assert_allclose(outputs @ ((filters @ w) * (inputs @ x)), np.correlate(x, w), rtol=1e-9)


def test_three_taps_have_the_matrices_of_the_paper():
    inputs, filters, outputs = transforms(3, "float64")
    assert outputs.tolist() == [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]
    assert inputs[0].tolist() == [4, 0, -5, 0, 1, 0]
    np.testing.assert_allclose(filters[3], [1 / 24, 1 / 12, 1 / 6])
