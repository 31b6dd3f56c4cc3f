"""Preset networks by name, each a function of the input shape and the number of classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from xpcnn.hints import did_you_mean
from xpcnn.layers import (
    AveragePool2D,
    BatchNorm,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalAveragePool2D,
    Layer,
    MaxPool2D,
    ReLU,
    Reshape,
    Residual,
    Softmax,
    Tanh,
)
from xpcnn.parameters import Shape

Preset: TypeAlias = Callable[[Shape, int], list[Layer]]


def small(input_shape: Shape, classes: int) -> list[Layer]:
    """Blocks of 3x3 convolution, batch normalisation, ReLU and pooling: two for 8x8 pixels, up to five for 128x128.

    The blocks of 32 and 64 filters are followed by a residual convolution, where it gains the most for its cost.
    It has 144,984 weights for 64x64 colour images in eight classes. Global average pooling before the last layer keeps
    that number small whatever the image size. He, Zhang, Ren and Sun, "Deep residual learning for image recognition",
    2016.
    """
    side = min(input_shape[1:])
    blocks = 2 if side < 16 else 3 if side < 48 else 4 if side < 128 else 5
    filters = {2: (32, 64), 3: (16, 32, 64), 4: (16, 32, 64, 128), 5: (16, 32, 64, 96, 128)}[blocks]
    return [
        *_blocks(side, filters, deeper=(32, 64)),
        GlobalAveragePool2D(),
        Dropout(0.2),
        Dense(classes, activation="softmax"),
    ]


def tiny(input_shape: Shape, classes: int) -> list[Layer]:
    """The blocks of :func:`small` with a tenth of the weights, under 20,000, for small datasets and slow machines."""
    side = min(input_shape[1:])
    filters = (8, 16, 32) if side < 48 else (8, 16, 24, 48)
    return [*_blocks(side, filters), GlobalAveragePool2D(), Dropout(0.1), Dense(classes, activation="softmax")]


def _blocks(side: int, filters: Sequence[int], deeper: Sequence[int] = ()) -> list[Layer]:
    layers: list[Layer] = []
    for count in filters:
        layers += _convolution(count)
        if side >= 2:
            layers.append(MaxPool2D(2))
            side //= 2
        if count in deeper:
            layers.append(Residual(_convolution(count)))
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


def lenet(input_shape: Shape, classes: int) -> list[Layer]:
    """LeNet-5 (LeCun et al., 1998): two 5x5 convolutions with average pooling, then 120 and 84 units, all with tanh."""
    return [
        Conv2D(6, 5, padding=2, activation="tanh"),
        AveragePool2D(2),
        Conv2D(16, 5, activation="tanh"),
        AveragePool2D(2),
        Flatten(),
        Dense(120, activation="tanh"),
        Dense(84, activation="tanh"),
        Dense(classes, activation="softmax"),
    ]


def blood(input_shape: Shape, classes: int) -> list[Layer]:
    """Two 5x5 convolutions of 10 filters, each pooled, and 96 units: the first origin's network, as drawn."""
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
    """The same without the first pooling: the first origin's network, as coded."""
    layers = blood(input_shape, classes)
    del layers[1]
    return layers


def zero_or_one(input_shape: Shape, classes: int) -> list[Layer]:
    """The second origin's network: convolution, pooling with stride 1, 100 tanh units, softmax as a separate layer."""
    _, height, width = input_shape
    return [
        Conv2D(5, 3),
        ReLU(),
        MaxPool2D(2, strides=1),
        Reshape((5 * (height - 3) * (width - 3),)),
        Dense(100),
        Tanh(),
        Dense(classes),
        Softmax(),
    ]


def four_small(number: int) -> Preset:
    """Return one of the third origin's four test networks, 1 to 4."""

    def preset(input_shape: Shape, classes: int) -> list[Layer]:
        stacks: tuple[list[Layer], ...] = (
            [Conv2D(8, 3, activation="relu"), Flatten()],
            [Conv2D(8, 3, activation="relu"), Conv2D(16, 3, activation="relu"), Flatten()],
            [
                *(Conv2D(4, 3, activation="relu"), MaxPool2D(2)),
                *(Conv2D(8, 3, activation="relu"), Dropout(0.2), Flatten()),
            ],
            [
                *(Conv2D(4, 3, activation="relu"), Conv2D(8, 3, activation="relu"), MaxPool2D(2)),
                *(Flatten(), Dense(64, activation="relu"), Dropout(0.1)),
            ],
        )
        return [*stacks[number - 1], Dense(classes, activation="softmax")]

    return preset


def full_batch(input_shape: Shape, classes: int) -> list[Layer]:
    """The fourth origin's network: one pooled convolution of 8 filters and the output layer."""
    return [Conv2D(8, 3, activation="relu"), MaxPool2D(2), Flatten(), Dense(classes, activation="softmax")]


def homework(input_shape: Shape, classes: int) -> list[Layer]:
    """The fifth origin's network: one padded, pooled convolution of 8 filters, and 100 units."""
    return [
        Conv2D(8, 3, padding=1, activation="relu"),
        MaxPool2D(2),
        Flatten(),
        Dense(100, activation="relu"),
        Dense(classes, activation="softmax"),
    ]


PRESETS: dict[str, Preset] = {
    "small": small,
    "tiny": tiny,
    "lenet": lenet,
    "blood": blood,
    "blood-unpooled": blood_unpooled,
    "zero-or-one": zero_or_one,
    **{f"four-small-{number}": four_small(number) for number in (1, 2, 3, 4)},
    "full-batch": full_batch,
    "homework": homework,
}


def get(name: str) -> Preset:
    """Return the preset called ``name``; raises ValueError, listing all presets, for another name.

    >>> len(get("blood")((1, 50, 50), 8))
    7
    """
    if not isinstance(name, str) or name not in PRESETS:
        hint = did_you_mean("preset", name, [*PRESETS])
        raise ValueError(f"There is no preset {name!r}.{hint} Use one of: {', '.join(PRESETS)}.")
    return PRESETS[name]
