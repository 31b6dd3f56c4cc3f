"""Conv2D against PyTorch, textbook loops and central differences."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import cases, reference
from tests.passes import check_against, check_dtypes, check_gradients, distinct, run
from xpcnn import layers
from xpcnn.layers import Conv2D
from xpcnn.ops.window import resolve_padding

GEOMETRY = ("strides", "padding", "padding_mode", "dilation", "groups", "use_bias")

pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


def of_case(case):
    arguments = {name: case.geometry[name] for name in GEOMETRY}
    return Conv2D(len(case.weight), case.weight.shape[2:], **arguments)


@pytest.mark.parametrize("case", cases.load("convolution"), ids=str)
def test_output_and_gradients_are_pytorchs(xp, case):
    names = [name for name in ("weight", "bias") if name in case.arrays]
    result = run(of_case(case), xp, case.x, case.dy, {name: case.arrays[name] for name in names})
    check_against(result, case.y, case.dx, **{name: case.arrays[f"d{name}"] for name in names})


@st.composite
def geometries(draw):
    """Draw a convolution and the shape of its input; the kernel need not fit."""
    groups = draw(st.integers(1, 3))
    padding = draw(
        st.one_of(st.sampled_from(["valid", "same"]), st.integers(0, 3), st.tuples(*[st.integers(0, 3)] * 2))
    )
    layer = Conv2D(
        groups * draw(st.integers(1, 2)),
        draw(pairs),
        draw(pairs),
        padding,
        draw(st.sampled_from(["zeros", "edge"])),
        draw(pairs),
        groups,
        use_bias=draw(st.booleans()),
    )
    return layer, (groups * draw(st.integers(1, 2)), draw(st.integers(1, 7)), draw(st.integers(1, 7)))


def oracle_arguments(layer, height, width):
    padding = resolve_padding(layer.padding, layer.kernel_size, layer.strides, layer.dilation, (height, width))
    return {
        "stride": layer.strides,
        "padding": padding,
        "padding_mode": layer.padding_mode,
        "dilation": layer.dilation,
        "groups": layer.groups,
    }


@settings(max_examples=40)
@given(geometry=geometries())
def test_any_geometry_gives_what_the_textbooks_loops_give_or_is_refused(xp, geometry):
    layer, (channels, height, width) = geometry
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, channels, height, width))
    weight = rng.normal(size=(layer.filters, channels // layer.groups, *layer.kernel_size))
    values = {"weight": weight, "bias": rng.normal(size=layer.filters)}
    arguments = oracle_arguments(layer, height, width)
    sizes = [
        reference.output_size(n, k, s, p, d)
        for n, k, s, p, d in zip(
            (height, width), layer.kernel_size, layer.strides, arguments["padding"], layer.dilation, strict=True
        )
    ]
    if min(sizes) < 1:
        with pytest.raises(ValueError, match="does not fit"):
            layer.connect((channels, height, width))
        return
    assert layer.connect((channels, height, width)) == (layer.filters, *sizes)
    dy = rng.normal(size=(2, *layer.output_shape))
    bias = values["bias"] if layer.use_bias else None
    dx, dweight, dbias = reference.conv2d_gradients(dy, x, weight, **arguments)
    gradients = {"weight": dweight, "bias": dbias} if layer.use_bias else {"weight": dweight}
    check_against(
        run(layer, xp, x, dy, {name: values[name] for name in gradients}),
        reference.conv2d(x, weight, bias, **arguments),
        dx,
        **gradients,
    )


@settings(max_examples=100)
@given(size=st.integers(1, 30), kernel=st.integers(1, 7), stride=st.integers(1, 5), dilation=st.integers(1, 3))
def test_same_padding_gives_an_output_for_each_stride_begun(size, kernel, stride, dilation):
    layer = Conv2D(1, (kernel, 1), (stride, 1), "same", dilation=(dilation, 1))
    assert layer.connect((1, size, 4)) == (1, -(-size // stride), 4)


def test_the_odd_row_and_column_of_same_padding_are_at_the_end(xp):
    x = np.array([[[[1.0, 2.0], [4.0, 8.0]]]])
    result = run(Conv2D(1, 2, padding="same", use_bias=False), xp, x, values={"weight": np.ones((1, 1, 2, 2))})
    assert result.y.tolist() == [[[[15.0, 10.0], [12.0, 8.0]]]]


def test_edge_padding_repeats_the_border(xp):
    x = np.array([[[[1.0, 2.0, 4.0]]]])
    layer = Conv2D(1, (3, 3), padding=1, padding_mode="edge", use_bias=False)
    result = run(layer, xp, x, np.ones((1, 1, 1, 3)), {"weight": np.ones((1, 1, 3, 3))})
    assert result.y.tolist() == [[[[3 * (1 + 1 + 2), 3 * (1 + 2 + 4), 3 * (2 + 4 + 4)]]]]
    assert result.dx.sum() == 27  # every product reads a cell of the image, so none is lost


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (Conv2D(2, 3), (2, 4, 5)),
        (Conv2D(2, (2, 3), (2, 1), (1, 2)), (1, 4, 4)),
        (Conv2D(2, 2, 2, "same", "edge"), (1, 3, 5)),
        (Conv2D(4, 2, dilation=2, groups=2, use_bias=False), (2, 4, 3)),
        (Conv2D(3, (3, 1), padding=(2, 0), padding_mode="edge", groups=3), (3, 2, 3)),
    ],
    ids=repr,
)
def test_gradients_are_numerical_ones(xp, layer, shape):
    check_gradients(layer, xp, distinct(2, *shape))


@pytest.mark.parametrize("arguments", [{}, {"groups": 2}, {"padding_mode": "edge", "padding": 1}, {"use_bias": False}])
def test_dtypes_are_kept(xp, arguments):
    check_dtypes(Conv2D(4, 3, **arguments), xp, (2, 5, 5))


def test_without_need_for_it_no_input_gradient_is_computed(xp):
    x, dy = distinct(2, 2, 4, 4), distinct(2, 3, 2, 2)
    layer = Conv2D(3, 3)
    wanted = run(layer, xp, x, dy)
    spared = run(layer, xp, x, dy, options={"input_gradient": False})
    assert spared.dx is None
    np.testing.assert_array_equal(spared.gradients["weight"], wanted.gradients["weight"])
    np.testing.assert_allclose(spared.gradients["bias"], wanted.gradients["bias"], rtol=1e-12)


def test_weight_decays_and_bias_does_not():
    layer = Conv2D(6, (3, 5), groups=2)
    layer.connect((4, 9, 9))
    assert [(d.name, d.shape, d.decays) for d in layer.declarations] == [
        ("weight", (6, 2, 3, 5), True),
        ("bias", (6,), False),
    ]


def test_the_activation_is_a_part_by_name_or_the_layer_given():
    own = layers.LeakyReLU(0.2)
    assert [type(layer) for layer in Conv2D(1, 3, activation="relu").sublayers()] == [layers.Activation]
    assert [*Conv2D(1, 3, activation=own).sublayers()] == [own]
    assert [*Conv2D(1, 3).sublayers()] == [*Conv2D(1, 3, activation="linear").sublayers()] == []
    with pytest.raises(ValueError, match="no activation 'rely'"):
        Conv2D(1, 3, activation="rely")


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (
            Conv2D(10, 5, name="second"),
            (10, 4, 4),
            r"Conv2D 'second': a 5x5 kernel does not fit the 4x4 input\. Received input shape \(10, 4, 4\)\. "
            r'Use padding="same", a smaller kernel, or fewer pooling layers\.',
        ),
        (Conv2D(1, (1, 3), dilation=4), (1, 8, 8), r"a 1x9 kernel does not fit the 8x8 input"),
        (Conv2D(4, 3, groups=2), (3, 8, 8), r"groups=2 must divide both the 3 input channels and the 4 filters"),
        (
            Conv2D(3, 3, groups=2),
            (4, 8, 8),
            r"the 3 filters\. Received input shape \(4, 8, 8\)\. Choose another number",
        ),
        (
            Conv2D(3, 3),
            (12,),
            r"takes images, \(channels, height, width\)\. Received input shape \(12,\)\. Put it before",
        ),
    ],
)
def test_an_input_that_does_not_fit_is_refused_saying_what_would(layer, shape, message):
    with pytest.raises(ValueError, match=message):
        layer.connect(shape)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"filters": 0}, "filters must be a whole number, at least 1. Received: 0"),
        ({"filters": 2.5}, "filters .* Received: 2.5"),
        ({"filters": True}, "filters .* Received: True"),
        ({"kernel_size": 0}, "kernel_size .* at least 1. Received: 0"),
        ({"kernel_size": (3, 3, 3)}, r"kernel_size must be a whole number or \(rows, columns\). Received: \(3, 3, 3\)"),
        ({"kernel_size": "3"}, "kernel_size .* Received: '3'"),
        ({"strides": (1, 0)}, "strides .* Received: 0"),
        ({"dilation": -1}, "dilation .* Received: -1"),
        ({"groups": 0}, "groups .* Received: 0"),
        ({"padding": -1}, "padding .* at least 0. Received: -1"),
        ({"padding": "full"}, r'padding must be "valid", "same".* Received: \'full\''),
        ({"padding_mode": "reflect"}, "padding_mode must be one of zeros, edge. Received: 'reflect'"),
        ({"kernel_initializer": "he"}, "he_normal.*Received: 'he'"),
    ],
)
def test_impossible_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Conv2D(**{"filters": 2, "kernel_size": 3, **arguments})


def test_sizes_computed_with_numpy_are_taken():
    layer = Conv2D(np.int64(4), (np.int32(3), 3), strides=np.int64(2), padding=np.int8(1))
    assert layer.connect((1, 8, 8)) == (4, 4, 4)
    assert type(layer.filters) is type(layer.kernel_size[0]) is int
