"""Where in an image a network looked: Grad-CAM, or the input's gradient where there is no convolution.

Selvaraju et al., "Grad-CAM: visual explanations from deep networks via gradient-based localization", 2017.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from xpcnn.layers import Add, BatchNorm, Context, Conv2D, Layer, LeakyReLU
from xpcnn.layers.activation import Activation, applies
from xpcnn.layers.merging import Merge
from xpcnn.ops.workspace import Workspace, to_batch_last
from xpcnn.program.execute import Shard
from xpcnn.program.network import Network
from xpcnn.program.program import INPUT, for_gradient_of, readers

Array = np.ndarray[Any, Any]


def blocks(network: Network) -> list[int]:
    """Return the slot in which every convolutional block ends: the convolution with the normalisation, the sum of a
    residual block, and the activation that follow it.
    """
    return _ends(network, Conv2D)


def explained(network: Network) -> int:
    """Return the slot whose maps explain an answer: where the last convolutional block ends, or the merge of the last
    ones, with nothing that leads past it; that of the images if there is none.
    """
    convolutions, nodes = blocks(network), network.nodes
    maps = {node.output for node in nodes if len(node.layer.output_shape) == 3}
    passed = {slot for node in nodes for slot in range(min(node.inputs) + 1, node.output)}
    ends = (slot for slot in _ends(network, (Conv2D, Merge)) if slot in maps - passed and slot >= min(convolutions))
    return max(ends, default=INPUT) if convolutions else INPUT


def _ends(network: Network, kinds: type[Layer] | tuple[type[Layer], ...]) -> list[int]:
    """Return the slot in which every layer of these kinds ends, with what belongs to its block after it."""
    counts = readers(network.nodes)
    ends = {node.output: node.output for node in network.nodes if isinstance(node.layer, kinds)}
    for node in network.nodes:
        if isinstance(node.layer, Activation | LeakyReLU | BatchNorm | Add):
            ends.update({start: node.output for start, end in ends.items() if end in node.inputs and counts[end] == 1})
    return list(ends.values())


def explain(network: Network, x: Array, classes: Array) -> Array:
    """Return how much every place of an image speaks for a class, (n, rows, columns): 0, or more in units of the score.

    network: on the host. x: float32 (n, channels, height, width), as the network takes them. classes: (n,). Maps are of
    the size that the last convolutional block gives, or the merge of the last ones; without a convolution they are of
    the image's, and show how much each pixel changes the answer.
    """
    slot = explained(network)
    activation, gradient = _down_to(network, x, classes, slot)
    if slot != INPUT:
        weight = gradient.mean(axis=(2, 3), keepdims=True)
        return np.asarray(np.maximum((weight * activation).sum(axis=1), 0))
    return np.asarray(np.abs(gradient).max(axis=1))


def feature_maps(network: Network, x: Array) -> list[tuple[str, Array]]:
    """Return what each convolutional block makes of one image, (1, channels, height, width): [(name, maps), …]."""
    shard = Shard(
        network.plain, network.params, np.asarray(x, dtype=network.dtype), Context(Workspace(np)), releases=False
    )
    for segment in network.plain.segments:
        shard.forward(segment)
    names = [node.layer.name for node in network.nodes if isinstance(node.layer, Conv2D)]
    return [(name, shard.slots[slot][0]) for name, slot in zip(names, blocks(network), strict=True)]


def _down_to(network: Network, x: Array, classes: Array, slot: int) -> tuple[Array, Array]:
    """Return what a slot holds, and the gradient of the score of a class with respect to it.

    The score is what the last activation makes a probability of.
    """
    nodes, last = network.nodes, network.nodes[-1]
    output = last.output
    if any(applies(last.layer, kind) for kind in ("softmax", "sigmoid")) and last.output != slot:
        nodes, output = nodes[:-1], last.inputs[0]
    width = network.output_shape[0]
    gradient = np.zeros((len(x), width), dtype=network.dtype)
    gradient[np.arange(len(x)), np.minimum(classes, width - 1)] = 1
    if width == 1:
        gradient[classes == 0] = -1
    context = Context(Workspace(np), backward=True)
    unused = network.layout.layer_views(np.zeros(network.layout.size, dtype=network.dtype))
    program = for_gradient_of(slot, nodes, output)
    x = np.asarray(x, dtype=network.dtype)
    shard = Shard(program, network.params, x, context, unused, releases=network.knows())
    (segment,) = program.segments
    shard.forward(segment)
    shard.dy[output] = to_batch_last(gradient, context.workspace)
    shard.backward(segment)
    return shard.slots[slot], shard.dy[slot]
