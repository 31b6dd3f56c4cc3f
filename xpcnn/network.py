"""A built stack of layers: its program, its parameters, and the passes of one piece of a batch."""

from __future__ import annotations

import math
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np

from xpcnn import draws
from xpcnn.backend import Array, ArrayModule, to_device, to_host
from xpcnn.layers import Context, Layer, Meeting
from xpcnn.layers.activation import applies
from xpcnn.layers.residual import Add, Save
from xpcnn.losses import Loss
from xpcnn.ops.workspace import to_batch_last
from xpcnn.parameters import Layout, Shape, check_values
from xpcnn.plan import join
from xpcnn.recording import watched

T = TypeVar("T")
#: A pass over one piece of a batch: it yields what its piece brings to a meeting and receives what all brought.
Pass: TypeAlias = Generator[Meeting, Any, Any]


@dataclass(frozen=True)
class Step:
    """One elementary layer of the program, and the named layers whose output its result is."""

    layer: Layer
    completes: tuple[str, ...]


class Program(NamedTuple):
    """The layers to run, joined where that is cheaper, and whether they end in the logits of the last activation."""

    layers: tuple[Layer, ...]
    from_logits: bool


class TrainingResult(NamedTuple):
    """What one piece of a batch gives: its share of the loss, its probabilities and new values of buffers."""

    loss: Array
    probabilities: Array
    buffers: dict[str, dict[str, Array]]


def walk(layers: Iterable[Layer]) -> Iterator[Layer]:
    """Yield every layer and part, inner ones first, in the order of their work."""
    for layer in layers:
        yield from walk(part for part in layer.parts() if part is not layer)
        yield layer


