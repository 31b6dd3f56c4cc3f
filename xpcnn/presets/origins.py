"""LeNet-5, and the networks of the five origins."""

from __future__ import annotations

from collections.abc import Callable

from xpcnn.layers import (
    AveragePool2D,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    Layer,
    MaxPool2D,
    ReLU,
    Reshape,
    Softmax,
    Tanh,
)
from xpcnn.parameters import Shape


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


def four_small(number: int) -> Callable[[Shape, int], list[Layer]]:
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
