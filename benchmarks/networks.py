"""The networks to compare, described once and built on both sides with the same weights."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

#: name: (image shape, training batch, layers). A convolution: ("conv", filters, kernel, padding); max pooling by 2.
NETWORKS: dict[str, tuple[tuple[int, int, int], int, list[tuple[Any, ...]]]] = {
    "blood": (
        (1, 50, 50), 32,
        [("conv", 10, 5, 0), ("relu",), ("pool",), ("conv", 10, 5, 0), ("relu",), ("pool",),
         ("flatten",), ("dense", 96), ("relu",), ("dense", 8)],
    ),
    "blood-unpooled": (
        (1, 50, 50), 32,
        [("conv", 10, 5, 0), ("relu",), ("conv", 10, 5, 0), ("relu",), ("pool",),
         ("flatten",), ("dense", 96), ("relu",), ("dense", 8)],
    ),
    "mnist": (
        (1, 28, 28), 32,
        [("conv", 4, 3, 0), ("relu",), ("conv", 8, 3, 0), ("relu",), ("pool",),
         ("flatten",), ("dense", 64), ("relu",), ("dropout", 0.5), ("dense", 10)],
    ),
    "cifar": (
        (3, 32, 32), 64,
        [("conv", 32, 3, 1), ("relu",), ("conv", 32, 3, 1), ("relu",), ("pool",),
         ("conv", 64, 3, 1), ("relu",), ("conv", 64, 3, 1), ("relu",), ("pool",),
         ("flatten",), ("dense", 256), ("relu",), ("dense", 10)],
    ),
    "batchnorm": (
        (3, 64, 64), 64,
        [*(part for filters in (16, 32, 64, 128)
           for part in (("conv", filters, 3, 1), ("norm",), ("relu",), ("pool",))),
         ("average",), ("dense", 8)],
    ),
}  # fmt: skip


def xpcnn_model(shape: tuple[int, ...], description: list[tuple[Any, ...]], dropout: bool = True) -> Any:
    """Return the xpcnn network, compiled with Adam and cross-entropy."""
    import xpcnn
    from xpcnn import layers

    stack: list[Any] = []
    for kind, *sizes in description:
        stack += {
            "conv": lambda: [layers.Conv2D(sizes[0], sizes[1], padding=sizes[2])],
            "dense": lambda: [layers.Dense(sizes[0])],
            "dropout": lambda: [layers.Dropout(sizes[0])] if dropout else [],
            "relu": lambda: [layers.ReLU()],
            "pool": lambda: [layers.MaxPool2D(2)],
            "norm": lambda: [layers.BatchNorm()],
            "average": lambda: [layers.GlobalAveragePool2D()],
            "flatten": lambda: [layers.Flatten()],
        }[kind]()  # fmt: skip
    backend = os.environ.get("XPCNN_BACKEND") or "numpy"
    model = xpcnn.Sequential([*stack, layers.Softmax()], input_shape=shape, xp=backend)
    model.compile("adam", "cross_entropy")
    return model


def torch_model(shape: tuple[int, ...], description: list[tuple[Any, ...]], dropout: bool = True) -> Any:
    """Return the PyTorch network, which returns logits."""
    import torch
    from torch import nn

    x = torch.zeros(1, *shape)
    stack: list[Any] = []
    for kind, *sizes in description:
        width = x.shape[1]
        part = {
            "conv": lambda: nn.Conv2d(width, sizes[0], sizes[1], padding=sizes[2]),
            "dense": lambda: nn.Linear(width, sizes[0]),
            "dropout": lambda: nn.Dropout(sizes[0]) if dropout else nn.Identity(),
            "relu": lambda: nn.ReLU(),
            "pool": lambda: nn.MaxPool2d(2),
            "norm": lambda: nn.BatchNorm2d(width),
            "average": lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
            "flatten": lambda: nn.Flatten(),
        }[kind]()  # fmt: skip
        stack.append(part.eval())
        x = stack[-1](x)
    return nn.Sequential(*stack).train()


def copy_weights(model: Any, module: Any) -> None:
    """Copy the weights of the xpcnn model to the PyTorch module; both have the same order and layout."""
    import torch

    from xpcnn.backend import to_host

    with torch.no_grad():
        for ours, theirs in zip(model.parameters.values(), module.parameters(), strict=True):
            theirs.copy_(torch.from_numpy(np.array(to_host(ours))))


def samples(shape: tuple[int, ...], batch: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return a batch of random images and labels."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(batch, *shape)).astype(np.float32), rng.integers(0, 8, batch)
