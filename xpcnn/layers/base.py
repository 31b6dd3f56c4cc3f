"""The base class of every layer: a constructor, a build that declares arrays, and a pure forward."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, TypeAlias

from xpcnn import registry
from xpcnn.backend import Array, ArrayModule
from xpcnn.ops.workspace import Workspace
from xpcnn.parameters import Declaration, Initializer, Shape
from xpcnn.precision import resolve

Arrays: TypeAlias = Mapping[str, Array]
#: backward(dy, gradients) writes the layer's gradients into their views and returns the gradient of its input, or a
#: tuple of gradients for a layer with several inputs.
Backward: TypeAlias = Callable[[Array, Arrays], Any]
#: A backward that needs a sum over the whole batch: backward(dy, gradients) returns this shard's part of the sum, and
#: a function that returns the input's gradient, given the total.
BackwardInTwo: TypeAlias = Callable[[Array, Arrays], tuple[Any, Callable[[Any], Array]]]


@dataclass
class Context:
    """The state of one run over one shard of a batch, which is not part of the layer."""

    workspace: Workspace
    training: bool = False
    #: Key of the random draws: the fit's seed and the step number, which on a device is an array of one uint64.
    seed: int = 0
    step: int | Array = 0
    #: The position in the batch at which this shard starts.
    first_row: int = 0
    #: Whether a backward pass follows, so that layers keep what it needs; always true in training.
    backward: bool = False
    #: New values of buffers, such as running statistics, by layer; the network writes them once per step.
    buffers: dict[str, dict[str, Array]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.backward = self.backward or self.training

    @property
    def xp(self) -> ArrayModule:
        """The array module that computes this run: with Numba's, functions of ``ops/`` are compiled kernels."""
        return self.workspace.xp


class Graph(Protocol):
    """The graph that layers add themselves to when a network is built; a slot is the input or a layer's output."""

    #: The shape of each slot, without the batch.
    shapes: list[Shape]

    def add(self, layer: Layer, *inputs: int) -> int:
        """Add a layer that reads these slots, with those inside it, and return the slot of its output."""

    def chain(self, layers: Sequence[Layer], slot: int) -> int:
        """Add layers one after the other, and return the slot of the last one's output."""


