import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import xpcnn
from xpcnn import layers, presets


def build(name, shape, classes):
    return xpcnn.Sequential(presets.get(name)(shape, classes), input_shape=shape, xp=np)


def kinds(model):
    return [layer.kind() for layer in model.layers]


def test_blood_is_the_first_seeds_network_as_it_was_drawn():
    model = build("blood", (1, 50, 50), 8)
    assert {name: value.shape for name, value in model.parameters.items()} == {
        "conv2d_1.weight": (10, 1, 5, 5), "conv2d_1.bias": (10,),
        "conv2d_2.weight": (10, 10, 5, 5), "conv2d_2.bias": (10,),
        "dense_1.weight": (96, 810), "dense_1.bias": (96,),
        "dense_2.weight": (8, 96), "dense_2.bias": (8,),
    }  # fmt: skip
    assert kinds(model) == ["conv2d", "max_pool2d", "conv2d", "max_pool2d", "flatten", "dense", "dense"]
    assert [layer.activation for layer in model.layers if hasattr(layer, "activation")] == [
        "relu", "relu", "relu", "softmax",
    ]  # fmt: skip


def test_blood_unpooled_is_the_network_as_it_was_coded():
    model = build("blood-unpooled", (1, 50, 50), 8)
    assert kinds(model) == ["conv2d", "conv2d", "max_pool2d", "flatten", "dense", "dense"]
    assert model.parameters["dense_1.weight"].shape == (96, 10 * 21 * 21)


@pytest.mark.parametrize("name", ["small", "medium"])
@pytest.mark.parametrize(
    ("side", "sides"),
    [
        (1, [1, 1]), (2, [1, 1]), (8, [4, 2]), (15, [7, 3]), (16, [4, 2]), (28, [7, 3]), (47, [11, 5]),
        (48, [12, 12, 6]), (64, [16, 16, 8]), (127, [31, 31, 15]), (128, [16, 16, 8]), (224, [28, 28, 14]),
    ],
)  # fmt: skip
def test_the_residual_blocks_see_small_maps_of_images_of_any_size(name, side, sides):
    model = build(name, (1, side, side), 4)
    assert [layer.output_shape[1] for layer in model.layers if layer.kind() == "residual"] == sides


def test_a_residual_block_of_small_is_two_convolutions_then_relu_and_the_last_one_has_a_gate():
    blocks = [layer for layer in presets.get("small")((3, 64, 64), 8) if isinstance(layer, layers.Residual)]
    convolutions = ["conv2d", "batch_norm", "relu", "conv2d", "batch_norm"]
    expected = [convolutions, convolutions, [*convolutions, "squeeze_excitation"]]
    assert [[layer.kind() for layer in block.layers] for block in blocks] == expected
    assert [block.activation for block in blocks] == ["relu"] * 3


@pytest.mark.parametrize(("name", "parameters"), [("small", 99_444), ("medium", 394_720)])
def test_the_docstring_tells_the_number_of_weights_at_64_pixels_in_eight_classes(name, parameters):
    assert sum(value.size for value in build(name, (3, 64, 64), 8).parameters.values()) == parameters
    assert f"{parameters:,}" in getattr(presets, name).__doc__


@settings(max_examples=25)
@given(st.sampled_from([1, 3]), st.integers(1, 70), st.integers(1, 70), st.integers(2, 9))
def test_small_takes_every_image_and_names_every_class(channels, height, width, classes):
    model = build("small", (channels, height, width), classes)
    probabilities = model.predict(np.zeros((1, channels, height, width)))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    assert probabilities.shape == (1, classes)
    assert model.network.layout.size < 500_000


