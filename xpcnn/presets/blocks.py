"""What the networks with pretrained weights are made of: normalised convolutions, gates, and rounded widths."""

from __future__ import annotations

from xpcnn.layers import BatchNorm, Conv2D, Layer, SqueezeExcitation
from xpcnn.layers.activation import Activation


def convolution(
    name: str,
    norm: str,
    filters: int,
    size: int,
    strides: int = 1,
    activation: str = "linear",
    groups: int = 1,
    padding: int | str | None = None,
    momentum: float = 0.1,
    epsilon: float = 1e-5,
) -> list[Layer]:
    """Convolution without bias, batch normalisation, activation; padded by half the kernel's size unless said."""
    return [
        Conv2D(
            filters, size, strides, size // 2 if padding is None else padding, groups=groups, use_bias=False, name=name
        ),
        BatchNorm(momentum, epsilon, name=norm),
        *([] if activation == "linear" else [Activation(activation)]),
    ]


def gate(name: str, channels: int, squeezed: int, activation: str, last: str) -> SqueezeExcitation:
    """Squeeze-and-excitation by two 1x1 convolutions, ``fc1`` and ``fc2``."""
    return SqueezeExcitation(
        [
            Conv2D(squeezed, 1, activation=activation, name=f"{name}.fc1"),
            Conv2D(channels, 1, activation=last, name=f"{name}.fc2"),
        ]
    )


def rounded(channels: float) -> int:
    """Return the nearest multiple of 8 that is at least 8, and at least 90 % of ``channels``.

    >>> [rounded(channels) for channels in (4, 17.6, 26.4)]
    [8, 16, 24]
    """
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * channels else nearest + 8
