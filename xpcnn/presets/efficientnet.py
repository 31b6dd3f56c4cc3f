"""EfficientNet-B0, with torchvision's names, and EfficientNet-Lite, with those of its port to PyTorch.

Tan and Le, "EfficientNet: rethinking model scaling for convolutional neural networks", 2019. The Lite networks have no
gates, ReLU6 in place of SiLU, and a first and a last stage of fixed size. Stochastic depth is left out. Other ports pad
otherwise, or have another epsilon in batch normalisation.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

from xpcnn.layers import Dense, Dropout, GlobalAveragePool2D, Layer, Residual
from xpcnn.parameters import Shape
from xpcnn.presets.blocks import convolution, gate, rounded

#: Expansion, kernel size, strides, filters and blocks of each stage.
STAGES = (
    (1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3), (6, 5, 1, 112, 3), (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)  # fmt: skip
#: How much wider and deeper EfficientNet-Lite0 to 2 are, and how much they drop out.
LITE = ((1.0, 1.0, 0.2), (1.0, 1.1, 0.2), (1.1, 1.2, 0.3))


def efficientnet_b0(input_shape: Shape, classes: int, padding: str | None = None, epsilon: float = 1e-5) -> list[Layer]:
    """EfficientNet-B0: 4 million weights besides the last layer's."""
    padded = functools.partial(convolution, padding=padding, epsilon=epsilon)
    layers = padded("features.0.0", "features.0.1", 32, 3, 2, "silu")
    channels = 32
    for stage, (expansion, size, first_strides, filters, blocks) in enumerate(STAGES, start=1):
        for block in range(blocks):
            name, strides = f"features.{stage}.{block}.block", first_strides if block == 0 else 1
            wide, place = channels * expansion, int(expansion > 1)
            branch = padded(f"{name}.0.0", f"{name}.0.1", wide, 1, 1, "silu") if place else []
            branch += padded(f"{name}.{place}.0", f"{name}.{place}.1", wide, size, strides, "silu", wide)
            branch.append(gate(f"{name}.{place + 1}", wide, channels // 4, "silu", "sigmoid"))
            branch += padded(f"{name}.{place + 2}.0", f"{name}.{place + 2}.1", filters, 1)
            layers += [Residual(branch)] if strides == 1 and channels == filters else branch
            channels = filters
    return [
        *(*layers, *padded("features.8.0", "features.8.1", 1280, 1, 1, "silu")),
        *(GlobalAveragePool2D(), Dropout(0.2)),
        Dense(classes, activation="softmax", name="classifier.1"),
    ]


def efficientnet_lite(number: int) -> Callable[..., list[Layer]]:
    """Return the preset of EfficientNet-Lite0, 1 or 2."""
    width, depth, dropout = LITE[number]

    def preset(input_shape: Shape, classes: int, padding: str | None = "same", epsilon: float = 1e-3) -> list[Layer]:
        padded = functools.partial(convolution, padding=padding, momentum=0.01, epsilon=epsilon)
        layers = padded("_conv_stem", "_bn0", 32, 3, 2, "relu6")
        channels, block = 32, 0
        for stage, (expansion, size, first_strides, narrow, fewest) in enumerate(STAGES):
            fixed = stage in (0, len(STAGES) - 1)
            filters = rounded(narrow * width)
            for repeat in range(fewest if fixed else math.ceil(fewest * depth)):
                name, strides, wide = f"_blocks.{block}", first_strides if repeat == 0 else 1, channels * expansion
                expand = padded(f"{name}._expand_conv", f"{name}._bn0", wide, 1, 1, "relu6")
                branch = expand if expansion > 1 else []
                branch += padded(f"{name}._depthwise_conv", f"{name}._bn1", wide, size, strides, "relu6", wide)
                branch += padded(f"{name}._project_conv", f"{name}._bn2", filters, 1)
                layers += [Residual(branch)] if strides == 1 and channels == filters else branch
                channels, block = filters, block + 1
        return [
            *(*layers, *padded("_conv_head", "_bn1", 1280, 1, 1, "relu6")),
            *(GlobalAveragePool2D(), Dropout(dropout)),
            Dense(classes, activation="softmax", name="_fc"),
        ]

    return preset
