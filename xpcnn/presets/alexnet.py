"""AlexNet (Krizhevsky, "One weird trick for parallelizing convolutional neural networks", 2014), as in torchvision."""

from __future__ import annotations

from xpcnn.layers import AdaptiveAveragePool2D, Conv2D, Dense, Dropout, Flatten, Layer, MaxPool2D
from xpcnn.parameters import Shape


def alexnet(input_shape: Shape, classes: int) -> list[Layer]:
    """Five convolutions and three fully connected layers: 57 million weights besides the last layer's."""
    return [
        *(Conv2D(64, 11, 4, 2, activation="relu", name="features.0"), MaxPool2D(3, strides=2)),
        *(Conv2D(192, 5, 1, 2, activation="relu", name="features.3"), MaxPool2D(3, strides=2)),
        Conv2D(384, 3, 1, 1, activation="relu", name="features.6"),
        Conv2D(256, 3, 1, 1, activation="relu", name="features.8"),
        *(Conv2D(256, 3, 1, 1, activation="relu", name="features.10"), MaxPool2D(3, strides=2)),
        *(AdaptiveAveragePool2D(6), Flatten()),
        *(Dropout(0.5), Dense(4096, activation="relu", name="classifier.1")),
        *(Dropout(0.5), Dense(4096, activation="relu", name="classifier.4")),
        Dense(classes, activation="softmax", name="classifier.6"),
    ]