@pytest.mark.parametrize(("name", "most"), [("small", 100_000), ("medium", 400_000), ("tiny", 20_000)])
@pytest.mark.parametrize(("shape", "classes"), [((3, 64, 64), 8), ((1, 28, 28), 10), ((3, 40, 40), 40)])
def test_the_defaults_keep_to_their_number_of_weights(name, most, shape, classes):
    assert sum(value.size for value in build(name, shape, classes).parameters.values()) <= most


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("zero-or-one", 5 * 10 + 3125 * 100 + 100 + 202), ("four-small-1", 54_170), ("four-small-2", 93_418),
        ("four-small-3", 10_026), ("four-small-4", 74_778), ("full-batch", 13_610),
        ("homework", 157_990),
    ],
)  # fmt: skip
def test_the_seeds_networks_have_the_parameters_that_they_had(name, parameters):
    model = build(name, (1, 28, 28), 2 if name == "zero-or-one" else 10)
    assert sum(value.size for value in model.parameters.values()) == parameters


def test_lenet_has_the_parameters_of_the_paper_but_for_its_sparse_connections():
    model = build("lenet", (1, 28, 28), 10)
    assert sum(value.size for value in model.parameters.values()) == 61_706


@pytest.mark.parametrize("name", presets.PRESETS)
def test_every_preset_gives_probabilities(name):
    shape = (3, 70, 64) if name == "alexnet" else (3, 40, 32)
    probabilities = build(name, shape, 4).predict(np.random.default_rng(0).normal(size=(2, *shape)))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)


def test_dense_is_for_features_and_has_no_name():
    model = xpcnn.Sequential(presets.dense((1, 1, 5), 3), (1, 1, 5), np)
    assert sum(value.size for value in model.parameters.values()) == 6 * 128 + 129 * 128 + 129 * 3
    assert "dense" not in presets.PRESETS


def test_every_call_makes_new_layers():
    first, second = (presets.get("small")((1, 8, 8), 3) for _ in range(2))
    assert not {id(layer) for layer in first} & {id(layer) for layer in second}
    assert all(isinstance(layer, layers.Layer) for layer in first)


def test_an_image_that_is_too_small_for_blood_is_refused_by_the_layer_it_does_not_fit():
    with pytest.raises(ValueError, match="Conv2D 'conv2d_2': a 5x5 kernel does not fit the 2x2 input"):
        build("blood", (1, 8, 8), 3)


def test_an_unknown_preset_is_refused_with_those_that_exist():
    with pytest.raises(ValueError, match=r"no preset 'inception'. Use one of: small, medium, tiny, lenet, blood"):
        presets.get("inception")


@pytest.mark.parametrize("name", [name for name in presets.PRESETS if name != "squeezenet"])
def test_every_preset_but_squeezenet_can_give_several_labels(name):
    made = presets.for_several_labels(presets.get(name)((3, 64, 64), 3))
    before = presets.get(name)((3, 64, 64), 3)
    assert [repr(layer).replace("'sigmoid'", "'softmax'").replace("Sigmoid", "Softmax") for layer in made[-2:]] == [
        repr(layer) for layer in before[-2:]
    ]
    assert [layer.name for layer in made] == [layer.name for layer in before]
    assert "igmoid" in repr(made[-1])


def test_a_network_whose_values_are_never_negative_cannot_give_several_labels():
    with pytest.raises(ValueError, match="Several labels an image need a network that ends in Dense and a softmax"):
        presets.for_several_labels(presets.get("squeezenet")((3, 64, 64), 3))


@pytest.mark.parametrize("name", presets.SCALABLE)
def test_width_multiplies_the_filters(name):
    filters = [
        [layer.filters for layer in presets.get(name)((3, 32, 32), 4, width=width) if layer.kind() == "conv2d"]
        for width in (0.5, 1, 2)
    ]
    assert filters == {
        "small": [[8, 16, 32], [16, 32, 64], [32, 64, 128]],
        "tiny": [[8, 8, 16], [8, 16, 32], [16, 32, 64]],
        "medium": [[16, 32, 64], [32, 64, 128], [64, 128, 256]],
    }[name]  # fmt: skip
