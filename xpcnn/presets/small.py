"""The default networks for training from nothing: ``small``, ``medium``, ``tiny`` and, for features, ``dense``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

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
    SqueezeExcitation,
)
from xpcnn.parameters import Shape
from xpcnn.presets.blocks import rounded

Stage: TypeAlias = tuple[int, list[Layer]]


def small(input_shape: Shape, classes: int, width: float = 1) -> list[Layer]:
    """Pooled convolutions of 16, 32 and 48 filters, and residual blocks between them: 99,444 weights.

    That number is for 64x64 colour images in eight classes; it is kept small at any size by global average pooling
    before the last layer. From 128 pixels there are 16 filters once more. Below 48 pixels the filters are 16, 32 and
    64, below 16 pixels only the last two, and blocks are single convolutions. He, Zhang, Ren and Sun, "Deep residual
    learning for image recognition", 2016; Hu, Shen and Sun, "Squeeze-and-excitation networks", 2018.

    width: multiplies the numbers of filters, which stay multiples of 8; twice the width has four times the weights.
    """
    side = min(input_shape[1:])
    count, twice, wide = (rounded(filters * width) for filters in (16, 32, 64 if side < 48 else 48))
    stages: list[Stage]
    if side < 48:
        stages = [(twice, [Residual(_convolution(twice))]), (wide, [Residual(_convolution(wide))])]
    else:
        gate = SqueezeExcitation([Conv2D(wide // 4, 1, activation="relu"), Conv2D(wide, 1, activation="sigmoid")])
        stages = [(twice, [_block(twice), _block(twice)]), (wide, [_block(wide, gate)])]
    first: list[Stage] = [(count, [])] * (0 if side < 16 else 1 if side < 128 else 2)
    return _classifier(side, [*first, *stages], 0.2, classes)


def medium(input_shape: Shape, classes: int, width: float = 1) -> list[Layer]:
    """The network of :func:`small` with twice the filters: 394,720 weights, and up to four times the work."""
    return small(input_shape, classes, 2 * width)


def tiny(input_shape: Shape, classes: int, width: float = 1) -> list[Layer]:
    """Three or four pooled convolutions: under 20,000 weights, for small datasets and slow machines."""
    side = min(input_shape[1:])
    filters = (8, 16, 32) if side < 48 else (8, 16, 24, 48)
    return _classifier(side, [(rounded(count * width), []) for count in filters], 0.1, classes)


def _classifier(side: int, stages: Sequence[Stage], dropout: float, classes: int) -> list[Layer]:
    """Return stages, each a pooled convolution of so many filters and what follows it, and the last layers."""
    layers: list[Layer] = []
    for filters, blocks in stages:
        layers += _convolution(filters)
        if side >= 2:
            layers.append(MaxPool2D(2))
            side //= 2
        layers += blocks
    return [*layers, GlobalAveragePool2D(), Dropout(dropout), Dense(classes, activation="softmax")]


def _block(filters: int, *gate: Layer) -> Residual:
    second = [Conv2D(filters, 3, padding="same", use_bias=False), BatchNorm()]
    return Residual([*_convolution(filters), *second, *gate], activation="relu")


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
