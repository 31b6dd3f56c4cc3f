"""Pooling layers against PyTorch, textbook loops and central differences."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import cases, reference
from tests.passes import check_against, check_dtypes, check_gradients, distinct, run
from xpcnn.layers import (
    AdaptiveAveragePool2D,
    AveragePool2D,
    GlobalAveragePool2D,
    GlobalMaxPool2D,
    MaxPool2D,
    MinPool2D,
)
from xpcnn.ops.window import resolve_padding

POOLS = {"max": MaxPool2D, "min": MinPool2D, "average": AveragePool2D}
GLOBAL_POOLS = {"max": GlobalMaxPool2D, "average": GlobalAveragePool2D}

every_pool = pytest.mark.parametrize("kind", POOLS)
every_global_pool = pytest.mark.parametrize("kind", GLOBAL_POOLS)


@pytest.mark.parametrize("case", cases.load("pooling"), ids=str)
def test_output_and_gradient_are_pytorchs(xp, case):
    layer = POOLS[case.geometry["kind"]](*(case.geometry[name] for name in ("pool_size", "strides", "padding")))
    check_against(run(layer, xp, case.x, case.dy), case.y, case.dx)


@st.composite
def geometries(draw):
    """Draw the arguments of a pool and the size of its input; the window need not fit."""
    sizes = st.tuples(st.integers(1, 4), st.integers(1, 4))
    pool_size = draw(sizes)
    paddings = st.tuples(*(st.integers(0, size - 1) for size in pool_size))
    padding = draw(st.one_of(st.sampled_from(["valid", "same"]), paddings))
    return (pool_size, draw(st.one_of(st.none(), sizes)), padding), (draw(st.integers(1, 8)), draw(st.integers(1, 8)))


@every_pool
@settings(max_examples=30)
@given(geometry=geometries(), data=st.data())
def test_any_geometry_gives_what_the_textbooks_loops_give_or_is_refused(xp, kind, geometry, data):
    arguments, size = geometry
    layer = POOLS[kind](*arguments)
    padding = resolve_padding(layer.padding, layer.pool_size, layer.strides, (1, 1), size)
    outputs = tuple(map(reference.output_size, size, layer.pool_size, layer.strides, padding))
    if min(outputs) < 1:
        with pytest.raises(ValueError, match="window does not fit"):
            layer.connect((2, *size))
        return
    assert layer.connect((2, *size)) == (2, *outputs)
    # Few values, so that many windows hold equal ones.
    rng = np.random.default_rng(data.draw(st.integers(0, 9), label="seed"))
    x = rng.integers(-2, 2, size=(2, 2, *size), endpoint=True).astype(float)
    dy = rng.normal(size=(2, *layer.output_shape))
    check_against(
        run(layer, xp, x, dy),
        reference.pool2d(x, kind, layer.pool_size, layer.strides, padding),
        reference.pool2d_gradient(dy, x, kind, layer.pool_size, layer.strides, padding),
    )


@every_pool
@pytest.mark.parametrize("arguments", [(2,), (3, 1), ((2, 3), (3, 2)), (3, 2, 1), (2, 2, "same")], ids=str)
def test_gradients_are_numerical_ones(xp, kind, arguments):
    check_gradients(POOLS[kind](*arguments), xp, distinct(2, 2, 5, 5))


@every_pool
def test_dtypes_are_kept(xp, kind):
    check_dtypes(POOLS[kind](2, padding=1), xp, (3, 5, 5))


def test_of_equal_cells_the_first_in_row_order_takes_the_gradient(xp):
    dy = np.full((1, 1, 1, 1), 5.0)
    for layer, first in ((MaxPool2D((2, 3)), 1.0), (MinPool2D((2, 3)), -1.0)):
        x = np.array([[[[0.0, 0.0, first], [first, first, 0.0]]]])
        assert run(layer, xp, x, dy).dx.tolist() == [[[[0.0, 0.0, 5.0], [0.0, 0.0, 0.0]]]]


def test_a_cell_that_wins_several_windows_takes_all_their_gradients(xp):
    x = np.zeros((1, 1, 3, 3))
    x[0, 0, 1, 1] = 1.0
    dx = run(MaxPool2D(2, 1), xp, x, np.array([[[[1.0, 2.0], [4.0, 8.0]]]])).dx
    assert dx[0, 0].tolist() == [[0, 0, 0], [0, 15, 0], [0, 0, 0]]


def test_the_border_never_wins_nor_counts(xp):
    ones = np.ones((1, 1, 2, 2))
    for layer, x in ((MaxPool2D(2, padding=1), -ones), (MinPool2D(2, padding=1), ones), (AveragePool2D(2, 2, 1), ones)):
        result = run(layer, xp, x, ones)
        np.testing.assert_array_equal(result.y, x)
        np.testing.assert_array_equal(result.dx, ones)


@every_pool
def test_a_ragged_edge_is_left_out(xp, kind):
    x = distinct(1, 1, 5, 7)
    result = run(POOLS[kind](3), xp, x, np.ones((1, 1, 1, 2)))
    np.testing.assert_array_equal(result.y, run(POOLS[kind](3), xp, x[:, :, :3, :6]).y)
    assert not result.dx[:, :, 3:].any()
    assert not result.dx[:, :, :, 6:].any()


@every_pool
def test_the_stride_defaults_to_the_size(kind):
    assert POOLS[kind]((2, 3)).strides == (2, 3)
    assert POOLS[kind]().connect((4, 6, 7)) == (4, 3, 3)


@every_pool
def test_prediction_gives_the_same_as_training(xp, kind):
    x = distinct(2, 3, 5, 5)
    layer = POOLS[kind](3, 2, 1)
    np.testing.assert_array_equal(run(layer, xp, x, training=False).y, run(layer, xp, x).y)


@pytest.mark.parametrize("layer", [MaxPool2D(2), MinPool2D(2)], ids=repr)
def test_prediction_keeps_nothing_for_backward(xp, layer):
    with pytest.raises(RuntimeError, match="without training=True"):
        run(layer, xp, distinct(1, 1, 4, 4), np.ones((1, 1, 2, 2)), training=False)


@every_pool
def test_windows_that_do_not_fit_are_refused_saying_what_would(kind):
    layer = POOLS[kind]((2, 5))
    name = f"{type(layer).__name__} '{layer.kind()}'"
    with pytest.raises(ValueError, match=f"{name}: a 2x5 window does not fit the 4x4 input") as error:
        layer.connect((8, 4, 4))
    assert 'Received input shape (8, 4, 4). Use padding="same", a smaller window' in str(error.value)
    with pytest.raises(ValueError, match=r"takes images.* Received input shape \(8,\)\. Put it before Flatten"):
        layer.connect((8,))


@every_pool
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0,), "pool_size must be a whole number, at least 1. Received: 0"),
        ((2, (1, 2.0)), "strides .* Received: 2.0"),
        ((2, None, 2), r"padding must be smaller than the window.* padding=2 with pool_size=\(2, 2\)"),
        (((3, 2), None, (2, 2)), r"Received: padding=\(2, 2\) with pool_size=\(3, 2\)"),
        ((2, None, "full"), "Received: 'full'"),
    ],
)
def test_impossible_arguments_are_refused(kind, arguments, message):
    with pytest.raises(ValueError, match=message):
        POOLS[kind](*arguments)


@pytest.mark.parametrize("case", cases.load("global_pooling"), ids=str)
def test_global_output_and_gradient_are_pytorchs(xp, case):
    check_against(run(GLOBAL_POOLS[case.geometry["kind"]](), xp, case.x, case.dy), case.y, case.dx)


@every_global_pool
def test_a_global_pool_is_a_pool_of_the_whole_image(xp, kind):
    x, dy = distinct(2, 3, 4, 5), distinct(2, 3)
    whole = run(POOLS[kind]((4, 5)), xp, x, dy[:, :, None, None])
    result = run(GLOBAL_POOLS[kind](), xp, x, dy)
    assert result.y.shape == (2, 3)
    check_against(result, whole.y[:, :, 0, 0], whole.dx)


@every_global_pool
def test_global_gradients_are_numerical_ones(xp, kind):
    check_gradients(GLOBAL_POOLS[kind](), xp, distinct(3, 2, 3, 4))


@every_global_pool
def test_global_dtypes_are_kept(xp, kind):
    check_dtypes(GLOBAL_POOLS[kind](), xp, (4, 3, 3))


@every_global_pool
def test_global_pools_take_images_only(kind):
    layer = GLOBAL_POOLS[kind]()
    assert layer.connect((6, 3, 1)) == (6,)
    with pytest.raises(ValueError, match=rf"{type(layer).__name__} .* Received input shape \(6,\)"):
        layer.connect((6,))


@pytest.mark.parametrize("size", [1, (2, 3), (5, 4), (7, 6)])
def test_adaptive_windows_cover_the_image_and_overlap_where_they_must(xp, size):
    x = distinct(2, 3, 5, 4)
    layer = AdaptiveAveragePool2D(size)
    rows, columns = layer.output_size
    tops, lefts = ([(i * n // m, -(-(i + 1) * n // m)) for i in range(m)] for n, m in ((5, rows), (4, columns)))
    expected = np.array([[x[:, :, a:b, c:d].mean((2, 3)) for c, d in lefts] for a, b in tops])
    np.testing.assert_allclose(run(layer, xp, x).y, expected.transpose(2, 3, 0, 1), rtol=1e-12)
    check_gradients(layer, xp, x)
    check_dtypes(layer, xp, (3, 5, 4))
