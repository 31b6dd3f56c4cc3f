"""Node fusion for training and prediction, and BatchNorm folding for prediction; activations and Grad-CAM use neither.

Bias, ReLU and max pooling commute, so a convolution is pooled first, and bias and ReLU are applied to the result. A
batch normalisation may do all three in one pass.
The user's layers are unchanged; fused nodes compute the same result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from xpcnn.backend import Array, ArrayModule
from xpcnn.layers import Add, BatchNorm, Conv2D, Dense, MaxPool2D
from xpcnn.layers.activation import applies
from xpcnn.layers.base import Arrays
from xpcnn.losses import Loss
from xpcnn.program.program import Node, readers


class Fold(NamedTuple):
    """A BatchNorm that prediction skips, since it is folded into the weights of the layer before it."""

    layer: Conv2D | Dense
    norm: BatchNorm

    def params(self, xp: ArrayModule, params: Mapping[str, Arrays]) -> dict[str, Array]:
        """Return the combined weight and bias of both layers: w scale and (b - mean) scale + shift."""
        own, norm = params[self.layer.name], params[self.norm.name]
        scale = norm["weight"] / xp.sqrt(norm["running_var"] + self.norm.epsilon)
        weight = own["weight"] * scale.reshape(-1, *(1 for _ in own["weight"].shape[1:]))
        centre = norm["running_mean"] if own.get("bias") is None else norm["running_mean"] - own["bias"]
        return {"weight": weight, "bias": norm["bias"] - centre * scale}


def fold(nodes: Sequence[Node]) -> tuple[list[Node], list[Fold]]:
    """Return the nodes without each BatchNorm that is the only reader of a Conv2D or Dense, and the folds for it."""
    counts = readers(nodes)
    left: list[Node] = []
    folds: list[Fold] = []
    for node in nodes:
        before = left[-1] if left else None
        if (
            before is not None
            and type(node.layer) is BatchNorm
            and type(before.layer) in (Conv2D, Dense)
            and _follows_alone(node, before, counts)
            and not (folds and folds[-1].layer is before.layer)
        ):
            left[-1] = before._replace(output=node.output)
            folds.append(Fold(before.layer, node.layer))  # type: ignore[arg-type]
        else:
            left.append(node)
    return left, folds


def fuse(nodes: Sequence[Node]) -> list[Node]:
    """Return the nodes with convolutions and normalisations fused with the max pooling and the ReLU that follow them.

    These may come in any order. A convolution is also fused with its ReLU6, a fully connected layer with its ReLU.
    After any other max pooling or a sum, both run in place, as does ReLU6 after a normalisation.
    """
    counts, rest = readers(nodes), _pooled_first(nodes)
    fused: list[Node] = []
    for node in rest:
        before = fused[-1] if fused else None
        if before is not None and _follows_alone(node, before, counts):
            layer, onto, options = node.layer, before.layer, before.options
            if type(layer) is MaxPool2D and type(onto) in (Conv2D, BatchNorm) and not options:
                fused[-1] = before.with_options(pool=layer.window)._replace(output=node.output)
                continue
            name = next((name for name in ("relu", "relu6") if applies(layer, name)), None)
            if type(onto) is Conv2D and (
                (name == "relu" and "fused_activation" not in options) or (name and not options)
            ):
                fused[-1] = before.with_options(fused_activation=name)._replace(output=node.output)
                continue
            if name == "relu" and type(onto) in (Dense, BatchNorm) and "relu" not in options:
                fused[-1] = before.with_options(relu=True)._replace(output=node.output)
                continue
            if name and (type(onto) in (MaxPool2D, Add) or (type(onto) is BatchNorm and not options)):
                node = node.with_options(in_place=True)
        fused.append(node)
    return fused


def without_last_activation(nodes: Sequence[Node], loss: Loss | None) -> tuple[Sequence[Node], bool]:
    """Return the nodes without a last activation that the loss computes itself, and whether one was removed."""
    takes_over = loss is not None and loss.activation is not None and applies(nodes[-1].layer, loss.activation)
    return (nodes[:-1], True) if takes_over else (nodes, False)


def _pooled_first(nodes: Sequence[Node]) -> list[Node]:
    """Return the nodes with every ReLU moved after the max poolings that follow it."""
    counts, moved = readers(nodes), list(nodes)
    for number in range(len(moved) - 1):
        first, second = moved[number : number + 2]
        if applies(first.layer, "relu") and type(second.layer) is MaxPool2D and _follows_alone(second, first, counts):
            moved[number] = first._replace(layer=second.layer)
            moved[number + 1] = second._replace(layer=first.layer)
    return moved


def _follows_alone(node: Node, before: Node, counts: Mapping[int, int]) -> bool:
    """Whether a node is the only reader of the previous one's output."""
    return node.inputs == (before.output,) and counts[before.output] == 1
