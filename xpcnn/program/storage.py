"""Which images between layers are stored in 16 bits: those that only layers write and read whose kernels can."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xpcnn.layers import (
    Add,
    BatchNorm,
    Concatenate,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalAveragePool2D,
    Layer,
    LeakyReLU,
    MaxPool2D,
    MinPool2D,
    Reshape,
)
from xpcnn.layers.activation import Activation
from xpcnn.program.program import INPUT, Node
from xpcnn.registry import is_known

#: Layers whose output is stored as their inputs are, besides most activations.
_AS_READ = {
    Add, BatchNorm, Concatenate, Dropout, Flatten, GlobalAveragePool2D, LeakyReLU, MaxPool2D, MinPool2D, Reshape,
}  # fmt: skip


def store(nodes: Sequence[Node], output: int, dtype: np.dtype[Any]) -> tuple[list[Node], Mapping[int, np.dtype[Any]]]:
    """Return the nodes, told how to store their outputs, and the slots that are stored in a dtype of 16 bits.

    All others are float32: the images, the output, and all that a layer of any other kind reads or writes.
    """
    others, before = {INPUT, output}, 0
    while before < len(others):
        before = len(others)
        for node in nodes:
            slots = {*node.inputs, node.output}
            if not (converts(node.layer) or (_keeps(node.layer) and not slots & others)):
                others |= slots
    stored = {node.output: dtype for node in nodes if node.output not in others}
    told = (
        node.with_options(stored=dtype) if node.output in stored and converts(node.layer) else node for node in nodes
    )
    return [*told], stored


def converts(layer: Layer) -> bool:
    """Whether a layer computes on tensor cores, which read and write either: its kernels round as they write."""
    return type(layer) is Dense or (type(layer) is Conv2D and layer.groups == 1 and layer.padding_mode == "zeros")


def _keeps(layer: Layer) -> bool:
    """Whether a layer stores its output, and the gradient of its input, as it finds the other."""
    if isinstance(layer, Activation):
        return is_known(layer) and layer.activation != "softmax"
    return type(layer) in _AS_READ
