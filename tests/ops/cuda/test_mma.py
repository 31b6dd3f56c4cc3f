"""The instruction of tensor cores: which lane holds which element, and how operands are rounded."""

from pathlib import Path

import numpy as np
import pytest

from tests import precisions
from xpcnn.ops.cuda import compiler, tensor_products
from xpcnn.precision import in_precision

WITH_KERNELS = pytest.mark.parametrize("device", ["kernels", "cupy"], indirect=True)
IN_EACH = pytest.mark.parametrize("precision", precisions.NAMES)
MMA = Path(compiler.__file__).with_name("mma.cuh").read_text(encoding="utf-8")
#: Each lane is given its values, and returns the words made of them and its sums.
SOURCE = """
extern "C" __global__ void one(const REAL *a, const REAL *b, const REAL *before, REAL *after) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    a += (warp * 32 + lane) * 4 * PACKED, b += (warp * 32 + lane) * 2 * PACKED;
    unsigned a_words[4], b_words[2];
    float sums[4];
    for (int i = 0; i < 4; i++) {
        a_words[i] = pack(a[i * PACKED], a[(i + 1) * PACKED - 1]);
        sums[i] = before[(warp * 32 + lane) * 4 + i];
    }
    for (int i = 0; i < 2; i++) b_words[i] = pack(b[i * PACKED], b[(i + 1) * PACKED - 1]);
    for (int times = 0; times < 3; times++) mma(sums, a_words, b_words);
    for (int i = 0; i < 4; i++) after[(warp * 32 + lane) * 4 + i] = sums[i];
}
"""


def compiled(device, source, precision):
    """Return the module of a source that uses the instruction."""
    options = ("--std=c++17", "-DREAL=float", f"-D{precision.upper()}=1")
    return device.RawModule(code=MMA + source, options=options)


def elements_of_a(lane, precision):
    """The rows and depths of a lane's values of a, in order ("PTX ISA", m16n8k8 of .tf32, m16n8k16 of the others)."""
    group, thread = lane >> 2, lane % 4
    if precision == "tf32":
        return [(group + (8 if i in (1, 3) else 0), thread + (4 if i >= 2 else 0)) for i in range(4)]
    return [
        (group if 0 <= i < 2 or 4 <= i < 6 else group + 8, thread * 2 + (i & 1) + (8 if i >= 4 else 0))
        for i in range(8)
    ]


def elements_of_b(lane, precision):
    """The depths and columns of a lane's values of b."""
    group, thread = lane >> 2, lane % 4
    if precision == "tf32":
        return [(thread + 4 * i, group) for i in range(2)]
    return [(thread * 2 + (i & 1) + (8 if i >= 2 else 0), group) for i in range(4)]


def elements_of_sums(lane):
    """The rows and columns of a lane's sums."""
    group, thread = lane >> 2, lane % 4
    return [(group if i < 2 else group + 8, thread * 2 + (i & 1)) for i in range(4)]


@WITH_KERNELS
@IN_EACH
def test_every_lane_adds_its_part_of_the_product_of_rounded_operands(device, host, precision):
    warps, depth, rng = 3, 8 if precision == "tf32" else 16, np.random.default_rng(0)
    a = rng.normal(size=(warps, 16, depth)).astype(np.float32)
    b = rng.normal(size=(warps, depth, 8)).astype(np.float32)
    before = rng.normal(size=(warps, 16, 8)).astype(np.float32)

    def by_lane(matrices, elements):
        return device.asarray(
            np.array([[[one[at] for at in elements(lane)] for lane in range(32)] for one in matrices], np.float32)
        )

    after = device.full((warps, 32, 4), np.nan, dtype=np.float32)
    compiled(device, SOURCE, precision).get_function("one")(
        (1,), (32 * warps,),
        (
            by_lane(a, lambda lane: elements_of_a(lane, precision)),
            by_lane(b, lambda lane: elements_of_b(lane, precision)),
            by_lane(before, elements_of_sums), after,
        ),
    )  # fmt: skip
    expected = before + 3 * (precisions.rounded(a, precision) @ precisions.rounded(b, precision))
    expected = [[[one[at] for at in elements_of_sums(lane)] for lane in range(32)] for one in expected]
    np.testing.assert_allclose(host(after), expected, rtol=1e-5, atol=1e-5)


