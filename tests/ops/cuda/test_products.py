"""Matrix products of operands transposed in memory or not, with bias, ReLU and row sums."""

import numpy as np
import pytest

from tests import kernels
from xpcnn.ops.cuda.products import product

WITH_KERNELS = pytest.mark.parametrize("device", ["kernels", "cupy"], indirect=True)


@WITH_KERNELS
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("turned", [(False, False), (False, True), (True, False), (True, True)])
@pytest.mark.parametrize(
    ("rows", "depth", "columns"), [(96, 810, 32), (1, 1, 1), (33, 4, 5), (70, 40, 129), (256, 600, 300)]
)
def test_they_are_numpys(device, host, dtype, turned, rows, depth, columns):
    rng = np.random.default_rng(0)
    a, b, bias = rng.normal(size=(rows, depth)), rng.normal(size=(depth, columns)), rng.normal(size=rows)
    ours = [
        device.asarray(matrix.T.copy(), dtype=dtype).T if turn else device.asarray(matrix, dtype=dtype)
        for matrix, turn in zip((a, b), turned, strict=True)
    ]
    y, sums = device.full((rows, columns), np.nan, dtype=dtype), device.full(rows, np.nan, dtype=dtype)
    close = {"rtol": 1e-4, "atol": 1e-3} if dtype == np.float32 else {"rtol": 1e-10, "atol": 1e-10}
    product(device, *ours, y, bias=device.asarray(bias, dtype=dtype), activation="relu")
    np.testing.assert_allclose(host(y), np.maximum(a @ b + bias[:, None], 0), **close)
    product(device, *ours, y, row_sums=sums)
    np.testing.assert_allclose(host(y), a @ b, **close)
    np.testing.assert_allclose(host(sums), a.sum(axis=1), **close)


@WITH_KERNELS
def test_what_is_not_a_number_stays_so(device, host):
    a, b = device.asarray([[np.nan, 1.0]], dtype=np.float32), device.asarray([[0.0], [1.0]], dtype=np.float32)
    y = device.empty((1, 1), dtype=np.float32)
    product(device, a, b, y, activation="relu")
    assert np.isnan(host(y)).all()


@pytest.mark.parametrize("column", ["kernels"])
def test_a_product_may_have_more_rows_of_tiles_than_a_grid_has_rows(column):
    """The gradient of a layer with 4,194,304 features: grids of 65,536 and more are for their first side alone."""
    launched = []

    class Kernel:
        def __call__(self, grid, block, *arguments):
            launched.append(grid)

    a, b = np.empty((4_194_304, 1), np.float32), np.empty((1, 4), np.float32)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("xpcnn.ops.cuda.products.kernel", lambda *arguments, **constants: Kernel())
        patched.setattr("xpcnn.ops.cuda.compiler.count_multiprocessors", lambda xp, device: 132)
        product(kernels.xp, a, b, np.empty((4_194_304, 4), np.float32))
    ((tiles,),) = launched
    assert tiles >= 2**16
