"""Dense against textbook loops and central differences."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import reference
from tests.passes import check_against, check_dtypes, check_gradients, distinct, draw, run
from xpcnn.layers import Activation, Dense


@settings(max_examples=20)
@given(n=st.integers(1, 4), features=st.integers(1, 6), units=st.integers(1, 5), use_bias=st.booleans())
def test_output_and_gradients_are_those_of_the_textbooks_loops(xp, n, features, units, use_bias):
    layer = Dense(units, use_bias=use_bias)
    x, dy = distinct(n, features), distinct(n, units, seed=1)
    values = draw(layer, (features,))
    assert layer.output_shape == (units,)
    dx, dweight, dbias = reference.dense_gradients(dy, x, values["weight"])
    gradients = {"weight": dweight, "bias": dbias} if use_bias else {"weight": dweight}
    y = reference.dense(x, values["weight"], values.get("bias"))
    check_against(run(layer, xp, x, dy, values), y, dx, **gradients)


@pytest.mark.parametrize("use_bias", [True, False])
def test_gradients_are_numerical_ones(xp, use_bias):
    check_gradients(Dense(3, use_bias=use_bias), xp, distinct(4, 5))


@pytest.mark.parametrize("use_bias", [True, False])
def test_dtypes_are_kept(xp, use_bias):
    check_dtypes(Dense(4, use_bias=use_bias), xp, (6,))


def test_without_need_for_it_no_input_gradient_is_computed(xp):
    x, dy, layer = distinct(3, 4), distinct(3, 2), Dense(2)
    wanted = run(layer, xp, x, dy)
    spared = run(layer, xp, x, dy, options={"input_gradient": False})
    assert spared.dx is None
    np.testing.assert_array_equal(spared.gradients["weight"], wanted.gradients["weight"])
    np.testing.assert_array_equal(spared.gradients["bias"], wanted.gradients["bias"])


def test_weight_decays_and_bias_does_not():
    layer = Dense(3)
    layer.connect((5,))
    assert [(d.name, d.shape, d.decays) for d in layer.declarations] == [
        ("weight", (3, 5), True),
        ("bias", (3,), False),
    ]


def test_the_activation_is_a_part_by_name_or_the_layer_given():
    own = Activation("tanh")
    assert [type(layer) for layer in Dense(1, activation="softmax").sublayers()] == [Activation]
    assert [*Dense(1, activation=own).sublayers()] == [own]
    assert [*Dense(1).sublayers()] == [*Dense(1, "linear").sublayers()] == []


def test_input_that_is_not_flat_is_refused_saying_what_would_fit():
    with pytest.raises(ValueError, match=r"Dense 'last': .* Received input shape \(4, 4, 8\)\. Put Flatten\(\) before"):
        Dense(3, name="last").connect((4, 4, 8))


@pytest.mark.parametrize("units", [0, -1, 2.0, True, "8", None])
def test_impossible_units_are_refused(units):
    with pytest.raises(ValueError, match=f"units must be a whole number, at least 1. Received: {units!r}"):
        Dense(units)


def test_units_computed_with_numpy_are_taken():
    labels = np.array([0, 2, 1])
    assert Dense(labels.max() + 1).connect((4,)) == (3,)
