"""timm's names of arrays, and those of the presets."""

import numpy as np
import pytest

from tests.timm_files import NAMES
from xpcnn import presets
from xpcnn.formats.timm_names import ARCHITECTURES, are_timms, renamed, variants_of
from xpcnn.program.build import Builder, name_layers


def declared(layers, shape=(3, 64, 64)):
    """The shapes of the arrays of layers by their names."""
    name_layers(layers)
    builder = Builder(shape)
    builder.chain(layers)
    parts = [node.layer for node in builder.nodes]
    return {d.full_name: d.shape for layer in parts for d in (*layer.declarations, *layer.buffers)}


@pytest.mark.parametrize("name", NAMES)
def test_the_arrays_of_a_network_get_the_names_and_shapes_of_its_preset(name):
    architecture = ARCHITECTURES[name]
    theirs = {key: np.broadcast_to(np.float32(0), shape) for key, shape in NAMES[name].items()}
    assert are_timms(theirs)
    ours = {key: array.shape for key, array in renamed(theirs, architecture.preset).items()}
    assert ours == declared(presets.get(architecture.preset)((3, 64, 64), 3))


def test_every_variant_of_a_preset_has_its_arrays():
    for architecture in ARCHITECTURES.values():
        assert declared(architecture.build((3, 64, 64), 3)) == declared(
            presets.get(architecture.preset)((3, 64, 64), 3)
        )
    assert variants_of("efficientnet-b0") == ["efficientnet_b0", "tf_efficientnet_b0"]
    assert variants_of("resnet-18") == ["resnet18"]


def test_an_array_that_timm_does_not_have_keeps_its_name_and_a_kernel_of_another_size_its_shape():
    arrays = {"conv_head.weight": np.zeros((4, 1, 1, 2)), "blocks.0.0.extra.weight": np.zeros(1)}
    found = renamed(arrays, "mobilenet-v3-small")
    assert found["classifier.0.weight"].shape == (4, 1, 1, 2)
    assert "blocks.0.0.extra.weight" in found


def test_an_array_that_is_there_by_both_names_is_refused():
    arrays = {"conv_stem.weight": np.zeros((1, 1, 1, 1)), "features.0.0.weight": np.ones((1, 1, 1, 1))}
    with pytest.raises(ValueError, match=r"'features\.0\.0\.weight' is there twice"):
        renamed(arrays, "mobilenet-v2")