class Layer:
    """Base class of layers. A layer stores its configuration and shapes; data is passed in arguments and closures.

    A custom layer implements ``build`` and ``forward``::

        class Scale(xpcnn.layers.Layer):
            def build(self, input_shape):
                self.declare("weight", (input_shape[0],), xpcnn.initializers.Ones())
                return input_shape

            def forward(self, params, x, context):
                weight = params["weight"][:, None, None]

                def backward(dy, gradients):
                    gradients["weight"][...] = (dy * x).sum(axis=(0, 2, 3))
                    return dy * weight

                return x * weight, backward

    Images are (batch, channels, height, width) arrays of ``self.xp``. Each constructor argument must be stored in an
    attribute of the same name, from which the layer is saved. Arguments common to all layers: ``name`` (default: the
    kind and a number, such as ``conv2d_1``) and ``xp`` (default: the model's).
    """

    #: Whether training needs sums over the whole batch, as in BatchNorm. Such a layer has ``local_sums(params, x,
    #: context)``, whose results for all shards are added with ``+``; ``forward`` then takes the total as its last
    #: argument and returns a :data:`BackwardInTwo` with the output.
    reduces_over_batch: ClassVar[bool] = False

    #: Arguments of which the constructor makes the layers inside, so that they are never set again.
    _fixed: ClassVar[frozenset[str]] = frozenset()

    #: Arguments that ``build`` reads: a built model would save a new value, but not compute with it.
    _shaping: ClassVar[frozenset[str]] = frozenset()

    #: The layer's name in parameter names and tables; empty until a network assigns one.
    name: str = ""
    #: Whether this is part of another layer, such as its activation, and therefore has no name.
    hidden: bool = False
    #: False freezes the layer and those inside it, so that their arrays are not trained.
    trainable: bool = True
    #: Whether a GPU's tensor cores can compute the layer, in another precision than float32.
    on_tensor_cores: bool = False
    #: The fraction of the learning rate that the layer's own arrays take.
    learning_rate_factor: float = 1.0
    #: The layer's number in the network, counting blocks too, which is part of the key of its random draws.
    number: int = 0
    input_shape: Shape = ()
    output_shape: Shape = ()
    declarations: tuple[Declaration, ...] = ()
    buffers: tuple[Declaration, ...] = ()

    #: The model that the layer belongs to, if it still exists.
    owner: weakref.ref[Any] | None = None

    #: How often an attribute was set; a recorded step is valid only while this stays the same.
    _changes: int = 0

    _xp: ArrayModule | str | None = None

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self._fixed and name in vars(self):
            raise AttributeError(
                f"{type(self).__name__} {self.name or self.kind()!r}: {name} is chosen when the layer is made. "
                f"Received: {value!r}. Make a new layer with it."
            )
        built = self.owner is not None and self.owner() is not None
        if built and (name == "name" or name in self._shaping) and repr(value) != repr(vars(self).get(name)):
            raise AttributeError(
                f"{type(self).__name__} {self.name!r}: {name} can't be changed once the layer is in a built model. "
                f"Received: {value!r}. Make a new layer and a new model with it."
            )
        super().__setattr__(name, value)
        super().__setattr__("_changes", self._changes + 1)

    def __init__(self, *, name: str | None = None, xp: ArrayModule | str | None = None) -> None:
        self.name = name or ""
        self._xp = xp

    @property
    def xp(self) -> ArrayModule:
        """The array module: the one given, or else the one that ``XPCNN_BACKEND`` selects at the time of use."""
        return resolve(self._xp)

    @xp.setter
    def xp(self, xp: ArrayModule | str | None) -> None:
        self._xp = xp

    @classmethod
    def kind(cls) -> str:
        """The layer's kind in names and files: ``conv2d`` for Conv2D, ``batch_norm`` for BatchNorm."""
        return registry.name_of(cls)

    def connect(self, *input_shapes: Shape) -> Shape:
        """Build for the shape of each input (without the batch), and return the output shape."""
        self.declarations = self.buffers = ()
        self.input_shape = tuple(input_shapes[0])
        self.output_shape = tuple(self.build(*input_shapes))
        return self.output_shape

    def declare(self, name: str, shape: Shape, initializer: Initializer, *, decays: bool = False) -> None:
        """Declare a trainable array, in ``build``. decays: whether weight decay applies to it."""
        declaration = Declaration(self.name or self.kind(), name, tuple(shape), initializer, decays)
        self.declarations = (*self.declarations, declaration)

    def declare_buffer(self, name: str, shape: Shape, initializer: Initializer) -> None:
        """Declare an array that is saved but not trained, in ``build``."""
        declaration = Declaration(self.name or self.kind(), name, tuple(shape), initializer)
        self.buffers = (*self.buffers, declaration)

    def refuse(self, why: str, input_shape: Shape, advice: str) -> ValueError:
        """Return the error for an input that the layer does not accept."""
        return ValueError(
            f"{type(self).__name__} {self.name or self.kind()!r}: {why}. "
            f"Received input shape {tuple(input_shape)}. {advice}"
        )

    def image_shape(self, input_shape: Shape) -> tuple[int, int, int]:
        """Return (channels, height, width), or raise ValueError if the input is not an image."""
        if len(input_shape) != 3:
            raise self.refuse(
                "it takes images, (channels, height, width)",
                input_shape,
                "Put it before Flatten, or use Reshape((channels, height, width)).",
            )
        channels, height, width = input_shape
        return channels, height, width

    def sublayers(self) -> Sequence[Layer]:
        """Return the layers inside this one, in order: an activation, or the layers of a block."""
        return ()

    def expand(self, graph: Graph, x: int) -> int:
        """Add this layer and its sublayers to a graph, and return the slot of the output.

        A block adds each of its sublayers once.
        """
        return graph.chain(self.sublayers(), graph.add(self, x))

    def build(self, input_shape: Shape) -> Shape:
        """Declare arrays for an input shape (without the batch) and return the output shape."""
        return input_shape

    def forward(self, params: Arrays, x: Any, context: Context) -> tuple[Array, Any]:
        """Return the output and its backward function; ``x`` is an array, or a tuple of arrays for several inputs."""
        raise NotImplementedError(f"{type(self).__name__} has no forward.")

    def config(self) -> dict[str, Any]:
        """Return the constructor arguments except ``xp``, each read from the attribute of the same name."""
        return {key: getattr(self, key) for key in registry.parameters(type(self)) if key != "xp"}

    def described(self, inside: bool = False) -> str:
        """Return ``Kind(argument=value, …)`` with the arguments that are not the default ones.

        inside: whether the layers inside this one are among them.
        """
        defaults = {key: parameter.default for key, parameter in registry.parameters(type(self)).items()}
        arguments = ", ".join(
            f"{key}={value!r}"
            for key, value in self.config().items()
            if key != "name" and not _is_default(value, defaults[key]) and (inside or not _holds_layers(value))
        )
        return f"{type(self).__name__}({arguments})"

    def __repr__(self) -> str:
        return self.described(inside=True)


def _is_default(value: Any, default: Any) -> bool:
    """Whether an argument is its default, which a layer may keep in another form: 1 as (1, 1), a name as its object."""
    if isinstance(value, registry.Named):
        return value.config() == {"name": default}
    return {repr(default)} == {repr(one) for one in (value if isinstance(value, tuple) else [value])}


def _holds_layers(value: Any) -> bool:
    """Whether an argument is a layer, or a list of layers at any depth."""
    return isinstance(value, Layer) or (isinstance(value, list | tuple) and any(map(_holds_layers, value)))


def listed(layers: Iterable[Layer], expected: str) -> tuple[Layer, ...]:
    """Return layers as a tuple, or raise ValueError unless they are layers, at least one."""
    found = tuple(layers) if isinstance(layers, Iterable) else ()
    if not found or not all(isinstance(layer, Layer) for layer in found):
        raise ValueError(f"{expected}. Received: {layers!r}.")
    return found
