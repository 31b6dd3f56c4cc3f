"""Products, convolutions and their gradients on tensor cores: exact for rounded operands, and close for any."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import cases, precisions
from tests.layers.test_convolution import of_case
from tests.passes import run
from xpcnn import layers
from xpcnn.ops import convolution as generic
from xpcnn.ops.convolution import convolution
from xpcnn.ops.cuda import compiler, correlation, tensor_products
from xpcnn.ops.cuda.pooling import pooled
from xpcnn.ops.cuda.products import product
from xpcnn.ops.window import Window
from xpcnn.ops.workspace import Workspace, to_batch_last
from xpcnn.precision import STORED, in_precision

WITH_KERNELS = pytest.mark.parametrize("device", ["kernels", "cupy"], indirect=True)
IN_EACH = pytest.mark.parametrize("precision", precisions.NAMES)
SQUARES = Window((2, 2), (2, 2))
CLOSE = {"rtol": precisions.SUMS, "atol": 10 * precisions.SUMS}


@pytest.fixture
def launched(monkeypatch):
    """The names of the kernels that products and convolutions launched."""
    names = []

    def noted(xp, source, name, *arguments, **constants):
        names.append(name)
        return compiler.kernel(xp, source, name, *arguments, **constants)

    for module in ("tensor_products", "products", "correlation", "tiles"):
        monkeypatch.setattr(f"xpcnn.ops.cuda.{module}.kernel", noted)
    return names


def window(size, padding=0, strides=1, dilation=1):
    return Window((size, size), (strides,) * 2, ((padding, padding),) * 2, (dilation,) * 2)


@WITH_KERNELS
@IN_EACH
@pytest.mark.parametrize("turned", [(False, False), (False, True), (True, False), (True, True)])
@pytest.mark.parametrize(
    ("rows", "depth", "columns"), [(96, 810, 32), (1, 1, 1), (33, 4, 5), (70, 40, 129), (16, 64, 136)]
)
def test_a_product_is_that_of_rounded_operands(device, host, precision, turned, rows, depth, columns):
    rng = np.random.default_rng(0)
    a, b, bias = (rng.normal(size=size).astype(np.float32) for size in ((rows, depth), (depth, columns), rows))
    xp = in_precision(device, precision)
    ours = [
        xp.asarray(matrix.T.copy()).T if turn else xp.asarray(matrix)
        for matrix, turn in zip((a, b), turned, strict=True)
    ]
    y, sums = xp.full((rows, columns), np.nan, dtype=np.float32), xp.full(rows, np.nan, dtype=np.float32)
    exact = precisions.rounded(a, precision) @ precisions.rounded(b, precision)
    product(xp, *ours, y, bias=xp.asarray(bias), activation="relu")
    np.testing.assert_allclose(host(y), np.maximum(exact + bias[:, None], 0), **CLOSE)
    product(xp, *ours, y, row_sums=sums)
    np.testing.assert_allclose(host(y), exact, **CLOSE)
    np.testing.assert_allclose(host(sums), a.sum(axis=1, dtype=np.float64), **CLOSE, err_msg="sums are not rounded")


def results(compute, xp, host, x, weight, bias, dy, *arguments, dtype=np.float32, **keywords):
    """Return y, dx, dweight and dbias of a convolution, on the host."""
    x, weight, bias, dy = (None if array is None else xp.asarray(array, dtype=dtype) for array in (x, weight, bias, dy))
    y, backward = compute(xp, x, weight, bias, *arguments, Workspace(xp), **keywords)
    dweight = xp.full(weight.shape, np.nan, dtype=dtype)
    dbias = None if bias is None else xp.full(bias.shape, np.nan, dtype=dtype)
    dx = backward(dy, dweight, dbias, True)
    return [None if array is None else host(array) for array in (y, dx, dweight, dbias)]


def drawn(shape, filters, seen, pool=None, groups=1, seed=0):
    rng, size = np.random.default_rng(seed), seen.output_size(*shape[2:])
    size = size if pool is None else pool.output_size(*size)
    shapes = (shape, (filters, shape[1] // groups, *seen.kernel), (filters,), (shape[0], filters, *size))
    return [rng.normal(size=one).astype(np.float32) for one in shapes]


def check_convolution(device, host, precision, arrays, seen, with_bias=True, **keywords):
    """Assert that a convolution is that of rounded operands, in exact arithmetic."""
    x, weight, bias, dy = arrays
    bias = bias if with_bias else None
    ours = results(convolution, in_precision(device, precision), host, x, weight, bias, dy, seen, **keywords)
    x, weight, rounded_dy = (precisions.rounded(array, precision) for array in (x, weight, dy))
    exact = generic.convolution.__wrapped__
    right = results(exact, np, host, x, weight, bias, rounded_dy, seen, dtype=np.float64, **keywords)
    if with_bias:  # the sum of dy, which is not rounded
        right[3] = results(exact, np, host, x, weight, bias, dy, seen, dtype=np.float64, **keywords)[3]
    for name, result, other in zip(("y", "dx", "dweight", "dbias"), ours, right, strict=True):
        if other is not None:
            np.testing.assert_allclose(
                result, other, rtol=1e-4, atol=precisions.SUMS * np.abs(other).max(), err_msg=name
            )


# Images, channels, rows, columns; filters.
@WITH_KERNELS
@IN_EACH
@pytest.mark.parametrize(
    ("shape", "filters", "seen", "with_bias", "keywords"),
    [
        ((8, 3, 9, 7), 10, window(3, 1), True, {}),
        ((12, 10, 7, 6), 33, window(3, 1), True, {"activation": "relu"}),
        ((5, 4, 8, 7), 6, window(3, 1), False, {}),
        ((1, 1, 9, 10), 20, window(5), True, {"pool": SQUARES, "activation": "relu"}),
        ((8, 6, 9, 8), 70, window(3, 1, strides=2), True, {}),
        ((3, 2, 11, 9), 5, Window((2, 4), (3, 2), ((1, 0), (2, 1)), (2, 1)), True, {"activation": "relu6"}),
        ((4, 8, 6, 5), 8, window(1), True, {"activation": "relu"}),
        ((4, 8, 6, 5), 8, window(1, strides=2), True, {}),
        ((6, 3, 8, 8), 4, window(3, 1), True, {"pool": Window((3, 3), (2, 2), ((1, 0), (0, 1)))}),
    ],
    ids=str,
)
def test_a_convolution_is_that_of_rounded_operands(
    device, host, launched, precision, shape, filters, seen, with_bias, keywords
):
    arrays = drawn(shape, filters, seen, keywords.get("pool"))
    arrays[3] = np.sign(arrays[3])  # where windows of pooling overlap, gradients are added before they are rounded
    check_convolution(device, host, precision, arrays, seen, with_bias, **keywords)
    assert set(launched) <= {"tensor_product", "finish_product", "finish_pooled_product"}


@WITH_KERNELS
@IN_EACH
@pytest.mark.parametrize("multiprocessors", [1, 8], ids="{} multiprocessors".format)
@pytest.mark.parametrize(
    ("shape", "filters", "seen"),
    [
        ((1, 5, 11, 14), 17, window(3, 1)),
        ((3, 4, 9, 9), 40, window(3, 1)),
        ((12, 3, 8, 9), 7, window(3)),
        ((13, 1, 12, 13), 33, window(5, padding=2, strides=2)),
    ],
    ids=str,
)
def test_pooling_in_the_same_kernel_has_the_bits_of_pooling_after_it(
    monkeypatch, device, host, launched, precision, multiprocessors, shape, filters, seen
):
    monkeypatch.setattr("xpcnn.ops.cuda.compiler.count_multiprocessors", lambda xp, device: multiprocessors)
    xp, (x, weight, bias, _) = in_precision(device, precision), drawn(shape, filters, seen)
    x[0] = 0  # equal cells
    x[-1, -1, 4, 4] = np.nan
    x, weight, bias = to_batch_last(xp.asarray(x), Workspace(xp)), xp.asarray(weight), xp.asarray(bias)
    size = SQUARES.output_size(*seen.output_size(*shape[2:]))
    options = {"groups": 1, "training": True}
    whole, _ = correlation.correlate(
        xp, x, weight, None, seen, Workspace(xp), activation="linear", pooled=None, stored=x.dtype, **options
    )
    in_parts = "finish_product" in launched
    for stored in (x.dtype, STORED.get(precision, x.dtype)):
        after = pooled(
            xp, whole, bias, SQUARES, Workspace(xp), largest=True, activation="relu6", training=True, stored=stored
        )
        launched.clear()
        within = correlation.correlate(
            xp, x, weight, bias, seen, Workspace(xp), activation="relu6", pooled=size, stored=stored, **options
        )
        assert launched == ["tensor_product", *(["finish_pooled_product"] if in_parts else [])]
        assert within[0].dtype == stored
        for result, right in zip(within, after, strict=True):
            np.testing.assert_array_equal(host(result), host(right))
    assert np.isnan(host(whole)).any()


@settings(max_examples=15)
@WITH_KERNELS
@given(
    precision=st.sampled_from(precisions.NAMES),
    n=st.sampled_from([1, 3, 4, 9]),
    channels=st.integers(1, 5),
    filters=st.sampled_from([1, 7, 17, 40]),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
)
def test_any_geometry_is_computed(device, host, precision, n, channels, filters, kernel, strides, dilation, padding):
    seen = Window(kernel, strides, ((padding[0], 0), (padding[1], padding[0])), dilation)
    check_convolution(device, host, precision, drawn((n, channels, 9, 8), filters, seen), seen)


@WITH_KERNELS
@IN_EACH
@pytest.mark.parametrize("case", cases.load("convolution"), ids=str)
def test_convolutions_are_pytorchs_to_within_the_rounding(device, precision, case):
    names = [name for name in ("weight", "bias") if name in case.arrays]
    x, dy, values = (
        case.x.astype(np.float32), case.dy.astype(np.float32),
        {name: case.arrays[name].astype(np.float32) for name in names},
    )  # fmt: skip
    ours = run(of_case(case), in_precision(device, precision), x, dy, values)
    sizes = {name: precisions.magnitude(case.arrays[name], precision) for name in ("x", "dy", *names)}
    magnitudes = run(of_case(case), np, sizes["x"], sizes["dy"], {name: sizes[name] for name in names})
    precisions.assert_close(ours.y, case.y, magnitudes.y, precision)
    precisions.assert_close(ours.dx, case.dx, magnitudes.dx, precision)
    for name in names:
        precisions.assert_close(ours.gradients[name], case.arrays[f"d{name}"], magnitudes.gradients[name], precision)


@WITH_KERNELS
@IN_EACH
def test_dense_layers_are_numpys_to_within_the_rounding(device, precision):
    rng = np.random.default_rng(0)
    x, dy = rng.normal(size=(33, 50)), rng.normal(size=(33, 10))
    values = {"weight": rng.normal(size=(10, 50)), "bias": rng.normal(size=10)}
    single = {name: value.astype(np.float32) for name, value in values.items()}
    ours = run(layers.Dense(10), in_precision(device, precision), x.astype(np.float32), dy.astype(np.float32), single)
    right = run(layers.Dense(10), np, x, dy, values)
    sizes = [precisions.magnitude(array, precision) for array in (x, dy, *values.values())]
    magnitudes = run(layers.Dense(10), np, *sizes[:2], dict(zip(values, sizes[2:], strict=True)))
    precisions.assert_close(ours.y, right.y, magnitudes.y, precision)
    precisions.assert_close(ours.dx, right.dx, magnitudes.dx, precision)
    for name, gradient in ours.gradients.items():
        precisions.assert_close(gradient, right.gradients[name], magnitudes.gradients[name], precision)
    assert np.abs(ours.y - right.y).max() > precisions.SUMS * magnitudes.y.max(), "operands are rounded"


@WITH_KERNELS
def test_groups_and_double_precision_stay_what_they_are(device, host, launched):
    seen = window(3, 1)
    for groups, dtype in ((2, np.float32), (1, np.float64)):
        arrays = drawn((4, 4, 6, 5), 8, seen, groups=groups)
        as_ever = results(convolution, device, host, *arrays, seen, groups=groups, dtype=dtype)
        ours = results(convolution, in_precision(device, "tf32"), host, *arrays, seen, groups=groups, dtype=dtype)
        for result, other in zip(ours, as_ever, strict=True):
            np.testing.assert_array_equal(result, other)
    assert "tensor_product" not in launched


@WITH_KERNELS
def test_a_long_depth_is_cut_into_parts_whose_sums_are_added_in_order(device, host, launched):
    arrays = drawn((4, 2, 9, 9), 8, window(3, 1))
    first, second = (results(convolution, in_precision(device, "tf32"), host, *arrays, window(3, 1)) for _ in range(2))
    for result, again in zip(first, second, strict=True):
        np.testing.assert_array_equal(result, again)
    assert "finish_product" in launched


@WITH_KERNELS
@IN_EACH
def test_what_is_not_a_number_stays_so(device, host, precision):
    xp = in_precision(device, precision)
    a, b = xp.asarray([[np.nan, 1.0]], dtype=np.float32), xp.asarray([[0.0], [1.0]], dtype=np.float32)
    y = xp.empty((1, 1), dtype=np.float32)
    product(xp, a, b, y, activation="relu")
    assert np.isnan(host(y)).all()


@pytest.mark.parametrize("rows", tensor_products.CUTS)
def test_warps_divide_every_tile(rows):
    cut = tensor_products.CUTS[rows]
    warps = tensor_products.THREADS // 32
    assert 16 * cut["EACH_DOWN"] * cut["WARPS_DOWN"] == rows
    assert 8 * cut["EACH_RIGHT"] * warps // cut["WARPS_DOWN"] == tensor_products.COLUMNS


@pytest.mark.parametrize(
    ("rows", "tile", "pooled_tile"), [(1, 16, 32), (16, 16, 32), (17, 32, 32), (33, 64, 64), (99, 64, 64)]
)
def test_a_product_has_the_smallest_tile_that_holds_its_rows_and_windows(rows, tile, pooled_tile):
    assert tensor_products.cut_of(rows, pooled=False) is tensor_products.CUTS[tile]
    assert tensor_products.cut_of(rows, pooled=True) is tensor_products.CUTS[pooled_tile]
