"""The default networks for training from nothing: ``small``, ``tiny`` and, for features, ``dense``."""

from __future__ import annotations

from collections.abc import Sequence

from xpcnn.layers import (
    BatchNorm,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalAveragePool2D,
    Layer,
    MaxPool2D,
    ReLU,
    Residual,
)
from xpcnn.parameters import Shape
from xpcnn.presets.blocks import rounded


def small(input_shape: Shape, classes: int, width: float = 1) -> list[Layer]:
    """Blocks of 3x3 convolution, batch normalisation, ReLU and pooling: two for 8x8 pixels, up to five for 128x128.

    The blocks of 32 and 64 filters are followed by a residual convolution, where it gains the most for its cost.
    It has 144,984 weights for 64x64 colour images in eight classes. Global average pooling before the last layer keeps
    that number small whatever the image size. He, Zhang, Ren and Sun, "Deep residual learning for image recognition",
    2016.

    width: multiplies the numbers of filters, which stay multiples of 8; twice the width has four times the weights.
    """
    side = min(input_shape[1:])
    blocks = 2 if side < 16 else 3 if side < 48 else 4 if side < 128 else 5
    filters = {2: (32, 64), 3: (16, 32, 64), 4: (16, 32, 64, 128), 5: (16, 32, 64, 96, 128)}[blocks]
    return [
        *_blocks(side, filters, width, deeper=(32, 64)),
        GlobalAveragePool2D(),
        Dropout(0.2),
        Dense(classes, activation="softmax"),
    ]


def tiny(input_shape: Shape, classes: int, width: float = 1) -> list[Layer]:
    """The blocks of :func:`small` with a tenth of the weights, under 20,000, for small datasets and slow machines."""
    side = min(input_shape[1:])
    filters = (8, 16, 32) if side < 48 else (8, 16, 24, 48)
    return [*_blocks(side, filters, width), GlobalAveragePool2D(), Dropout(0.1), Dense(classes, activation="softmax")]


def _blocks(side: int, filters: Sequence[int], width: float, deeper: Sequence[int] = ()) -> list[Layer]:
    layers: list[Layer] = []
    for count in filters:
        own = rounded(count * width)
        layers += _convolution(own)
        if side >= 2:
            layers.append(MaxPool2D(2))
            side //= 2
        if count in deeper:
            layers.append(Residual(_convolution(own)))
    return layers


def _convolution(filters: int) -> list[Layer]:
    return [Conv2D(filters, 3, padding="same", use_bias=False), BatchNorm(), ReLU()]


def dense(input_shape: Shape, classes: int) -> list[Layer]:
    """Two layers of 128 units and the output layer, for features that are not images; :func:`get` does not list it."""
    return [
        Flatten(),
        Dense(128, activation="relu"),
        Dense(128, activation="relu"),
        Dense(classes, activation="softmax"),
    ]