class Network:
    """Layers connected for one input shape, (channels, height, width) as a rule.

    Building names every layer (``conv2d_1``, …: counted per kind, in order), infers shapes, lays all parameters in one
    flat array and draws their first values on the host, each keyed by the seed and its own number. ``dtype`` is
    float32 but in gradient checks. values: {"conv2d_1.weight": array, …} to begin with
    instead. owner: the model whose layers these are, which may build them again.

    Raises ValueError for a stack that can't be built, or a name that stands twice.
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
        self._idle: dict[Hashable, list[Any]] = {}
        self._name_layers()
        self.steps: tuple[Step, ...] = tuple(step for layer in self.layers for step in _steps_of(layer))
        self.output_shape = self._connect()
        self.layout = Layout(d for step in self.steps for d in step.layer.declarations)
        self.buffer_layout = Layout(d for step in self.steps for d in step.layer.buffers)
        if values is not None:
            check_values(values, (*self.layout.declarations, *self.buffer_layout.declarations))
        self.parameters: Array = self._fill(self.layout, seed, values)
        self.buffers: Array = self._fill(self.buffer_layout, seed, values)
        self.to(xp)
        for layer in walk(self.layers):  # at last: a stack that cannot be built leaves its layers free
            layer.owner = weakref.ref(owner)

    def _name_layers(self) -> None:
        counts: Counter[str] = Counter()
        taken: set[str] = set()
        for layer in walk(self.layers):
            if layer.hidden:
                continue
            counts[layer.kind()] += 1
            if not layer.name:
                layer.name = f"{layer.kind()}_{counts[layer.kind()]}"
            if layer.name in taken:
                raise ValueError(
                    f"Two layers are called {layer.name!r}. Use each layer object once, and each name once."
                )
            taken.add(layer.name)

    def _connect(self) -> Shape:
        """Build every step for the shape it gets."""
        shape = self.input_shape
        for number, step in enumerate(self.steps):
            step.layer.number = number
            shape = step.layer.connect(shape)
        for layer in walk(self.layers):
            steps = _steps_of(layer)
            layer.input_shape, layer.output_shape = steps[0].layer.input_shape, steps[-1].layer.output_shape
        return shape

    def _fill(
        self, layout: Layout, seed: int, values: Mapping[str, np.ndarray[Any, Any]] | None
    ) -> np.ndarray[Any, Any]:
        """Return a flat host array with the values given, or with first values drawn."""
        flat = np.zeros(layout.size, dtype=self.dtype)
        for number, declaration in enumerate(layout.declarations):
            if values is None:
                drawn = declaration.initializer(draws.generator(seed, "weights", number), declaration.shape)
                flat[layout.span(declaration)] = drawn.ravel()
            else:
                flat[layout.span(declaration)] = values[declaration.full_name].ravel()
        return flat

    def to(self, xp: ArrayModule) -> None:
        """Move parameters and buffers to an array module, and compute there from now on."""
        self.xp = xp
        for layer in walk(self.layers):
            layer.xp = xp
        self.parameters = to_device(xp, self.parameters)
        self.buffers = to_device(xp, self.buffers)
        self._idle = {}  # what was lent until now refers to the arrays there
        views = self.layout.layer_views(self.parameters)
        for name, buffers in self.buffer_layout.layer_views(self.buffers).items():
            views.setdefault(name, {}).update(buffers)
        self._views = views
        layers = [step.layer for step in self.steps]
        self._programs = {False: Program(join(layers), False), True: Program(join(layers[:-1]), True)}

    def host_values(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return every parameter and buffer by name, on the host: views where the network is there."""
        values = self.layout.views(to_host(self.parameters))
        return values | self.buffer_layout.views(to_host(self.buffers))

    def set_values(self, values: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """Write every parameter and buffer by name, in place; ValueError, with nothing written, if one does not fit."""
        check_values(values, (*self.layout.declarations, *self.buffer_layout.declarations))
        for layout, flat in ((self.layout, self.parameters), (self.buffer_layout, self.buffers)):
            for name, view in layout.views(flat).items():
                view[...] = to_device(self.xp, values[name].astype(self.dtype, copy=False))

    def update_buffers(self, values: Mapping[str, Mapping[str, Array]]) -> None:
        """Write new values of buffers, by layer, in place."""
        for layer, buffers in values.items():
            for name, value in buffers.items():
                self._views[layer][name][...] = value

    @property
    def multiplications(self) -> int:
        """Multiplications of one image's forward pass: those of each matrix or kernel, at every position."""
        return sum(
            declaration.size * math.prod(step.layer.output_shape[1:])
            for step in self.steps
            for declaration in step.layer.declarations
            if len(declaration.shape) > 1
        )

    @property
    def changes(self) -> int:
        """How often an attribute of any layer was set."""
        return sum(step.layer._changes for step in self.steps)

    def knows(self, *others: object) -> bool:
        """Whether all layers, and other parts, are this package's own, so that it is known what they do with arrays."""
        parts = (*(step.layer for step in self.steps), *others)
        return all(type(part).__module__.startswith("xpcnn.") for part in parts)

    @contextmanager
    def lent(self, kind: Hashable, make: Callable[[], T]) -> Iterator[T]:
        """Lend what an earlier run of this kind has left, such as its working memory, or else what ``make`` makes.

        Runs at the same time get different things. Nothing is taken back after an error, nor what still refers to
        parameters that have moved to another array module meanwhile.
        """
        idle = self._idle
        with self._lock:
            left = idle.get(kind)
            thing = left.pop() if left else None
        thing = make() if thing is None else thing
        yield thing
        with self._lock:
            if idle is self._idle:
                idle.setdefault(kind, []).append(thing)

    def frozen(self) -> set[str]:
        """Return the names of the layers that are not to be trained, those inside a frozen layer included."""
        frozen = (inner for layer in walk(self.layers) if not layer.trainable for inner in walk([layer]))
        return {layer.name for layer in frozen if not layer.hidden}

    def program(self, loss: Loss | None = None) -> Program:
        """Return the joined program; for a ``loss`` that computes the last activation better itself, without that."""
        last = self.steps[-1].layer
        takes_over = loss is not None and loss.activation is not None and applies(last, loss.activation)
        return self._programs[takes_over]

    def plan_training(self, loss: Loss) -> None:
        """Note what learns: backward ends at the first layer that does, whose input's gradient nobody needs."""
        frozen = self.frozen()
        for step in self.steps:
            _set(step.layer, "learns", step.layer.name not in frozen)
        layers = self.program(loss).layers
        learning = [bool(layer.declarations) and layer.name not in frozen for layer in layers]
        self.first_learning = learning.index(True) if any(learning) else len(layers)
        for index, layer in enumerate(layers):
            _set(layer, "needs_input_gradient", index > self.first_learning)

    def infer(self, x: Array, context: Context, program: Program) -> Array:
        """Return the output of a program for ``x``, (n, *input_shape), in prediction."""
        x = to_batch_last(x, context.workspace)
        stack: list[Array] = []
        for layer in program.layers:
            x, _ = _complete(self._forward(layer, x, stack, context))
        return x

    def activations(self, x: Array, context: Context) -> dict[str, Array]:
        """Return {"conv2d_1": output, …} for every named layer, in prediction and in order of completion."""
        outputs: dict[str, Array] = {}
        x = to_batch_last(x, context.workspace)
        stack: list[Array] = []
        for step in self.steps:
            x, _ = _complete(self._forward(step.layer, x, stack, context))
            outputs.update(dict.fromkeys(step.completes, x))
        return outputs

    def train(
        self,
        x: Array,
        rows: Array,
        weights: Array | None,
        normalizer: Array | float,
        loss: Loss,
        gradients: Mapping[str, Mapping[str, Array]],
        context: Context,
    ) -> Pass:
        """Run one piece of a batch forward and backward, as a :data:`Pass` that returns a :class:`TrainingResult`.

        rows, weights, normalizer: the piece's targets as the loss prepared them; the normalizer is the whole batch's,
        so that losses and gradients of pieces add up. gradients: views of the piece's flat gradient, by layer.
        """
        program = self.program(loss)
        x = to_batch_last(x, context.workspace)
        stack: list[Array] = []
        backwards: list[Any] = []
        known = self.knows(loss)
        for layer in program.layers:
            x, backward = yield from self._forward(layer, x, stack, context)
            backwards.append(backward)
        value, dy, probabilities = loss.evaluate(self.xp, x, rows, weights, normalizer, from_logits=program.from_logits)
        for index in range(len(backwards) - 1, self.first_learning - 1, -1):
            layer, passed_on = program.layers[index], dy
            if isinstance(layer, Add):
                stack.append(dy)
            elif isinstance(layer, Save):
                dy = self.xp.add(dy, stack.pop(), out=context.workspace.like(dy))
            elif layer.meets:
                dy = yield from backwards[index](dy, _watched(gradients.get(layer.name, {})))
            else:
                dy = backwards[index](dy, _watched(gradients.get(layer.name, {})))
            if known and not stack and dy is not None:  # what goes around a residual stack is still in use
                context.workspace.release(passed_on, but=dy)
        return TrainingResult(value, probabilities, context.buffers)

    def _forward(self, layer: Layer, x: Array, stack: list[Array], context: Context) -> Pass:
        """Run one layer forward; returns (output, backward)."""
        if isinstance(layer, Save):
            stack.append(x)
            return x, None
        if isinstance(layer, Add):
            return self.xp.add(x, stack.pop(), out=context.workspace.like(x)), None
        params = _watched(self._views.get(layer.name, {}))
        result: Any = layer.forward(params, x, context)
        return (yield from result) if layer.meets else result


def _set(layer: Layer, name: str, value: bool) -> None:
    """Set an attribute unless it has the value, so that recordings of the layer still hold."""
    if getattr(layer, name) != value:
        setattr(layer, name, value)


def _watched(views: Mapping[str, Array]) -> Mapping[str, Array]:
    """Return views as a pass takes them: read-only mappings, so that a layer writes into them and not beside them."""
    return MappingProxyType({name: watched(view) for name, view in views.items()})


def _refuse_others(layers: Sequence[Layer], owner: object) -> None:
    """Raise ValueError for a layer of another model, since building it here would change its sizes there."""
    for layer in walk(layers):
        other = None if layer.owner is None else layer.owner()
        if other is not None and other is not owner:
            raise ValueError(
                f"The layer {layer.name or layer!r} belongs to another model, and building it here would change it "
                "there. Make a new layer, and copy weights with get_weights and set_weights."
            )


def _steps_of(layer: Layer) -> list[Step]:
    """Return a layer's steps: itself, or those of its parts."""
    if layer.parts() == [layer]:
        return [Step(layer, () if layer.hidden else (layer.name,))]
    steps = []
    for part in layer.parts():
        steps += [Step(part, ())] if part is layer else _steps_of(part)
    steps[-1] = Step(steps[-1].layer, (*steps[-1].completes, layer.name))
    return steps


def _complete(run: Pass) -> Any:
    """Return the result of a pass in which no pieces meet."""
    try:
        next(run)
    except StopIteration as end:
        return end.value
    raise RuntimeError("Layers only meet in training.")
