"""One flat array for all parameters: where each is, and which slices an optimiser updates."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xpcnn import initializers
from xpcnn.parameters import ALIGNMENT, Declaration, Layout, check_values

SHAPES = st.lists(st.integers(1, 9), max_size=4).map(tuple)


def declare(full_name, *shape, decays=False):
    layer, _, name = full_name.partition(".")
    return Declaration(layer, name, shape, initializers.Zeros(), decays)


def a_layout():
    """The layout of two layers with weights, and between them one without decay."""
    return Layout(
        [
            declare("a.weight", 5, 4, decays=True),
            declare("a.bias", 5),
            declare("n.weight", 5),
            declare("n.bias", 5),
            declare("b.weight", 3, 3, decays=True),
            declare("b.bias", 3),
        ]
    )


@st.composite
def layouts(draw):
    arrays = draw(st.lists(st.tuples(SHAPES, st.booleans()), max_size=8))
    return Layout(declare(f"l{i // 2}.p{i}", *shape, decays=decays) for i, (shape, decays) in enumerate(arrays))


@given(layout=layouts())
def test_each_array_has_its_own_cells_from_a_multiple_of_64_bytes_on(layout):
    taken = np.zeros(layout.size, int)
    for declaration in layout.declarations:
        span = layout.span(declaration)
        assert span.start * 4 % 64 == 0
        assert span.stop - span.start == declaration.size == np.prod(declaration.shape)
        taken[span] += 1
    assert taken.max(initial=0) <= 1
    assert layout.size % ALIGNMENT == 0
    assert layout.size - taken.sum() < ALIGNMENT * max(1, len(layout.declarations))


@given(layout=layouts())
def test_arrays_with_weight_decay_lie_before_all_others(layout):
    decaying = [layout.span(d).stop for d in layout.declarations if d.decays]
    others = [layout.span(d).start for d in layout.declarations if not d.decays]
    assert max(decaying, default=0) <= min(others, default=layout.size)


@given(layout=layouts(), data=st.data())
def test_segments_cover_what_is_not_frozen_and_keep_decay_apart(layout, data):
    names = sorted({d.layer for d in layout.declarations})
    frozen = data.draw(st.sets(st.sampled_from(names)) if names else st.just(set()))
    covered = {}
    for cells, decays, rate in layout.segments(frozen):
        assert rate == 1
        for cell in range(cells.start, cells.stop):
            assert cell not in covered
            covered[cell] = decays
    for declaration in layout.declarations:
        cells = range(layout.span(declaration).start, layout.span(declaration).stop)
        expected = None if declaration.layer in frozen else declaration.decays
        assert {covered.get(cell) for cell in cells} == {expected}


def test_segments_are_as_few_as_can_be():
    layout = a_layout()
    assert layout.segments() == [(slice(0, 32 + 9), True, 1), (slice(48, 48 + 3 * 16 + 3), False, 1)]
    assert layout.segments({"n"}) == [(slice(0, 41), True, 1), (slice(48, 53), False, 1), (slice(96, 99), False, 1)]
    assert layout.segments({"a", "n"}) == [(slice(32, 41), True, 1), (slice(96, 99), False, 1)]
    assert layout.segments({"n"}, {"a": 0.5}) == [
        (slice(0, 20), True, 0.5),
        (slice(32, 41), True, 1),
        (slice(48, 53), False, 0.5),
        (slice(96, 99), False, 1),
    ]
    assert layout.segments({"a", "n", "b"}) == Layout([]).segments() == []


def test_views_are_named_in_order_of_declaration_and_write_through(xp, host):
    layout = a_layout()
    flat = xp.zeros(layout.size, dtype=np.float32)
    views = layout.views(flat)
    assert [*views] == ["a.weight", "a.bias", "n.weight", "n.bias", "b.weight", "b.bias"]
    for number, (name, declaration) in enumerate(zip(views, layout.declarations, strict=True), start=1):
        assert views[name].shape == declaration.shape
        views[name][...] = number
    for number, declaration in enumerate(layout.declarations, start=1):
        assert set(host(flat)[layout.span(declaration)].tolist()) == {number}
    flat[layout.span(layout.declarations[1])] = 9
    assert host(layout.layer_views(flat)["a"]["bias"]).tolist() == [9] * 5


def test_views_by_layer_hold_the_same_arrays():
    layout = a_layout()
    flat = np.arange(layout.size, dtype=np.float32)
    by_layer = layout.layer_views(flat)
    assert [*by_layer] == ["a", "n", "b"]
    for declaration in layout.declarations:
        view = by_layer[declaration.layer][declaration.name]
        assert np.shares_memory(view, flat)
        np.testing.assert_array_equal(view, layout.views(flat)[declaration.full_name])


@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 4)])
def test_a_declarations_size_and_name(shape):
    declaration = declare("conv2d_1.weight", *shape)
    assert declaration.size == np.prod(shape)
    assert declaration.full_name == "conv2d_1.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"a.bias": np.zeros(6)}, r"'a.bias': expected shape \(5,\). Received: shape \(6,\)"),
        ({"c.bias": np.zeros(5)}, r"'c.bias': expected no such array. Received: shape \(5,\)"),
        ({"n.bias": None}, r"'n.bias': expected shape \(5,\). Received: nothing"),
    ],
)
def test_values_are_exactly_the_arrays_that_are_declared(change, message):
    declarations = a_layout().declarations
    values = {declaration.full_name: np.zeros(declaration.shape) for declaration in declarations}
    check_values(values, declarations)
    others = {name: value for name, value in {**values, **change}.items() if value is not None}
    with pytest.raises(ValueError, match=message):
        check_values(others, declarations)