def nearest(device, host, values, precision):
    """Return what operands are rounded to, by the bits of the first value of a word."""
    source = 'extern "C" __global__ void nearest(const REAL *x, unsigned *y) {\n'
    source += "    y[threadIdx.x] = pack(x[threadIdx.x], x[threadIdx.x]);\n}\n"
    words = device.zeros(len(values), dtype=np.uint32)
    compiled(device, source, precision).get_function("nearest")((1,), (len(values),), (device.asarray(values), words))
    words = host(words)
    if precision == "float16":
        return (words & 0xFFFF).astype(np.uint16).view(np.float16).astype(np.float32)
    return (words << np.uint32(16) if precision == "bfloat16" else words).view(np.float32)


@WITH_KERNELS
@IN_EACH
def test_operands_are_rounded_to_the_nearest(device, host, precision):
    """Just below, at and just above the middle of two neighbours, of either sign; and what is not a number."""
    step = 2.0 ** (1 - precisions.BITS[precision])
    near = [1 + count * step + off for count in range(3) for off in (step / 2 - 2**-23, step / 2, step / 2 + 2**-23)]
    values = np.array([*near, *(-one for one in near), 0, np.inf, -np.inf, np.nan], np.float32)
    even = np.isin(values, [1 + 2.5 * step, 1 + 0.5 * step, -1 - 2.5 * step, -1 - 0.5 * step])
    expected = np.round(values / step) * step  # to the nearest, ties to the even one
    expected[even] += (step * np.sign(values[even])) if precision == "tf32" else 0
    expected[-4:] = values[-4:]
    found = nearest(device, host, values, precision)
    np.testing.assert_allclose(found, expected, rtol=0, atol=0)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(values))


@WITH_KERNELS
def test_float16_ends_at_65504_and_has_ever_fewer_bits_below_2_to_minus_14(device, host):
    """IEEE 754's binary16: from halfway to the next power of 2 on it is infinite, and up to half of 2^-24 it is 0."""
    tiny, before = 2.0**-24, np.nextafter(np.float32(65520), np.float32(0))
    pairs = {
        65504: 65504, before: 65504, 65520: np.inf, 1e30: np.inf, 2.0**-14: 2.0**-14, 2.0**-14 - tiny: 2.0**-14 - tiny,
        2.0**-14 - tiny / 2: 2.0**-14, 3 * tiny: 3 * tiny, 2.5 * tiny: 2 * tiny, 1.5 * tiny: 2 * tiny,
        0.51 * tiny: tiny, 0.5 * tiny: 0, 1e-40: 0,
    }  # fmt: skip
    for sign in (1, -1):
        values = np.array([*pairs], np.float32) * np.float32(sign)
        np.testing.assert_array_equal(nearest(device, host, values, "float16"), np.array([*pairs.values()]) * sign)


@WITH_KERNELS
def test_float16_computes_with_its_smallest_and_infinite_values(device, host):
    def product(a, b):
        y = device.zeros((1, 1), dtype=np.float32)
        tensor_products.product(
            in_precision(device, "float16"), *(device.asarray([[one]], dtype=np.float32) for one in (a, b)), y,
            None, "linear", None,
        )  # fmt: skip
        return host(y).item()

    assert product(3 * 2.0**-24, 1024) == 3 * 2.0**-14
    assert product(2.0**-24, 2.0**-24) == 2.0**-48
    assert product(65520, -2) == -np.inf
    assert np.isnan(product(65520, 0))
    assert product(65504, 65504) == 65504**2, "sums are float32"
