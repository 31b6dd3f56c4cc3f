"""A built stack of layers: its nodes, its parameters and buffers, and the programs that run them."""

from __future__ import annotations

import copy
import math
import threading
import weakref
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np

from xpcnn import random
from xpcnn.backend import Array, ArrayModule, for_run, to_device, to_host
from xpcnn.layers import Conv2D, Dropout, Layer
from xpcnn.layers.base import Arrays
from xpcnn.losses import Loss
from xpcnn.ops.copies import copy_each
from xpcnn.parameters import Layout, Shape, check_values
from xpcnn.precision import precision_of, stored_dtype
from xpcnn.program.build import Builder, check_all_used, name_layers
from xpcnn.program.fuse import fold, fuse, without_last_activation
from xpcnn.program.program import INPUT, Node, Program, for_prediction, for_training, walk
from xpcnn.program.storage import store
from xpcnn.registry import is_known

T = TypeVar("T")
#: How many multiplications of other layers take NumPy as long as one of a depthwise convolution. Measured without
#: kernels, 224x224 pixels: 73 in MobileNetV3-Small, 109 in MobileNetV2, 122 in EfficientNet-Lite0.
DEPTHWISE = 100


class Network:
    """Layers connected for one input shape, usually (channels, height, width).

    Building names every layer (``conv2d_1``, …: counted per kind, in order), infers shapes, lays out all parameters in
    one flat array and draws their initial values on the host, each keyed by the seed and its index. dtype: float32
    except in gradient checks. values: {"conv2d_1.weight": array, …}, used instead of drawn values. owner: the model
    that owns the layers and may rebuild them.

    Raises ValueError for a stack that cannot be built, or a name that is used twice.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        input_shape: Shape,
        xp: ArrayModule,
        seed: int = 0,
        dtype: Any = np.float32,
        values: Mapping[str, np.ndarray[Any, Any]] | None = None,
        owner: object | None = None,
    ) -> None:
        owner = self if owner is None else owner
        _refuse_others(layers, owner)
        self.layers = list(layers)
        self.input_shape = tuple(input_shape)
        self.dtype = np.dtype(dtype)
        self._lock = threading.Lock()
        self._idle: dict[Hashable, list[tuple[Hashable, Any]]] = {}
        name_layers(self.layers)
        builder = Builder(self.input_shape)
        self._output = builder.chain(self.layers)
        self.nodes: tuple[Node, ...] = tuple(builder.nodes)
        check_all_used(self.nodes, self._output)
        #: The output slot of every named layer.
        self.outputs: Mapping[str, int] = builder.outputs
        self.output_shape = builder.shapes[self._output]
        self.layout = Layout(d for node in self.nodes for d in node.layer.declarations)
        self.buffer_layout = Layout(d for node in self.nodes for d in node.layer.buffers)
        if values is not None:
            check_values(values, (*self.layout.declarations, *self.buffer_layout.declarations))
        self.parameters: Array = self._fill(self.layout, seed, values)
        self.buffers: Array = self._fill(self.buffer_layout, seed, values)
        self._prepare_programs()
        self.to(xp)
        for layer in walk(self.layers):  # last, so that layers of an invalid stack stay unowned
            layer.owner = weakref.ref(owner)

    def _prepare_programs(self) -> None:
        """Count the work of the nodes, and fold those that prediction does not need."""
        #: The number of multiplications in the forward pass of one image, from matrices and kernels alone.
        self.multiplications = sum(map(_multiplications, self.nodes))
        depthwise = sum(_multiplications(node) for node in self.nodes if _is_depthwise(node.layer))
        self._effort = self.multiplications + (DEPTHWISE - 1) * depthwise
        self._folded_nodes, self._folds = fold(self.nodes)
        self._programs: dict[bool, Program] = {}

    def frozen_start(self) -> int:
        """Return how many leading nodes have the same output in every epoch, of which later ones read only the last."""
        frozen, fixed = self.frozen(), 0
        for number, node in enumerate(self.nodes[:-1]):
            learns = bool(node.layer.declarations) and node.layer.name not in frozen
            if learns or isinstance(node.layer, Dropout) or not is_known(node.layer):
                break
            made = {node.output, *(later.output for later in self.nodes[number + 1 :])}
            if all(slot in made for later in self.nodes[number + 1 :] for slot in later.inputs):
                fixed = number + 1
        return fixed

    def split(self, count: int) -> tuple[Network, Network]:
        """Return the first ``count`` nodes and the others as two networks, which share the arrays of this one.

        They are for prediction and training, not for moving to another array module.
        """
        slot = self.nodes[count - 1].output
        first = self._part(self.nodes[:count], self.input_shape, slot)
        rest = [n._replace(inputs=tuple(INPUT if i == slot else i for i in n.inputs)) for n in self.nodes[count:]]
        return first, self._part(rest, first.output_shape, self._output)

    def _part(self, nodes: Sequence[Node], input_shape: Shape, output: int) -> Network:
        part = copy.copy(self)
        part.nodes, part.input_shape, part._output = tuple(nodes), input_shape, output
        part.output_shape = nodes[-1].layer.output_shape
        part._lock, part._idle = threading.Lock(), {}
        part._prepare_programs()
        return part

    def _fill(
        self, layout: Layout, seed: int, values: Mapping[str, np.ndarray[Any, Any]] | None
    ) -> np.ndarray[Any, Any]:
        """Return a flat host array with the given values, or with newly drawn initial values."""
        flat = np.zeros(layout.size, dtype=self.dtype)
        for number, declaration in enumerate(layout.declarations):
            if values is None:
                drawn = declaration.initializer(random.generator(seed, "weights", number), declaration.shape)
                flat[layout.span(declaration)] = drawn.ravel()
            else:
                flat[layout.span(declaration)] = values[declaration.full_name].ravel()
        return flat

    def to(self, xp: ArrayModule) -> None:
        """Move parameters and buffers to an array module, and compute with it from now on."""
        self.xp = xp
        self._programs = {}  # which depend on the precision
        for layer in walk(self.layers):
            layer.xp = xp
        self.parameters = to_device(xp, self.parameters)
        self.buffers = to_device(xp, self.buffers)
        self._idle = {}  # objects lent earlier refer to the old arrays
        views = self.layout.layer_views(self.parameters)
        for name, buffers in self.buffer_layout.layer_views(self.buffers).items():
            views.setdefault(name, {}).update(buffers)
        #: Views of parameters and buffers by layer.
        self.params: Mapping[str, Arrays] = views

    def host_values(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return every parameter and buffer by name, on the host: views if the network is there."""
        values = self.layout.views(to_host(self.parameters))
        return values | self.buffer_layout.views(to_host(self.buffers))

    def set_values(self, values: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """Write every parameter and buffer by name, in place; ValueError, with nothing written, if one does not fit."""
        check_values(values, (*self.layout.declarations, *self.buffer_layout.declarations))
        for layout, flat in ((self.layout, self.parameters), (self.buffer_layout, self.buffers)):
            for name, view in layout.views(flat).items():
                view[...] = to_device(self.xp, values[name].astype(self.dtype, copy=False))

    def update_buffers(self, values: Mapping[str, Mapping[str, Array]]) -> None:
        """Write new buffer values, by layer, in place."""
        pairs = [(self.params[layer][name], value) for layer, given in values.items() for name, value in given.items()]
        at_once = max(1, len(pairs)) if self.knows() else 1  # a custom layer may move a value from buffer to buffer
        for first in range(0, len(pairs), at_once):
            copy_each(self.xp, pairs[first : first + at_once])

    def for_run(self, images: int, training: bool = False) -> ArrayModule:
        """Return the array module for a run over so many images: training takes three times the multiplications."""
        return for_run(self.xp, self._effort * images * (3 if training else 1))

    @property
    def changes(self) -> int:
        """How often any attribute of a layer has been set."""
        return sum(layer._changes for layer in walk(self.layers))

    def knows(self, *others: object) -> bool:
        """Whether all layers and other parts are from this package, so that their use of arrays is known."""
        return all(is_known(part) for part in (*(node.layer for node in self.nodes), *others))

    @contextmanager
    def borrow(self, kind: Hashable, make: Callable[[], T], only: Hashable = None) -> Iterator[T]:
        """Lend an object, such as working memory, that an earlier run of this kind has left, or one from ``make``.

        Concurrent runs get different objects. An object is not kept after an error, or if the parameters have since
        moved to another array module. only: the purpose of the object; objects of this kind for other purposes are
        dropped, and at most one is kept.
        """
        idle = self._idle
        with self._lock:
            left = [thing for purpose, thing in idle.pop(kind, []) if purpose == only]
            thing = left.pop() if left else None
            idle[kind] = [(only, other) for other in left]
        thing = make() if thing is None else thing
        yield thing
        with self._lock:
            if idle is self._idle:
                idle[kind] = [*([] if only is not None else idle.get(kind, [])), (only, thing)]

    def frozen(self) -> set[str]:
        """Return the names of the layers that are not trained, including those inside a frozen layer."""
        frozen = (inner for layer in walk(self.layers) if not layer.trainable for inner in walk([layer]))
        return {layer.name for layer in frozen if not layer.hidden}

    def rates(self) -> dict[str, float]:
        """Return the fraction of the learning rate that each layer takes, where it is not all of it."""
        factors = {layer.name: layer.learning_rate_factor for layer in walk(self.layers)}
        return {name: factor for name, factor in factors.items() if factor != 1}

    @property
    def plain(self) -> Program:
        """The program without any fusion, in which every output stays in its slot."""
        return Program(self.nodes, self._output)

    def program(self, loss: Loss | None = None) -> Program:
        """Return the program for prediction, with BatchNorm folded.

        loss: if it can compute the last activation itself, more accurately, the program returns logits.
        """
        nodes, from_logits = without_last_activation(self._folded_nodes, loss)
        if from_logits not in self._programs:
            output = self._folded_nodes[-1].inputs[0] if from_logits else self._output
            fused, stored = self._fused(nodes, output)
            self._programs[from_logits] = for_prediction(fused, output, from_logits)._replace(stored=stored)
        return self._programs[from_logits]

    def training_program(self, loss: Loss) -> Program:
        """Return the program for training, given the layers that are currently frozen."""
        nodes, from_logits = without_last_activation(self.nodes, loss)
        output = self.nodes[-1].inputs[0] if from_logits else self._output
        fused, stored = self._fused(nodes, output)
        return for_training(fused, output, from_logits, self.frozen())._replace(stored=stored)

    def _fused(self, nodes: Sequence[Node], output: int) -> tuple[Sequence[Node], Mapping[int, np.dtype[Any]]]:
        """Return the nodes fused, and the slots that are stored in 16 bits, as the precision allows."""
        fused, dtype = fuse(nodes), stored_dtype(self.xp)
        return (fused, {}) if dtype is None or self.dtype != np.float32 else store(fused, output, dtype)

    def storage(self) -> dict[str, str]:
        """Return what the output of each layer is stored in while training, by name: "" if the next one replaces it."""
        nodes, stored = self._fused(self.nodes, self._output)
        kept = {node.output: str(self.dtype) for node in nodes} | dict.fromkeys(stored, precision_of(self.xp))
        return {name: kept.get(slot, "") for name, slot in self.outputs.items()}

    def prediction_params(self, folded: dict[str, dict[str, Array]]) -> Mapping[str, Arrays]:
        """Return the arrays of :meth:`program`, by layer.

        folded: receives those of layers with a folded BatchNorm, written in place if they already exist.
        """
        for one in self._folds:
            arrays = one.params(self.xp, self.params)
            kept = folded.setdefault(one.layer.name, arrays)
            for name, array in arrays.items():
                kept[name][...] = array
        return {**self.params, **folded}


def _multiplications(node: Node) -> int:
    """Return the number of multiplications of one image with a layer's matrices and kernels."""
    matrices = (declaration for declaration in node.layer.declarations if len(declaration.shape) > 1)
    return sum(declaration.size * math.prod(node.layer.output_shape[1:]) for declaration in matrices)


def _is_depthwise(layer: Layer) -> bool:
    return isinstance(layer, Conv2D) and 1 < layer.groups == layer.input_shape[0]


def _refuse_others(layers: Sequence[Layer], owner: object) -> None:
    """Raise ValueError for a layer of another model, since building it here would change its shapes there."""
    for layer in walk(layers):
        other = None if layer.owner is None else layer.owner()
        if other is not None and other is not owner:
            raise ValueError(
                f"The layer {layer.name or layer!r} belongs to another model, which building it here would change. "
                "Create a new layer, and copy weights with get_weights and set_weights."
            )
