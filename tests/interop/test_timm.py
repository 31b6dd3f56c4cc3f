"""The networks that timm has too: what it saves is read, and gives its outputs."""

import json

import numpy as np
import pytest

from xpcnn import losses, pretrained
from xpcnn.formats.timm_names import ARCHITECTURES
from xpcnn.layers import Context
from xpcnn.ops.workspace import Workspace
from xpcnn.program.execute import infer

torch = pytest.importorskip("torch")
from tests.interop.test_networks import torchvision_models  # noqa: E402

CLASSES = 7
#: Even and odd, since padding as TensorFlow's differs from PyTorch's only where a side is even.
SIDES = (64, 57)
LABELS = list("abcdefg")


def drawn(name, folder):
    """Save a network of timm with weights drawn, as ``save_for_hf`` does; return it."""
    torchvision_models()
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    module = timm.create_model(name, num_classes=CLASSES)
    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm2d):  # drawn too, so that each counts; small, so that epsilon does
            torch.nn.init.uniform_(part.running_mean, -0.1, 0.1)
            torch.nn.init.uniform_(part.running_var, 0.01, 0.1)
            torch.nn.init.uniform_(part.weight, 0.1, 0.3)
            torch.nn.init.uniform_(part.bias, -0.2, 0.2)
    timm.models.save_for_hf(module, str(folder), model_config={"label_names": LABELS}, safe_serialization=True)
    return module.double().eval()


def images(side):
    return np.random.default_rng(0).normal(size=(2, 3, side, side))


def outputs(folder, side):
    """Return what the weights in a folder make of images, before softmax."""
    network = pretrained.load_pretrained(folder, image_size=side, xp="numpy").network
    program = network.program(losses.CrossEntropy())
    return infer(network, images(side).astype(np.float32), Context(Workspace(np)), program)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_outputs_are_those_of_timm(tally, tmp_path, name):
    module = drawn(name, tmp_path)
    for side in SIDES:
        with tally.case("timm"), torch.no_grad():
            expected = module(torch.from_numpy(images(side))).numpy()
            assert np.abs(outputs(tmp_path, side) - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if f"tf_{name}" in ARCHITECTURES])
def test_a_variant_that_pads_otherwise_gives_other_outputs(tmp_path, name):
    """Or the comparison above would not tell them apart."""
    drawn(name, tmp_path)
    right = outputs(tmp_path, 64)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"architecture": f"tf_{name}"}))
    assert np.abs(outputs(tmp_path, 64) - right).max() > 0.01 * np.abs(right).max()


def test_the_images_and_classes_of_timms_weights_are_taken_from_its_configuration(tmp_path):
    drawn("tf_efficientnet_lite2", tmp_path)
    model = pretrained.load_pretrained(tmp_path, xp="numpy")
    preprocessing = model.preprocessing
    assert model.class_names == tuple(LABELS)
    assert preprocessing.decoding.shape == (3, 260, 260)
    assert preprocessing.mean == preprocessing.std == (127.5, 127.5, 127.5)


@pytest.mark.parametrize("changed", [{"global_pool": "max"}, {"act_layer": "silu"}])
def test_an_architecture_that_computes_something_else_is_refused(tmp_path, changed):
    torchvision_models()
    timm = pytest.importorskip("timm")
    timm.models.save_for_hf(timm.create_model("resnet18", **changed), str(tmp_path), safe_serialization=True)
    with pytest.raises(ValueError, match="xpcnn does not have the architecture with"):
        pretrained.load_pretrained(tmp_path)


@pytest.mark.parametrize("name", ["resnetblur18", "resnetaa50", "efficientnet_blur_b0"])
def test_another_network_with_the_same_arrays_is_refused_by_its_name(tmp_path, name):
    drawn(name, tmp_path)
    with pytest.raises(ValueError, match=f'xpcnn does not have the architecture "{name}"'):
        pretrained.load_pretrained(tmp_path)


def test_an_image_over_which_timm_moves_the_dense_layers_of_vgg_is_refused(tmp_path):
    drawn("vgg11_bn", tmp_path)
    with pytest.raises(ValueError, match=r"images of more than 255 pixels.* Received: 256 pixels"):
        pretrained.load_pretrained(tmp_path, image_size=256)
