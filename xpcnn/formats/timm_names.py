"""timm's networks among the presets: its names of their arrays, and what its variants of them compute.

ResNet has torchvision's names in timm too. The variants called ``tf_`` come from TensorFlow: they pad as it does, and
their epsilon is larger. Arrays alone do not tell them from the others, nor from networks that blur before they shrink.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from xpcnn.presets import Preset
from xpcnn.presets.efficientnet import efficientnet_b0, efficientnet_lite
from xpcnn.presets.mobilenet import mobilenet_v2, mobilenet_v3_small
from xpcnn.presets.resnet import resnet
from xpcnn.presets.vgg import vgg_11

HostArray = np.ndarray[Any, Any]


class Architecture(NamedTuple):
    """One of timm's architectures: the preset with the same arrays, and the function that builds what it computes."""

    preset: str
    build: Preset


def _variants(name: str, preset: str, network: Any) -> dict[str, Architecture]:
    """Return the variants of a network with the paddings and epsilons of PyTorch and of TensorFlow."""
    return {
        name: Architecture(preset, functools.partial(network, padding=None, epsilon=1e-5)),
        f"tf_{name}": Architecture(preset, functools.partial(network, padding="same", epsilon=1e-3)),
    }


#: By timm's names; the outputs of all have been compared.
ARCHITECTURES: dict[str, Architecture] = {
    **{f"resnet{depth}": Architecture(f"resnet-{depth}", resnet(depth)) for depth in (18, 34, 50)},
    "mobilenetv2_100": Architecture("mobilenet-v2", mobilenet_v2),
    **_variants("mobilenetv3_small_100", "mobilenet-v3-small", mobilenet_v3_small),
    **_variants("efficientnet_b0", "efficientnet-b0", efficientnet_b0),
    **{
        name: architecture
        for number in (0, 1, 2)
        for name, architecture in _variants(
            f"efficientnet_lite{number}", f"efficientnet-lite{number}", efficientnet_lite(number)
        ).items()
    },
    "vgg11_bn": Architecture("vgg-11", vgg_11),
}

_STEM = {"conv_stem": "features.0.0", "bn1": "features.0.1"}
_LITE = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1", "classifier": "_fc"}
#: {timm's name of a module: ours} by preset, for what is not in a block.
OUTSIDE_BLOCKS = {
    "mobilenet-v2": {
        **_STEM, "conv_head": "features.18.0", "bn2": "features.18.1", "classifier": "classifier.1",
    },
    "mobilenet-v3-small": {
        **_STEM, "blocks.5.0.conv": "features.12.0", "blocks.5.0.bn1": "features.12.1", "conv_head": "classifier.0",
        "classifier": "classifier.3",
    },
    "efficientnet-b0": {
        **_STEM, "conv_head": "features.8.0", "bn2": "features.8.1", "classifier": "classifier.1",
    },
    **dict.fromkeys((f"efficientnet-lite{number}" for number in (0, 1, 2)), _LITE),
    "vgg-11": {"pre_logits.fc1": "classifier.0", "pre_logits.fc2": "classifier.3", "head.fc": "classifier.6"},
}  # fmt: skip
#: The modules of a block in pairs, in the order of computation: with an expansion, and without.
EXPANDED = (("conv_pw", "bn1"), ("conv_dw", "bn2"), ("se.conv_reduce", "se.conv_expand"), ("conv_pwl", "bn3"))
PLAIN = (("conv_dw", "bn1"), ("se.conv_reduce", "se.conv_expand"), ("conv_pw", "bn2"))
#: The same in EfficientNet-Lite, from the last.
_LITE_BLOCK = (("_project_conv", "_bn2"), ("_depthwise_conv", "_bn1"), ("_expand_conv", "_bn0"))
#: timm's convolutions that are dense layers here, and the sizes of their kernels.
DENSE = {
    "mobilenet-v3-small": {"conv_head.weight": (1, 1)},
    "vgg-11": {"pre_logits.fc1.weight": (7, 7), "pre_logits.fc2.weight": (1, 1)},
}

#: The largest side of images for which timm's VGG computes what the preset does: larger ones leave more than 7x7.
LARGEST_VGG = 255


def are_timms(names: Mapping[str, Any]) -> bool:
    """Whether arrays have names that only timm gives them."""
    return "conv_stem.weight" in names or "pre_logits.fc1.weight" in names


def variants_of(preset: str) -> list[str]:
    """Return the architectures with the arrays of a preset."""
    return [name for name, architecture in ARCHITECTURES.items() if architecture.preset == preset]


def renamed(arrays: Mapping[str, HostArray], preset: str) -> dict[str, HostArray]:
    """Return arrays with timm's names by those of a preset; an array that timm does not have keeps its name.

    Raises ValueError if two arrays would have the same name.

    >>> head = {"conv_head.weight": np.zeros((2, 3, 1, 1)), "classifier.bias": np.zeros(2)}
    >>> {name: array.shape for name, array in renamed(head, "mobilenet-v3-small").items()}
    {'classifier.0.weight': (2, 3), 'classifier.3.bias': (2,)}
    """
    modules = OUTSIDE_BLOCKS[preset] | dict(_in_blocks(arrays, preset))
    result: dict[str, HostArray] = {}
    for name, array in arrays.items():
        module, _, last = name.rpartition(".")
        ours = f"{modules[module]}.{last}" if module in modules else name
        if ours in result:
            raise ValueError(f"The array {ours[:100]!r} is there twice, by its name in timm and by this one.")
        dense = array.shape[2:] == DENSE.get(preset, {}).get(name)
        result[ours] = array.reshape(len(array), math.prod(array.shape[1:])) if dense else array
    return result


def _in_blocks(arrays: Mapping[str, Any], preset: str) -> Iterator[tuple[str, str]]:
    """Yield timm's name of each module in a block, and ours."""
    found = (re.fullmatch(r"blocks\.([0-9]{1,3})\.([0-9]{1,3})\.conv_dw\.weight", name) for name in arrays)
    blocks = sorted((int(match[1]), int(match[2])) for match in found if match)
    for number, (stage, place) in enumerate(blocks):
        theirs = f"blocks.{stage}.{place}"
        gated = f"{theirs}.se.conv_reduce.weight" in arrays
        pairs = EXPANDED if f"{theirs}.conv_pwl.weight" in arrays else PLAIN
        steps = [pair for pair in pairs if gated or not pair[0].startswith("se.")]
        ours = {
            "mobilenet-v2": f"features.{number + 1}.conv",
            "mobilenet-v3-small": f"features.{number + 1}.block",
            "efficientnet-b0": f"features.{stage + 1}.{place}.block",
        }.get(preset, f"_blocks.{number}")
        for step, pair in enumerate(steps):
            if preset.startswith("efficientnet-lite"):
                names = _LITE_BLOCK[min(len(steps) - 1 - step, 2)]
            elif pair[0].startswith("se."):
                names = (f"{step}.fc1", f"{step}.fc2")
            elif preset == "mobilenet-v2" and step == len(steps) - 1:
                names = (f"{step}", f"{step + 1}")
            else:
                names = (f"{step}.0", f"{step}.1")
            yield from zip((f"{theirs}.{name}" for name in pair), (f"{ours}.{name}" for name in names), strict=True)
