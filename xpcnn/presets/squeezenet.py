"""SqueezeNet 1.1 (Iandola et al., "SqueezeNet", 2016), with torchvision's names."""

from __future__ import annotations

from xpcnn.layers import Branches, Conv2D, Dropout, GlobalAveragePool2D, Layer, MaxPool2D, Softmax
from xpcnn.parameters import Shape

#: Squeezed channels and half of the filters of each fire block, by its number in the stack; 2, 5 and 8 pool.
FIRES = {
    **dict.fromkeys((3, 4), (16, 64)),
    **dict.fromkeys((6, 7), (32, 128)),
    **dict.fromkeys((9, 10), (48, 192)),
    **dict.fromkeys((11, 12), (64, 256)),
}


def squeezenet(input_shape: Shape, classes: int) -> list[Layer]:
    """Fire blocks, which squeeze channels and expand them by 1x1 and 3x3 filters side by side: 1.2 million weights.

    Pooling keeps the last rows and columns of an image with an even side.
    """
    layers: list[Layer] = [Conv2D(64, 3, 2, activation="relu", name="features.0")]
    side = (min(input_shape[1:]) - 1) // 2
    for number in range(2, 13):
        if number in FIRES:
            layers += _fire(f"features.{number}", *FIRES[number])
        else:
            layers.append(MaxPool2D(3, strides=2, padding="valid" if side % 2 else "same"))
            side //= 2
    return [
        *layers,
        Dropout(0.5),
        Conv2D(classes, 1, activation="relu", name="classifier.1"),
        GlobalAveragePool2D(),
        Softmax(),
    ]


def _fire(name: str, squeezed: int, filters: int) -> list[Layer]:
    one = Conv2D(filters, 1, activation="relu", name=f"{name}.expand1x1")
    three = Conv2D(filters, 3, padding=1, activation="relu", name=f"{name}.expand3x3")
    return [Conv2D(squeezed, 1, activation="relu", name=f"{name}.squeeze"), Branches([[one], [three]])]
