"""Networks by name, each a function of the image's shape and the number of classes."""

from __future__ import annotations

from collections.abc import Callable
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
)
from xpcnn.parameters import Shape

Preset: TypeAlias = Callable[[Shape, int], list[Layer]]


def small(input_shape: Shape, classes: int) -> list[Layer]:
    """Two or three blocks of 3x3 convolution, batch normalisation, ReLU and pooling, sized from the image."""
    side = min(input_shape[1:])
    layers: list[Layer] = []
    for filters in (16, 32, 64) if side >= 16 else (16, 32):
        layers += [Conv2D(filters, 3, padding="same", use_bias=False), BatchNorm(), ReLU()]
        if side >= 2:
            layers.append(MaxPool2D(2))
            side //= 2
    layers.append(Flatten() if side <= 4 else GlobalAveragePool2D())
    return [*layers, Dropout(0.2), Dense(classes, activation="softmax")]


def blood(input_shape: Shape, classes: int) -> list[Layer]:
    """Two 5x5 convolutions of 10 filters, each pooled, and 96 units: the first seed's network as it was drawn."""
    return [
        Conv2D(10, 5, activation="relu"),
        MaxPool2D(2),
        Conv2D(10, 5, activation="relu"),
        MaxPool2D(2),
        Flatten(),
        Dense(96, activation="relu"),
        Dense(classes, activation="softmax"),
    ]


def blood_unpooled(input_shape: Shape, classes: int) -> list[Layer]:
    """The same without the first pooling: the first seed's network as it was coded."""
    layers = blood(input_shape, classes)
    del layers[1]
    return layers


PRESETS: dict[str, Preset] = {"small": small, "blood": blood, "blood-unpooled": blood_unpooled}


def get(name: str) -> Preset:
    """Return the preset called ``name``; ValueError lists those that exist.

    >>> len(get("blood")((1, 50, 50), 8))
    7
    """
    if name not in PRESETS:
        raise ValueError(f"There is no preset {name!r}. Use one of: {', '.join(PRESETS)}.")
    return PRESETS[name]
