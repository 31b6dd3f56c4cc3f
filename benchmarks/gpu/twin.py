"""The PyTorch module of an xpcnn model: the same layers, with the same weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from benchmarks.networks import copy_weights
from xpcnn import layers

ACTIVATIONS = {"relu": nn.ReLU, "relu6": nn.ReLU6, "silu": nn.SiLU}


def twin(model: Any) -> nn.Module:
    """Return the module, which gives logits: without the softmax at the end.

    Raises ValueError for a layer that it does not know.
    """
    module = nn.Sequential(*_all(model.layers))
    copy_weights(model, module)
    return module.train()


class Residual(nn.Module):
    """activation(shortcut(x) + branch(x))."""

    def __init__(self, branch: nn.Module, shortcut: nn.Module, activation: nn.Module) -> None:
        super().__init__()
        self.branch, self.shortcut, self.activation = branch, shortcut, activation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.activation(self.branch(x) + self.shortcut(x))


def _all(stack: Sequence[Any]) -> list[nn.Module]:
    return [module for layer in stack for module in _modules(layer)]


def _modules(layer: Any) -> list[nn.Module]:
    match layer:
        case layers.Conv2D() if layer.padding_mode == "zeros":
            return [*_convolution(layer), *_all(layer.sublayers())]
        case layers.Dense():
            linear = nn.Linear(layer.input_shape[0], layer.units, bias=layer.use_bias)
            return [linear, *_all(layer.sublayers())]
        case layers.BatchNorm():
            kind = nn.BatchNorm2d if len(layer.input_shape) == 3 else nn.BatchNorm1d
            return [kind(layer.input_shape[0], layer.epsilon, layer.momentum)]
        case layers.MaxPool2D() if _is_even(layer.window):
            (top, _), (left, _) = layer.window.padding
            return [nn.MaxPool2d(layer.pool_size, layer.strides, (top, left))]
        case layers.GlobalAveragePool2D():
            return [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        case layers.Flatten():
            return [nn.Flatten()]
        case layers.Dropout():
            return [nn.Dropout(layer.rate)]
        case layers.Residual():
            parts = layer.layers, layer.shortcut or (), [part for part in layer.sublayers()[-1:] if layer.activation]
            return [Residual(*(nn.Sequential(*_all(part)) for part in parts))]
        case layers.Activation(activation="softmax"):
            return []
        case layers.Activation() if layer.activation in ACTIVATIONS:
            return [ACTIVATIONS[layer.activation](inplace=True)]
    raise ValueError(f"{layer!r} has no PyTorch module here.")


def _is_even(window: Any) -> bool:
    return all(before == after for before, after in window.padding)


def _convolution(layer: Any) -> list[nn.Module]:
    """Return a convolution, after padding of its own where that is not the same on both sides."""
    (top, bottom), (left, right) = layer.window.padding
    even = _is_even(layer.window)
    convolution = nn.Conv2d(
        layer.input_shape[0], layer.filters, layer.kernel_size, layer.strides, (top, left) if even else 0,
        layer.dilation, layer.groups, layer.use_bias,
    )  # fmt: skip
    return [convolution] if even else [nn.ZeroPad2d((left, right, top, bottom)), convolution]
