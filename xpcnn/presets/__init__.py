"""Preset networks by name, each a function of the input shape and the number of classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from xpcnn.hints import did_you_mean
from xpcnn.layers import Dense, Layer, Sigmoid, Softmax
from xpcnn.presets.alexnet import alexnet
from xpcnn.presets.efficientnet import efficientnet_b0, efficientnet_lite
from xpcnn.presets.mobilenet import mobilenet_v2, mobilenet_v3_small
from xpcnn.presets.origins import blood as blood
from xpcnn.presets.origins import blood_unpooled as blood_unpooled
from xpcnn.presets.origins import four_small, full_batch, homework, lenet, zero_or_one
from xpcnn.presets.resnet import resnet
from xpcnn.presets.small import dense as dense
from xpcnn.presets.small import medium, tiny
from xpcnn.presets.small import small as small
from xpcnn.presets.squeezenet import squeezenet
from xpcnn.presets.vgg import vgg_11

Preset: TypeAlias = Callable[..., list[Layer]]

PRESETS: dict[str, Preset] = {
    "small": small,
    "medium": medium,
    "tiny": tiny,
    "lenet": lenet,
    "blood": blood,
    "blood-unpooled": blood_unpooled,
    "zero-or-one": zero_or_one,
    **{f"four-small-{number}": four_small(number) for number in (1, 2, 3, 4)},
    "full-batch": full_batch,
    "homework": homework,
    **{f"resnet-{depth}": resnet(depth) for depth in (18, 34, 50)},
    "mobilenet-v2": mobilenet_v2,
    "mobilenet-v3-small": mobilenet_v3_small,
    "efficientnet-b0": efficientnet_b0,
    **{f"efficientnet-lite{number}": efficientnet_lite(number) for number in (0, 1, 2)},
    "squeezenet": squeezenet,
    "vgg-11": vgg_11,
    "alexnet": alexnet,
}

#: Those that take a third argument, ``width``, which multiplies their numbers of filters.
SCALABLE = ("small", "medium", "tiny")
#: Those that pretrained weights are known for.
PRETRAINED = tuple(PRESETS)[[*PRESETS].index("resnet-18") :]


def get(name: str) -> Preset:
    """Return the preset called ``name``; raises ValueError, listing all presets, for another name.

    >>> len(get("blood")((1, 50, 50), 8))
    7
    """
    if not isinstance(name, str) or name not in PRESETS:
        hint = did_you_mean("preset", name, [*PRESETS])
        raise ValueError(f"There is no preset {name!r}.{hint} Use one of: {', '.join(PRESETS)}.")
    return PRESETS[name]


def for_several_labels(layers: Sequence[Layer]) -> list[Layer]:
    """Return the layers of a preset with a sigmoid in place of the final softmax, so that labels are independent.

    Raises ValueError for layers that do not end in a dense layer with a softmax, such as those of SqueezeNet, whose
    last values are never negative, so that a sigmoid of them could not exclude a label.

    >>> for_several_labels(get("tiny")((1, 8, 8), 3))[-1]
    Dense(units=3, activation='sigmoid')
    """
    *others, last = layers
    if isinstance(last, Softmax) and others and isinstance(others[-1], Dense):
        return [*others, Sigmoid(name=last.name)]
    if not isinstance(last, Dense) or last.activation != "softmax":
        raise ValueError(
            "Several labels an image need a network that ends in Dense and a softmax. Use another one, such as small. "
            f"Received: one that ends in {last!r}."
        )
    return [*others, Dense(**{**last.config(), "activation": "sigmoid"})]
