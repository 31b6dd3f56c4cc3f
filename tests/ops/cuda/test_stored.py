"""Images stored in 16 bits: how they are rounded, and what each kernel that takes them computes of them."""

from pathlib import Path

import numpy as np
import pytest

from tests import cases, precisions
from tests.layers.test_activation import CLASSES
from tests.layers.test_convolution import of_case
from tests.layers.test_pooling import GLOBAL_POOLS, POOLS
from tests.passes import draw, run
from xpcnn import layers
from xpcnn.ops.cuda import compiler
from xpcnn.ops.merging import add
from xpcnn.ops.window import Window
from xpcnn.ops.workspace import Workspace
from xpcnn.precision import STORED, in_precision, stored_dtype

WITH_KERNELS = pytest.mark.parametrize("device", ["kernels", "cupy"], indirect=True)
IN_EACH = pytest.mark.parametrize("precision", precisions.OF_16_BITS)
HEADER = Path(compiler.__file__).with_name("stored.cuh").read_text(encoding="utf-8")
SOURCE = """
extern "C" __global__ void stores(const REAL *x, IMAGE *y) { y[threadIdx.x] = x[threadIdx.x]; }
extern "C" __global__ void loads(const IMAGE *x, REAL *y) {
    const int i = blockIdx.x * 256 + threadIdx.x;
    y[i] = x[i];
}
"""
SQUARES, OVERLAPPING = Window((2, 2), (2, 2)), Window((3, 3), (2, 2), ((1, 0), (0, 1)))


def compiled(device, precision, name):
    options = ("--std=c++17", "-DREAL=float", f"-DIMAGE={precision.capitalize()}")
    return device.RawModule(code=HEADER + SOURCE, options=options).get_function(name)


@WITH_KERNELS
@IN_EACH
def test_what_is_written_is_the_nearest_and_what_is_not_a_number_stays_so(device, host, precision):
    rng = np.random.default_rng(0)
    near = 1 + np.arange(20) * 2.0 ** -(precisions.BITS[precision] + 1)  # quarters of a step
    tiny = np.arange(1, 20) * 2.0**-26
    values = [
        *rng.normal(size=100),
        *near,
        *-near,
        *tiny,
        *-tiny,
        65519.0,
        65520.0,
        -1e30,
        0.0,
        np.inf,
        -np.inf,
        np.nan,
    ]
    values, written = np.array(values, np.float32), device.zeros(len(values), dtype=STORED[precision])
    compiled(device, precision, "stores")((1,), (len(values),), (device.asarray(values), written))
    found = precisions.loaded(host(written), precision)
    np.testing.assert_array_equal(found, precisions.rounded(values, precision))
    np.testing.assert_array_equal(np.signbit(found[:-1]), np.signbit(values[:-1]))


@WITH_KERNELS
@IN_EACH
def test_every_number_of_16_bits_is_read_as_it_is(device, host, precision):
    bits = np.arange(2**16, dtype=np.uint16).view(STORED[precision])
    read = device.zeros(2**16, dtype=np.float32)
    compiled(device, precision, "loads")((256,), (256,), (device.asarray(bits), read))
    np.testing.assert_array_equal(host(read), precisions.loaded(bits, precision))


def check(device, precision, layer, x, dy, values=None, options=None, kept=0.0, **context):
    """Assert that a layer computes what NumPy does of the rounded operands, and rounds what it stores."""
    xp, values = in_precision(device, precision), draw(layer, x.shape[1:]) if values is None else values
    single = {name: value.astype(np.float32) for name, value in values.items()}
    stored = {"stored": STORED[precision]} if layer.on_tensor_cores else {}
    images = [precisions.stored(array, precision) for array in (x, dy)]
    ours = run(layer, xp, *images, single, {**(options or {}), **stored}, **context)
    assert ours.y.dtype == ours.dx.dtype == STORED[precision]
    if "weight" in values and layer.on_tensor_cores:
        values = {**values, "weight": precisions.rounded(values["weight"], precision)}
    exact_images = [precisions.rounded(array, precision) for array in (x, dy)]
    right = run(layer, np, *exact_images, values, options, **context)
    precisions.assert_rounded_once(ours.y, right.y, precision)
    precisions.assert_rounded_once(ours.dx, right.dx, precision, kept * np.abs(exact_images[1]).max())
    for name, gradient in ours.gradients.items():
        assert gradient.dtype == np.float32
        exact = right.gradients[name]
        np.testing.assert_allclose(gradient, exact, rtol=1e-4, atol=10 * precisions.SUMS * np.abs(exact).max())
    for name, value in ours.buffers.items():
        np.testing.assert_allclose(value, right.buffers[name], rtol=1e-4, atol=precisions.SUMS, err_msg=name)


@WITH_KERNELS
@IN_EACH
@pytest.mark.parametrize("case", [c for c in cases.load("convolution") if c.geometry["groups"] == 1], ids=str)
def test_convolutions(device, precision, case):
    layer = of_case(case)
    if layer.padding_mode == "zeros":
        values = {name: case.arrays[name] for name in ("weight", "bias") if name in case.arrays}
        check(device, precision, layer, case.x, case.dy, values)


