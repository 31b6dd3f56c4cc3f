"""A built stack of layers: its nodes, its parameters and buffers, and the programs that run them."""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np

from xpcnn import random
from xpcnn.backend import Array, ArrayModule, to_device, to_host
from xpcnn.layers import Layer
from xpcnn.layers.base import Arrays
from xpcnn.losses import Loss
from xpcnn.parameters import Layout, Shape, check_values
from xpcnn.program.build import Builder, check_all_used, name_layers
from xpcnn.program.fuse import fold, fuse, without_last_activation
from xpcnn.program.program import Node, Program, for_prediction, for_training, walk
from xpcnn.registry import is_known

T = TypeVar("T")


class Network:
    """Layers connected for one input shape, (channels, height, width) as a rule.

    Building names every layer (``conv2d_1``, …: counted per kind, in order), infers shapes, lays all parameters in one
    flat array and draws their first values on the host, each keyed by the seed and its own number. ``dtype`` is
    float32 except in gradient checks. values: {"conv2d_1.weight": array, …} to start from
    instead. owner: the model whose layers these are, which may build them again.

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
        self._folded_nodes, self._folds = fold(self.nodes)
        self._programs: dict[bool, Program] = {}
        self.to(xp)
        for layer in walk(self.layers):  # last, so that a stack that cannot be built leaves its layers free
            layer.owner = weakref.ref(owner)

    def _fill(
        self, layout: Layout, seed: int, values: Mapping[str, np.ndarray[Any, Any]] | None
    ) -> np.ndarray[Any, Any]:
        """Return a flat host array with the values given, or with initial values drawn."""
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
        for layer in walk(self.layers):
            layer.xp = xp
        self.parameters = to_device(xp, self.parameters)
        self.buffers = to_device(xp, self.buffers)
        self._idle = {}  # what was lent before refers to the old arrays
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
        """Write every parameter and buffer by name, in place; ValueError, with nothing written, if any does not fit."""
        check_values(values, (*self.layout.declarations, *self.buffer_layout.declarations))
        for layout, flat in ((self.layout, self.parameters), (self.buffer_layout, self.buffers)):
            for name, view in layout.views(flat).items():
                view[...] = to_device(self.xp, values[name].astype(self.dtype, copy=False))

    def update_buffers(self, values: Mapping[str, Mapping[str, Array]]) -> None:
        """Write new values of buffers, by layer, in place."""
        for layer, buffers in values.items():
            for name, value in buffers.items():
                self.params[layer][name][...] = value

    @property
    def multiplications(self) -> int:
        """Multiplications of one image's forward pass: those of each matrix or kernel, at every position."""
        return sum(
            declaration.size * math.prod(node.layer.output_shape[1:])
            for node in self.nodes
            for declaration in node.layer.declarations
            if len(declaration.shape) > 1
        )

    @property
    def changes(self) -> int:
        """How often an attribute of any layer was set."""
        return sum(layer._changes for layer in walk(self.layers))

    def knows(self, *others: object) -> bool:
        """Whether all layers and other parts belong to this package, so that what they do with arrays is known."""
        return all(is_known(part) for part in (*(node.layer for node in self.nodes), *others))

    @contextmanager
    def borrow(self, kind: Hashable, make: Callable[[], T], only: Hashable = None) -> Iterator[T]:
        """Lend what an earlier run of this kind left, such as its working memory, or else what ``make`` creates.

        Concurrent runs get different objects. Nothing is returned after an error, nor anything that still refers to
        parameters that have since moved to another array module. only: of the objects of one kind, those for another
        purpose are dropped, and at most one is kept.
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

    @property
    def plain(self) -> Program:
        """The program of the individual layers: nothing is fused, and every output stays in its slot."""
        return Program(self.nodes, self._output)

    def program(self, loss: Loss | None = None) -> Program:
        """Return the program for prediction, BatchNorm folded away: for a ``loss`` that computes the last activation
        better itself, without that.
        """
        nodes, from_logits = without_last_activation(self._folded_nodes, loss)
        if from_logits not in self._programs:
            output = self._folded_nodes[-1].inputs[0] if from_logits else self._output
            self._programs[from_logits] = for_prediction(fuse(nodes), output, from_logits)
        return self._programs[from_logits]

    def training_program(self, loss: Loss) -> Program:
        """Return the program for training, with the layers that are frozen now."""
        nodes, from_logits = without_last_activation(self.nodes, loss)
        output = self.nodes[-1].inputs[0] if from_logits else self._output
        return for_training(fuse(nodes), output, from_logits, self.frozen())

    def prediction_params(self, folded: dict[str, dict[str, Array]]) -> Mapping[str, Arrays]:
        """Return the arrays of :meth:`program`, by layer.

        folded: where those of layers with a folded BatchNorm are written, in place if they already exist.
        """
        for one in self._folds:
            arrays = one.params(self.xp, self.params)
            kept = folded.setdefault(one.layer.name, arrays)
            for name, array in arrays.items():
                kept[name][...] = array
        return {**self.params, **folded}


def _refuse_others(layers: Sequence[Layer], owner: object) -> None:
    """Raise ValueError for a layer of another model, since building it here would change its sizes there."""
    for layer in walk(layers):
        other = None if layer.owner is None else layer.owner()
        if other is not None and other is not owner:
            raise ValueError(
                f"The layer {layer.name or layer!r} belongs to another model, and building it here would change it "
                "there. Make a new layer, and copy weights with get_weights and set_weights."
            )
