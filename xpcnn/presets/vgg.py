"""VGG-11 with batch normalisation (Simonyan and Zisserman, 2015), with torchvision's names."""

from __future__ import annotations

from xpcnn.layers import AdaptiveAveragePool2D, BatchNorm, Conv2D, Dense, Dropout, Flatten, Layer, MaxPool2D, ReLU
from xpcnn.parameters import Shape

#: The filters of each convolution; 0 pools.
FILTERS = (64, 0, 128, 0, 256, 256, 0, 512, 512, 0, 512, 512, 0)


def vgg_11(input_shape: Shape, classes: int) -> list[Layer]:
    """Eight 3x3 convolutions and three fully connected layers: 129 million weights besides the last layer's."""
    layers: list[Layer] = []
    for filters in FILTERS:
        number = len(layers)
        if filters:
            layers.append(Conv2D(filters, 3, padding=1, name=f"features.{number}"))
            layers += [BatchNorm(name=f"features.{number + 1}"), ReLU()]
        else:
            layers.append(MaxPool2D(2))
    return [
        *(*layers, AdaptiveAveragePool2D(7), Flatten()),
        *(Dense(4096, activation="relu", name="classifier.0"), Dropout(0.5)),
        *(Dense(4096, activation="relu", name="classifier.3"), Dropout(0.5)),
        Dense(classes, activation="softmax", name="classifier.6"),
    ]
