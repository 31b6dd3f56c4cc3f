"""Weights to and from PyTorch: the same network in both predicts the same, whichever initialised the weights."""

import numpy as np
import pytest

from xpcnn import Sequential, layers
from xpcnn.formats.torch import load_state_dict, read_state_dict, save_state_dict

torch = pytest.importorskip("torch")
safetensors_torch = pytest.importorskip("safetensors.torch")
nn = torch.nn

KIND = "PyTorch"


class Residual(nn.Sequential):
    """A stack added to its input, as the docstring of save_state_dict has it."""

    def forward(self, x):
        return x + super().forward(x)


class Block(nn.Module):
    """A residual block with named modules, as torchvision's BasicBlock."""

    def __init__(self, channels):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x):
        return x + self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))


class PreActivation(nn.Module):
    """A residual block that normalises first; its modules have the same names."""

    def __init__(self, channels):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)

    def forward(self, x):
        return x + self.conv2(torch.relu(self.bn2(self.conv1(torch.relu(self.bn1(x))))))


class ResNet(nn.Module):
    """A small residual network with the names of torchvision's."""

    def __init__(self, block, blocks, stages=2, channels=4):
        super().__init__()
        self.block = block
        self.conv1 = nn.Conv2d(3, channels, 5, stride=2, padding=2, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        for stage in range(stages):
            setattr(self, f"layer{stage + 1}", nn.Sequential(*(block(channels) for _ in range(blocks))))
        self.stages = stages
        self.fc = nn.Linear(channels, 5)

    def forward(self, x):
        x = self.conv1(x)
        x = torch.relu(self.bn1(x)) if self.block is Block else x
        for stage in range(self.stages):
            x = getattr(self, f"layer{stage + 1}")(x)
        x = x if self.block is Block else torch.relu(self.bn1(x))
        return self.fc(x.mean((2, 3)))


def residual_layers(block, count, channels=4):
    """Return the layers of ResNet in xpcnn."""

    def convolution():
        return layers.Conv2D(channels, 3, padding="same", use_bias=False)

    def stack():
        if block is Block:
            return [convolution(), layers.BatchNorm(), layers.ReLU(), convolution(), layers.BatchNorm()]
        first, second = [layers.BatchNorm(), layers.ReLU(), convolution()], [layers.BatchNorm(), layers.ReLU()]
        return [*first, *second, convolution()]

    normalised = [layers.BatchNorm(), layers.ReLU()]
    residuals = [layers.Residual(stack()) for _ in range(count)]
    middle = [*normalised, *residuals] if block is Block else [*residuals, *normalised]
    begin = layers.Conv2D(channels, 5, strides=2, padding=2, use_bias=False)
    return [begin, *middle, layers.GlobalAveragePool2D(), layers.Dense(5, activation="softmax")]


def unsettle(network, generator):
    """Give normalisation statistics and weights that are not those of its beginning."""
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if value.is_floating_point() and value.ndim == 1:
                value.copy_(torch.rand(value.shape, generator=generator) + (0.5 if "var" in name else -0.2))


def probabilities(network, x):
    network.eval()
    with torch.no_grad():
        return torch.softmax(network(torch.from_numpy(x)), 1).numpy()


def compare(network, model, path, rng, names=None):
    """Load PyTorch's weights, change them, write them back, and compare what is predicted each time."""
    x = rng.normal(size=(4, *model.input_shape)).astype(np.float32)
    safetensors_torch.save_file(network.state_dict(), path)
    found = load_state_dict(model, path, names)
    np.testing.assert_allclose(model.predict(x), probabilities(network, x), rtol=1e-4, atol=1e-7)
    drawn = {name: value * np.float32(rng.uniform(0.5, 1.5)) for name, value in model.get_weights().items()}
    model.set_weights(drawn)
    model.temperature = float(rng.uniform(0.5, 2))
    save_state_dict(model, path, found)
    network.load_state_dict(safetensors_torch.load_file(path), strict=True)
    np.testing.assert_allclose(model.predict(x), probabilities(network, x), rtol=1e-4, atol=1e-7)


def drawn_pair(rng):
    """Return a random network as an nn.Sequential and as xpcnn's layers, with the same activations and sizes."""
    theirs, ours = [], []
    channels, size = int(rng.integers(1, 4)), int(rng.integers(10, 17))
    shape = (channels, size, size)

    def activate():
        name = str(rng.choice(["relu", "tanh", "sigmoid"]))
        theirs.append({"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}[name]())
        return name

    for _ in range(rng.integers(1, 4)):
        filters, kernel, bias = int(rng.integers(1, 4)) * 2, int(rng.choice([1, 3])), bool(rng.integers(2))
        groups = 2 if channels % 2 == 0 and rng.integers(2) else 1
        same = {"padding": kernel // 2, "groups": groups}
        theirs.append(nn.Conv2d(channels, filters, kernel, bias=bias, **same))
        kind, channels = rng.integers(3), filters
        activation = activate() if kind == 0 else None
        ours.append(layers.Conv2D(filters, kernel, use_bias=bias, activation=activation, **same))
        if kind == 1:
            epsilon = float(rng.choice([1e-5, 1e-3]))
            theirs.append(nn.BatchNorm2d(filters, eps=epsilon))
            ours.append(layers.BatchNorm(epsilon=epsilon))
            ours.append(layers.Activation(activate()))
        if rng.integers(2):
            inner = [nn.Conv2d(filters, filters, 3, padding=1), nn.BatchNorm2d(filters), nn.ReLU()]
            theirs.append(Residual(*inner))
            ours.append(layers.Residual([layers.Conv2D(filters, 3, padding="same"), layers.BatchNorm(), layers.ReLU()]))
        if size > 7 and rng.integers(2):
            size //= 2
            theirs.append(nn.MaxPool2d(2))
            ours.append(layers.MaxPool2D(2))
    if rng.integers(2):
        theirs += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        ours.append(layers.GlobalAveragePool2D())
        features = channels
    else:
        theirs.append(nn.Flatten())
        ours.append(layers.Flatten())
        features = channels * size * size
    for _ in range(rng.integers(3)):
        theirs.append(nn.Linear(features, 6))
        ours.append(layers.Dense(6, activation=activate()))
        theirs.append(nn.Dropout(0.2))
        ours.append(layers.Dropout(0.2))
        features = 6
    theirs.append(nn.Linear(features, 3))
    ours.append(layers.Dense(3, activation="softmax"))
    return nn.Sequential(*theirs), Sequential(ours, shape, np)


def test_random_networks_predict_the_same_in_both(tally, cases, seed, tmp_path):
    """Layers one after another, with residual stacks: names are found, and those of a model on its own are the same."""
    for number in range(cases(12)):
        with tally.case(KIND, f"seed {seed}, case {number}"):
            rng = np.random.default_rng([seed, number])
            torch.manual_seed(int(rng.integers(2**31)))
            network, model = drawn_pair(rng)
            unsettle(network, torch.Generator().manual_seed(number))
            path = tmp_path / f"{number}.safetensors"
            compare(network, model, path, rng)
            save_state_dict(model, path)  # under the numbers of an nn.Sequential
            network.load_state_dict(safetensors_torch.load_file(path), strict=True)


@pytest.mark.parametrize("block", [Block, PreActivation])
@pytest.mark.parametrize("blocks", [1, 3])
def test_residual_networks_with_named_modules_predict_the_same(tally, tmp_path, block, blocks):
    with tally.case(KIND, f"ResNet of {blocks} {block.__name__}"):
        torch.manual_seed(blocks)
        network = ResNet(block, blocks)
        unsettle(network, torch.Generator().manual_seed(blocks))
        model = Sequential(residual_layers(block, 2 * blocks), (3, 11, 11), np)
        compare(network, model, tmp_path / "net.safetensors", np.random.default_rng(blocks))


class Parted(nn.Module):
    """Convolutions and dense layers in parts of their own, as torchvision's VGG, with more than ten modules."""

    def __init__(self):
        super().__init__()
        convolutions = [(nn.Conv2d(4 if number else 1, 4, 3, padding=1), nn.ReLU()) for number in range(7)]
        self.features = nn.Sequential(*(module for pair in convolutions for module in pair), nn.MaxPool2d(2))
        self.classifier = nn.Sequential(nn.Linear(36, 36), nn.ReLU(), nn.Linear(36, 36), nn.ReLU(), nn.Linear(36, 3))

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


def test_a_network_of_named_parts_predicts_the_same(tally, tmp_path):
    with tally.case(KIND, "parts"):
        torch.manual_seed(0)
        convolutions = [layers.Conv2D(4, 3, padding=1, activation="relu") for _ in range(7)]
        classifier = [layers.Dense(36, "relu"), layers.Dense(36, "relu"), layers.Dense(3, "softmax")]
        stack = [*convolutions, layers.MaxPool2D(2), layers.Flatten(), *classifier]
        model = Sequential(stack, (1, 6, 6), np)
        compare(Parted(), model, tmp_path / "net.safetensors", np.random.default_rng(0))


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_other_numbers_become_the_nearest_float32(tally, tmp_path, dtype):
    with tally.case(KIND, dtype):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Flatten(), nn.Linear(12, 3)).to(getattr(torch, dtype))
        safetensors_torch.save_file(network.state_dict(), tmp_path / "net.safetensors")
        model = Sequential([layers.Flatten(), layers.Dense(3)], (3, 2, 2), np)
        load_state_dict(model, tmp_path / "net.safetensors")
        for name, expected in (("dense_1.weight", network[1].weight), ("dense_1.bias", network[1].bias)):
            np.testing.assert_array_equal(model.get_weights()[name], expected.detach().float().numpy())


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_what_torch_saves_is_read_in_both_formats(tally, tmp_path, zipped, protocol):
    with tally.case(KIND, f"torch.save, zip {zipped}, protocol {protocol}"):
        torch.manual_seed(protocol)
        network = ResNet(Block, 2)
        unsettle(network, torch.Generator().manual_seed(protocol))
        state = network.state_dict()

        def save(value):
            path = tmp_path / "net.pt"
            torch.save(value, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
            return path

        model = Sequential(residual_layers(Block, 4), (3, 11, 11), np)
        found = load_state_dict(model, save(state))
        x = np.random.default_rng(protocol).normal(size=(4, 3, 11, 11)).astype(np.float32)
        np.testing.assert_allclose(model.predict(x), probabilities(network, x), rtol=1e-4, atol=1e-7)

        optimizer = torch.optim.Adam(network.parameters())
        network(torch.from_numpy(x)).sum().backward()
        optimizer.step()
        state = network.state_dict()
        expected = {name: value.numpy() for name, value in state.items() if value.is_floating_point()}
        for value in (
            nn.DataParallel(network).state_dict(),
            {"epoch": 1, "state_dict": state, "optimizer": optimizer.state_dict()},
            {"model": {name: nn.Parameter(value) for name, value in state.items() if value.is_floating_point()}},
            dict(network.named_parameters()) | dict(network.named_buffers()),
        ):
            read = read_state_dict(save(value))
            assert read.keys() == expected.keys()
            assert all((read[name] == expected[name]).all() for name in expected)
            assert load_state_dict(model, tmp_path / "net.pt") == found


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_views_that_torch_saves_are_read(tally, tmp_path, zipped, dtype):
    with tally.case(KIND, f"views of {dtype}, zip {zipped}"):
        numbers = torch.randn(60, generator=torch.Generator().manual_seed(0)).to(getattr(torch, dtype))
        views = {
            "whole": numbers,
            "transposed": numbers.reshape(3, 4, 5).permute(2, 0, 1),
            "channels last": numbers[:24].reshape(1, 2, 3, 4).to(memory_format=torch.channels_last),
            "strided": numbers[3::7],
            "scalar": numbers[5],
            "empty": numbers[:0].reshape(3, 0),
            "repeated": numbers[:1].expand(2, 5),
        }
        torch.save(views, tmp_path / "net.pt", _use_new_zipfile_serialization=zipped)
        read = read_state_dict(tmp_path / "net.pt")
        assert [*read] == [*views]
        for name, value in views.items():
            np.testing.assert_array_equal(read[name], value.float().numpy())


@pytest.mark.parametrize("zipped", [True, False])
def test_what_torch_saves_beside_weights_is_refused_with_advice(tmp_path, zipped):
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    for value, why in (
        (network, r"refers to 'torch\.nn\.modules\.container\.Sequential'"),
        (network[1].weight, "is not a dict of tensors"),
        ({"a": torch.tensor([1 + 2j])}, r"refers to 'torch\.ComplexFloatStorage'"),
        ({"a": torch.eye(2).to_sparse()}, "refers to 'torch"),
        ({"a": torch.ones(2, dtype=torch.uint8)}, r"has the dtype U8, but .* tensor\.float\(\)"),
        ({"a": np.ones(2)}, r"refers to 'numpy\._core\.multiarray\._reconstruct'"),
        ({"a": torch._neg_view(torch.ones(2))}, "calls something with arguments"),
    ):
        torch.save(value, tmp_path / "net.pt", _use_new_zipfile_serialization=zipped)
        with pytest.raises(ValueError, match=why) as caught:
            read_state_dict(tmp_path / "net.pt")
        assert "\n" not in str(caught.value)


def test_normalisation_has_pytorchs_defaults():
    theirs, ours = nn.BatchNorm2d(3), layers.BatchNorm()
    assert (ours.epsilon, ours.momentum) == (theirs.eps, theirs.momentum)
