"""MobileNetV2 and V3, inverted residual blocks around depthwise convolutions, with torchvision's names.

Sandler et al., "MobileNetV2: inverted residuals and linear bottlenecks", 2018; Howard et al., "Searching for
MobileNetV3", 2019.
"""

from __future__ import annotations

import functools

from xpcnn.layers import Dense, Dropout, GlobalAveragePool2D, Layer, Residual
from xpcnn.parameters import Shape
from xpcnn.presets.blocks import convolution, gate, rounded

#: Expansion, filters, blocks and strides of MobileNetV2's stages.
STAGES_V2 = (
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)
)  # fmt: skip
#: Kernel size, expanded channels, filters, whether gated, activation and strides of MobileNetV3-Small's blocks.
BLOCKS_V3_SMALL = (
    (3, 16, 16, True, "relu", 2),
    (3, 72, 24, False, "relu", 2),
    (3, 88, 24, False, "relu", 1),
    (5, 96, 40, True, "hard_swish", 2),
    (5, 240, 40, True, "hard_swish", 1),
    (5, 240, 40, True, "hard_swish", 1),
    (5, 120, 48, True, "hard_swish", 1),
    (5, 144, 48, True, "hard_swish", 1),
    (5, 288, 96, True, "hard_swish", 2),
    (5, 576, 96, True, "hard_swish", 1),
    (5, 576, 96, True, "hard_swish", 1),
)


def mobilenet_v2(input_shape: Shape, classes: int) -> list[Layer]:
    """MobileNetV2 of width 1: 2.2 million weights besides the last layer's."""
    layers = convolution("features.0.0", "features.0.1", 32, 3, 2, "relu6")
    channels, number = 32, 1
    for expansion, filters, blocks, first_strides in STAGES_V2:
        for block in range(blocks):
            name, strides = f"features.{number}.conv", first_strides if block == 0 else 1
            wide, place = channels * expansion, int(expansion > 1)
            branch = convolution(f"{name}.0.0", f"{name}.0.1", wide, 1, 1, "relu6") if place else []
            branch += convolution(f"{name}.{place}.0", f"{name}.{place}.1", wide, 3, strides, "relu6", wide)
            branch += convolution(f"{name}.{place + 1}", f"{name}.{place + 2}", filters, 1)
            layers += [Residual(branch)] if strides == 1 and channels == filters else branch
            channels, number = filters, number + 1
    return [
        *(*layers, *convolution("features.18.0", "features.18.1", 1280, 1, 1, "relu6")),
        *(GlobalAveragePool2D(), Dropout(0.2)),
        Dense(classes, activation="softmax", name="classifier.1"),
    ]


def mobilenet_v3_small(
    input_shape: Shape, classes: int, padding: str | None = None, epsilon: float = 1e-3
) -> list[Layer]:
    """MobileNetV3-Small: 1.5 million weights besides the last layer's."""
    normalised = functools.partial(convolution, padding=padding, momentum=0.01, epsilon=epsilon)
    layers = normalised("features.0.0", "features.0.1", 16, 3, 2, "hard_swish")
    channels = 16
    for number, (size, wide, filters, gated, activation, strides) in enumerate(BLOCKS_V3_SMALL, start=1):
        name, place = f"features.{number}.block", int(wide != channels)
        branch = normalised(f"{name}.0.0", f"{name}.0.1", wide, 1, 1, activation) if place else []
        branch += normalised(f"{name}.{place}.0", f"{name}.{place}.1", wide, size, strides, activation, wide)
        if gated:
            place += 1
            branch.append(gate(f"{name}.{place}", wide, rounded(wide / 4), "relu", "hard_sigmoid"))
        branch += normalised(f"{name}.{place + 1}.0", f"{name}.{place + 1}.1", filters, 1)
        layers += [Residual(branch)] if strides == 1 and channels == filters else branch
        channels = filters
    return [
        *(*layers, *normalised("features.12.0", "features.12.1", 576, 1, 1, "hard_swish")),
        *(GlobalAveragePool2D(), Dense(1024, activation="hard_swish", name="classifier.0"), Dropout(0.2)),
        Dense(classes, activation="softmax", name="classifier.3"),
    ]