# With fours of images that are read at once, and without.
@WITH_KERNELS
@IN_EACH
@pytest.mark.parametrize("n", [5, 8])
@pytest.mark.parametrize(
    "options",
    [
        {"fused_activation": "relu"}, {"fused_activation": "relu6"}, {"pool": SQUARES, "fused_activation": "relu"},
        {"pool": Window((3, 3), (3, 3))}, {"pool": SQUARES, "fused_activation": "relu6"},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("size", [1, 3])
def test_convolutions_with_what_follows_them(device, precision, n, options, size):
    rng, layer = np.random.default_rng(0), layers.Conv2D(20, size)
    layer.connect((6, 9, 8))
    x = rng.normal(size=(n, 6, 9, 8))
    y = run(layer, np, x, options=options).y
    dy = rng.normal(size=y.shape) * (np.abs(y - 6) > 0.5)  # what rounds to 6 counts as clipped
    check(device, precision, layer, x, dy, options=options)


@WITH_KERNELS
@IN_EACH
@pytest.mark.parametrize("options", [{}, {"relu": True}], ids=str)
def test_dense_layers(device, precision, options):
    rng = np.random.default_rng(0)
    check(device, precision, layers.Dense(10), rng.normal(size=(33, 50)), rng.normal(size=(33, 10)), options=options)


@WITH_KERNELS
@IN_EACH
@pytest.mark.parametrize("case", [c for c in cases.load("pooling") if c.geometry["kind"] != "average"], ids=str)
def test_pooling(device, precision, case):
    layer = POOLS[case.geometry["kind"]](*(case.geometry[name] for name in ("pool_size", "strides", "padding")))
    check(device, precision, layer, case.x, case.dy)


@WITH_KERNELS
@IN_EACH
@pytest.mark.parametrize("case", [c for c in cases.load("global_pooling") if c.geometry["kind"] != "max"], ids=str)
def test_global_average_pooling(device, precision, case):
    check(device, precision, GLOBAL_POOLS[case.geometry["kind"]](), case.x, case.dy)


@WITH_KERNELS
@IN_EACH
@pytest.mark.parametrize("case", cases.load("batch_normalization"), ids=str)
def test_batch_normalization(device, precision, case):
    layer = layers.BatchNorm(case.geometry["momentum"], case.geometry["epsilon"])
    values = {name: case.arrays[name] for name in ("weight", "bias", "running_mean", "running_var")}
    check(device, precision, layer, case.x, case.dy, values, training=case.geometry["training"], backward=True)


@WITH_KERNELS
@IN_EACH
@pytest.mark.parametrize("pool", [SQUARES, OVERLAPPING], ids=["squares", "overlapping"])
def test_batch_normalization_with_what_follows_it(device, precision, pool):
    rng, layer = np.random.default_rng(0), layers.BatchNorm()
    x, options = rng.normal(size=(40, 3, 24, 16)), {"pool": pool, "relu": True}
    dy = rng.normal(size=(40, 3, *pool.output_size(24, 16)))
    check(device, precision, layer, x, dy, options=options)


@WITH_KERNELS
@IN_EACH
@pytest.mark.parametrize(
    "case", [c for c in cases.load("activations") if c.geometry["activation"] != "softmax"], ids=str
)
def test_activations(device, precision, case):
    check(device, precision, CLASSES[case.geometry["activation"]](), case.x, case.dy, kept=2)


@WITH_KERNELS
@IN_EACH
def test_dropout(device, precision):
    rng = np.random.default_rng(0)
    check(device, precision, layers.Dropout(0.3), rng.normal(size=(6, 20)), rng.normal(size=(6, 20)), seed=3)


@WITH_KERNELS
@IN_EACH
def test_sums(device, host, precision):
    rng, xp = np.random.default_rng(0), in_precision(device, precision)
    two = [rng.normal(size=(5, 3, 4, 4)) for _ in range(2)]
    y, _ = add(xp, [xp.asarray(precisions.stored(x, precision)) for x in two], Workspace(xp))
    precisions.assert_rounded_once(host(y), sum(precisions.rounded(x, precision) for x in two), precision)


@WITH_KERNELS
@IN_EACH
def test_a_kernel_of_other_arrays_refuses_them(device, precision):
    xp, stored = in_precision(device, precision), STORED[precision]
    with pytest.raises(TypeError, match=rf"adam\.cu takes no images that are stored as {stored}"):
        compiler.kernel(xp, "adam", "adam", stored)
    images, single = xp.zeros(4, dtype=stored), xp.zeros(4, dtype=np.float32)
    with pytest.raises(TypeError, match=f"kernel add was compiled for other arrays than of {stored}"):
        compiler.kernel(xp, "merging", "add", np.float32).for_each(4, single, images, single, np.uint64(4))


def test_only_kernels_store_in_16_bits(device):
    kernels = hasattr(device, "RawModule")
    for precision, dtype in {"float32": None, "tf32": None, **STORED}.items():
        assert stored_dtype(in_precision(device, precision)) == (dtype if kernels else None)
    assert stored_dtype(np) is None
