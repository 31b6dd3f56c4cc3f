"""Flatten and Reshape: the order of the values, forward and back."""

import numpy as np
import pytest

from tests.passes import check_dtypes, check_gradients, distinct, run
from xpcnn.layers import Context, Flatten, Reshape
from xpcnn.ops.workspace import Workspace

#: Input shape, the shape asked for, the output shape.
SHAPES = [
    ((2, 3, 4), (-1,), (24,)),
    ((2, 3, 4), (4, 3, 2), (4, 3, 2)),
    ((2, 3, 4), (6, -1), (6, 4)),
    ((24,), (2, 3, -1), (2, 3, 4)),
    ((24,), (24,), (24,)),
    ((4, 6), (1, 4, 6), (1, 4, 6)),
]
every_shape = pytest.mark.parametrize(("before", "asked", "after"), SHAPES)


@every_shape
def test_values_keep_their_row_major_order_forward_and_back(xp, before, asked, after):
    layer = Reshape(asked)
    assert layer.connect(before) == after
    x, dy = distinct(3, *before), distinct(3, *after, seed=1)
    result = run(layer, xp, x, dy)
    np.testing.assert_array_equal(result.y, x.reshape(3, *after))
    np.testing.assert_array_equal(result.dx, dy.reshape(3, *before))


@every_shape
def test_gradients_are_numerical_ones_and_dtypes_are_kept(xp, before, asked, after):
    check_gradients(Reshape(asked), xp, distinct(2, *before))
    check_dtypes(Reshape(asked), xp, before)


def test_flatten_reads_channel_then_row_then_column(xp):
    x = np.arange(2 * 3 * 2 * 2.0).reshape(2, 3, 2, 2)
    result = run(Flatten(), xp, x, x.reshape(2, 12))
    assert result.y.tolist() == [[*range(12)], [*range(12, 24)]]
    np.testing.assert_array_equal(result.dx, x)
    assert Flatten().config() == {"name": ""}


def test_flatten_reads_any_layout_in_memory_alike(xp, host):
    x = distinct(2, 3, 4, 5)
    layer = Flatten()
    layer.xp = xp
    layer.connect((3, 4, 5))
    channels_first = xp.asarray(x.transpose(1, 0, 2, 3).copy()).transpose(1, 0, 2, 3)
    y, _ = layer.forward({}, channels_first, Context(Workspace(xp)))
    np.testing.assert_array_equal(host(y), x.reshape(2, 60))


@pytest.mark.parametrize("asked", [(5,), (5, -1), (25,), (2, 3, 5)])
def test_another_number_of_values_is_refused(asked):
    with pytest.raises(
        ValueError,
        match=r"'reshape': 24 values cannot become the shape .* Received input shape \(2, 3, 4\)\. Choose a shape with",
    ):
        Reshape(asked).connect((2, 3, 4))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ((-1, -1), r"at most one -1. Received: \(-1, -1\)"),
        ((0, 4), "A size in a shape must be a whole number, at least 1. Received: 0"),
        ((2.5, 4), "Received: 2.5"),
        ("24", "Received: '24'"),
    ],
)
def test_impossible_shapes_are_refused(asked, message):
    with pytest.raises(ValueError, match=message):
        Reshape(asked)


def test_a_number_stands_for_a_flat_shape():
    assert Reshape(np.int64(24)).connect((2, 3, 4)) == (24,)
