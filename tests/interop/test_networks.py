"""The networks that pretrained weights are for: with the same weights, torchvision's outputs and gradients."""

import numpy as np
import pytest

from xpcnn import losses, presets
from xpcnn.layers import Context, Dropout
from xpcnn.ops.workspace import Workspace
from xpcnn.program.execute import Executor, infer
from xpcnn.program.network import Network
from xpcnn.training.engine.host import ShardedTraining

torch = pytest.importorskip("torch")
CLASSES = 7


def torchvision_models():
    """Import the networks; what else torchvision's wheel has need not fit this build of PyTorch."""
    try:
        return pytest.importorskip("torchvision.models", exc_type=ImportError)
    except RuntimeError:  # an operator is missing, which none of the networks needs
        library = torch.library.Library("torchvision", "FRAGMENT")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return pytest.importorskip("torchvision.models", exc_type=ImportError)


def lite(number):
    port = pytest.importorskip("efficientnet_lite_pytorch")
    settings = {"num_classes": CLASSES, "drop_connect_rate": 0.0, "image_size": 64}
    return port.EfficientNet.from_name(f"efficientnet-lite{number}", **settings)


#: By preset, what makes its twin, and the side of the images.
NETWORKS = {
    "resnet-18": (lambda models: models.resnet18(num_classes=CLASSES), 64),
    "resnet-34": (lambda models: models.resnet34(num_classes=CLASSES), 48),
    "resnet-50": (lambda models: models.resnet50(num_classes=CLASSES), 57),
    "mobilenet-v2": (lambda models: models.mobilenet_v2(num_classes=CLASSES), 64),
    "mobilenet-v3-small": (lambda models: models.mobilenet_v3_small(num_classes=CLASSES), 64),
    "efficientnet-b0": (lambda models: models.efficientnet_b0(num_classes=CLASSES), 64),
    "squeezenet": (lambda models: models.squeezenet1_1(num_classes=CLASSES), 68),
    "vgg-11": (lambda models: models.vgg11_bn(num_classes=CLASSES), 64),
    "alexnet": (lambda models: models.alexnet(num_classes=CLASSES), 80),
    "efficientnet-lite0": (lambda models: lite(0), 64),
    "efficientnet-lite1": (lambda models: lite(1), 64),
    "efficientnet-lite2": (lambda models: lite(2), 64),
}


def twins(name, dtype):
    """Return a network and its twin with the same weights, drawn, and images with their labels."""
    make, side = NETWORKS[name]
    torch.manual_seed(0)
    module = make(torchvision_models()).double().eval()
    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm2d):  # drawn too, so that each counts
            torch.nn.init.uniform_(part.running_mean, -0.1, 0.1)
            torch.nn.init.uniform_(part.running_var, 0.5, 2)
            torch.nn.init.uniform_(part.weight, 0.5, 1.5)
            torch.nn.init.uniform_(part.bias, -0.2, 0.2)
    network = Network(presets.get(name)((3, side, side), CLASSES), (3, side, side), np, dtype=dtype)
    state = {name: value.numpy() for name, value in module.state_dict().items() if "num_batches" not in name}
    network.set_values(state)
    rng = np.random.default_rng(0)
    return network, module, rng.normal(size=(4, 3, side, side)), rng.integers(0, CLASSES, 4)


@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_are_those_of_its_twin(tally, name):
    network, module, x, _ = twins(name, np.float32)
    with tally.case("torchvision"), torch.no_grad():
        program = network.program(losses.CrossEntropy())
        y = infer(network, x.astype(np.float32), Context(Workspace(np)), program)
        expected = module(torch.from_numpy(x)).numpy()
        assert np.abs(y - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("name", [name for name in NETWORKS if name not in ("vgg-11", "alexnet")])
def test_gradients_in_training_are_those_of_its_twin(tally, name):
    network, module, x, y = twins(name, np.float64)
    for node in network.nodes:
        if isinstance(node.layer, Dropout):
            node.layer.rate = 0.0
    for part in module.train().modules():
        if hasattr(part, "p"):  # of Dropout and StochasticDepth
            part.p = 0.0
    with tally.case("torchvision"):
        loss = losses.CrossEntropy()
        with Executor(network, len(x), 1, 1, training=True) as executor:
            result = ShardedTraining(executor, loss).train(x, loss.prepare(y, CLASSES, dtype=np.float64), [], 0, 0)
        torch.nn.functional.cross_entropy(module(torch.from_numpy(x)), torch.from_numpy(y)).backward()
        expected = {parameter: tensor.grad.numpy() for parameter, tensor in module.named_parameters()}
        precision = 1e-5 if name == "mobilenet-v3-small" else 1e-8  # PyTorch's hard sigmoid takes 1/6 in float32
        rounding = precision / 100 * max(np.abs(gradient).max() for gradient in expected.values())
        for parameter, gradient in network.layout.views(result.gradient).items():
            np.testing.assert_allclose(gradient, expected.pop(parameter), rtol=precision, atol=rounding)
        assert not expected
