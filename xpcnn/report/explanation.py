"""Where in an image a network looked: Grad-CAM, or the input's gradient where there is no convolution.

Selvaraju et al., "Grad-CAM: visual explanations from deep networks via gradient-based localization", 2017.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from xpcnn.layers import BatchNorm, Context, Conv2D, LeakyReLU
from xpcnn.layers.activation import Activation, applies
from xpcnn.layers.base import Layer
from xpcnn.layers.pooling import Pool2D
from xpcnn.layers.residual import Add, Save
from xpcnn.network import Network
from xpcnn.ops.workspace import Workspace, to_batch_last

Array = np.ndarray[Any, Any]


def blocks(network: Network) -> list[int]:
    """Return the last step of every convolutional block: the convolution with the normalisation, the sum with what a
    residual stack kept, and the activation that follow it.
    """
    layers = [step.layer for step in network.steps]
    ends = []
    for index, layer in enumerate(layers):
        if isinstance(layer, Conv2D):
            end = index
            while end + 1 < len(layers) and isinstance(layers[end + 1], Activation | LeakyReLU | BatchNorm | Add):
                end += 1
            ends.append(end)
    return ends


def explain(network: Network, x: Array, classes: Array) -> Array:
    """Return how much every place of an image speaks for a class, (n, rows, columns), 0 to 1 in each image.

    network: on the host. x: float32 (n, channels, height, width), as the network takes them. classes: (n,). Maps are of
    the size that the last convolutional block gives; without a convolution they are of the image's, and show how much
    each pixel changes the answer.
    """
    ends = blocks(network)
    after = ends[-1] if ends else -1
    activation, gradient = _down_to(network, np.asarray(x, dtype=network.dtype), classes, after)
    if ends:
        weight = gradient.mean(axis=(2, 3), keepdims=True)
        maps = np.maximum((weight * activation).sum(axis=1), 0)
    else:
        maps = np.abs(gradient).max(axis=1)
    most = maps.max(axis=(1, 2), keepdims=True)
    return np.asarray(np.divide(maps, most, out=np.zeros_like(maps), where=most > 0))


def feature_maps(network: Network, x: Array) -> list[tuple[str, Array]]:
    """Return what each convolutional block makes of one image, (1, channels, height, width): [(name, maps), …]."""
    outputs, _ = _forward(network, np.asarray(x, dtype=network.dtype))
    names = [step.layer.name for step in network.steps if isinstance(step.layer, Conv2D)]
    return [(name, outputs[index][0]) for name, index in zip(names, blocks(network), strict=True)]


def _down_to(network: Network, x: Array, classes: Array, after: int) -> tuple[Array, Array]:
    """Return the output of a step (-1: the input), and the gradient of the score of a class with respect to it.

    The score is what the last activation makes a probability of.
    """
    outputs, backwards = _forward(network, x)
    last = len(network.steps) - 1
    if any(applies(network.steps[last].layer, kind) for kind in ("softmax", "sigmoid")) and last > after:
        last -= 1
    width = network.output_shape[0]
    gradient = np.zeros((len(x), width), dtype=network.dtype)
    gradient[np.arange(len(x)), np.minimum(classes, width - 1)] = 1
    if width == 1:
        gradient[classes == 0] = -1
    stack: list[Array] = []
    views = network.layout.layer_views(np.zeros(network.layout.size, dtype=network.dtype))
    gradient = to_batch_last(gradient, Workspace(np))
    for index in range(last, after, -1):
        layer = network.steps[index].layer
        if isinstance(layer, Add):
            stack.append(gradient)
        elif isinstance(layer, Save):
            gradient = gradient + stack.pop()
        else:
            gradient = _end(layer, backwards[index](gradient.copy(order="K"), views.get(layer.name, {})))
    return (x if after < 0 else outputs[after]), gradient


def _forward(network: Network, x: Array) -> tuple[list[Array], list[Any]]:
    """Return the output of every step in prediction, and what goes back through it."""
    values = network.layout.layer_views(network.parameters)
    for name, buffers in network.buffer_layout.layer_views(network.buffers).items():
        values.setdefault(name, {}).update(buffers)
    outputs: list[Array] = []
    backwards: list[Any] = []
    stack: list[Array] = []
    x = to_batch_last(x, Workspace(np))
    for step in network.steps:
        layer, backward = step.layer, None
        if isinstance(layer, Save):
            stack.append(x)
        elif isinstance(layer, Add):
            x = x + stack.pop()
        else:
            # only in training pooling keeps which cell was the largest; nothing else is to behave as in training
            context = Context(Workspace(np), training=isinstance(layer, Pool2D))
            x, backward = _end(layer, layer.forward(values.get(layer.name, {}), x, context))
        outputs.append(x)
        backwards.append(backward)
    return outputs, backwards


def _end(layer: Layer, result: Any) -> Any:
    """Return what a pass gives; in prediction no pieces of a batch meet."""
    if not layer.meets:
        return result
    try:
        next(result)
    except StopIteration as end:
        return end.value
    raise RuntimeError(f"The layer {layer.name!r} looks at a whole batch in prediction, so it cannot be explained.")
