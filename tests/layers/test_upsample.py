"""Upsample2D against PyTorch, textbook loops and central differences."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import cases, reference
from tests.passes import check_against, check_dtypes, check_gradients, distinct, run
from xpcnn.layers import Upsample2D


@pytest.mark.parametrize("case", cases.load("upsampling"), ids=str)
def test_output_and_gradient_are_pytorchs(xp, case):
    check_against(run(Upsample2D(case.geometry["size"]), xp, case.x, case.dy), case.y, case.dx)


@settings(max_examples=15)
@given(size=st.tuples(st.integers(1, 3), st.integers(1, 3)), image=st.tuples(*[st.integers(1, 3)] * 3))
def test_any_size_gives_what_the_textbooks_loops_give(xp, size, image):
    layer = Upsample2D(size)
    assert layer.connect(image) == (image[0], image[1] * size[0], image[2] * size[1])
    x, dy = distinct(2, *image), distinct(2, *layer.output_shape)
    y = reference.upsample2d(x, size)
    check_against(run(layer, xp, x, dy), y, reference.upsample2d_gradient(dy, size))


def test_gradients_are_numerical_ones_and_dtypes_are_kept(xp):
    check_gradients(Upsample2D((2, 3)), xp, distinct(2, 2, 3, 2))
    check_dtypes(Upsample2D(2), xp, (2, 3, 3))


def test_inputs_and_sizes_that_are_impossible_are_refused():
    with pytest.raises(ValueError, match=r"Upsample2D 'upsample2d': it takes images.* Received input shape \(6,\)"):
        Upsample2D().connect((6,))
    with pytest.raises(ValueError, match=r"size must be a whole number, at least 1\. Received: 0"):
        Upsample2D((2, 0))
