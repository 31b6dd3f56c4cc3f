"""ResNet (He, Zhang, Ren and Sun, "Deep residual learning for image recognition", 2016), with torchvision's names."""

from __future__ import annotations

from collections.abc import Callable

from xpcnn.layers import Dense, GlobalAveragePool2D, Layer, MaxPool2D, Residual
from xpcnn.parameters import Shape
from xpcnn.presets.blocks import convolution

#: Blocks in each of the four stages, and whether they are bottlenecks.
DEPTHS = {18: ((2, 2, 2, 2), False), 34: ((3, 4, 6, 3), False), 50: ((3, 4, 6, 3), True)}


def resnet(depth: int) -> Callable[[Shape, int], list[Layer]]:
    """Return the preset of ResNet with 18, 34 or 50 layers."""
    blocks, bottleneck = DEPTHS[depth]

    def preset(input_shape: Shape, classes: int) -> list[Layer]:
        layers = [*convolution("conv1", "bn1", 64, 7, 2, "relu"), MaxPool2D(3, strides=2, padding=1)]
        channels = 64
        for stage, count in enumerate(blocks, start=1):
            for number in range(count):
                strides = 2 if stage > 1 and number == 0 else 1
                filters = _filters(32 * 2**stage, strides, bottleneck)
                layers.append(_block(f"layer{stage}.{number}", channels, filters))
                channels = filters[-1][0]
        return [*layers, GlobalAveragePool2D(), Dense(classes, activation="softmax", name="fc")]

    return preset


def _filters(count: int, strides: int, bottleneck: bool) -> list[tuple[int, int, int]]:
    """Return the filters, size and strides of a block's convolutions: two of 3x3, or one between two of 1x1."""
    if bottleneck:
        return [(count, 1, 1), (count, 3, strides), (4 * count, 1, 1)]
    return [(count, 3, strides), (count, 3, 1)]


def _block(name: str, channels: int, filters: list[tuple[int, int, int]]) -> Residual:
    """Convolutions with ReLU between them, and a projection where the shape changes."""
    branch: list[Layer] = []
    for number, (count, size, strides) in enumerate(filters, start=1):
        activation = "relu" if number < len(filters) else "linear"
        branch += convolution(f"{name}.conv{number}", f"{name}.bn{number}", count, size, strides, activation)
    out, halved = filters[-1][0], any(strides > 1 for _, _, strides in filters)
    projection = convolution(f"{name}.downsample.0", f"{name}.downsample.1", out, 1, 1 + halved)
    return Residual(branch, projection if halved or channels != out else None, "relu")
