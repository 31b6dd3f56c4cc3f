"""The program of a network: its layers as nodes that read and write numbered slots, in execution order."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from xpcnn.layers import Conv2D, Dense, Layer

#: The slot of the images.
INPUT = 0
_NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})


class Node(NamedTuple):
    """One layer in a program."""

    layer: Layer
    #: The slots that it reads, and the slot that it writes.
    inputs: tuple[int, ...]
    output: int
    #: Additional arguments of its forward, such as the following layers fused with it.
    options: Mapping[str, Any] = _NO_OPTIONS
    #: The slots that no later node reads.
    frees: tuple[int, ...] = ()
    #: Whether it needs a sum over the whole batch, and so starts a segment.
    reduces: bool = False
    #: The input slots whose gradients are needed; whether its backward runs at all.
    passes_on: tuple[int, ...] = ()
    runs_backward: bool = False

    def with_options(self, **options: Any) -> Node:
        """Return this node with more options."""
        return self._replace(options=MappingProxyType({**self.options, **options}))


class Segment(NamedTuple):
    """Nodes that a shard runs without waiting for the others, and the next node, which needs a sum over all shards."""

    nodes: tuple[Node, ...]
    after: Node | None


class Program(NamedTuple):
    """The nodes to run; the output is logits if the loss computes the last activation itself."""

    nodes: tuple[Node, ...]
    output: int
    from_logits: bool = False
    #: The slots that are stored in 16 bits, and in which dtype.
    stored: Mapping[int, Any] = MappingProxyType({})

    @property
    def segments(self) -> list[Segment]:
        """The nodes, split before each one that needs a sum over the whole batch."""
        starts = [0, *(number for number, node in enumerate(self.nodes) if node.reduces), len(self.nodes)]
        reducing = [*(self.nodes[start] for start in starts[1:-1]), None]
        return [
            Segment(self.nodes[start:stop], after)
            for start, stop, after in zip(starts[:-1], starts[1:], reducing, strict=True)
        ]

    @property
    def reduces(self) -> bool:
        """Whether a layer needs a sum over the whole batch."""
        return any(node.reduces for node in self.nodes)


def for_prediction(nodes: Sequence[Node], output: int, from_logits: bool = False) -> Program:
    """Return the program for prediction, noting for each node the slots that no later node reads."""
    return Program(tuple(_with_last_uses(nodes)), output, from_logits)


def for_training(nodes: Sequence[Node], output: int, from_logits: bool, frozen: Collection[str]) -> Program:
    """Return the program for training, noting for each node its gradients and whether it sums over the batch.

    frozen: names of layers that are not trained. Gradients stop where no earlier layer is trained.
    """
    noted = []
    learning = _with_gradients(nodes, (), lambda layer: bool(layer.declarations) and layer.name not in frozen)
    for node in _with_last_uses([*learning]):
        if not node.passes_on and type(node.layer) in (Conv2D, Dense):
            node = node.with_options(input_gradient=False)
        noted.append(node._replace(reduces=node.layer.reduces_over_batch and node.layer.name not in frozen))
    return Program(tuple(noted), output, from_logits)


def for_gradient_of(slot: int, nodes: Sequence[Node], output: int) -> Program:
    """Return the program whose backward pass computes the gradient of a slot."""
    return Program(tuple(_with_gradients(nodes, (slot,), lambda layer: False)), output)


def _with_last_uses(nodes: Sequence[Node]) -> Iterator[Node]:
    """Yield nodes with ``frees`` set: the slots that no later node reads."""
    last_use = {slot: number for number, node in enumerate(nodes) for slot in node.inputs}
    for number, node in enumerate(nodes):
        yield node._replace(frees=tuple(slot for slot in dict.fromkeys(node.inputs) if last_use[slot] == number))


def _with_gradients(nodes: Sequence[Node], needed: Iterable[int], learns: Callable[[Layer], bool]) -> Iterator[Node]:
    """Yield nodes with the inputs whose gradients are needed: those that depend on the slots or trained layers."""
    slots = set(needed)
    for node in nodes:
        passes_on = tuple(slot for slot in node.inputs if slot in slots)
        runs = bool(passes_on) or learns(node.layer)
        if runs:
            slots.add(node.output)
        yield node._replace(passes_on=passes_on, runs_backward=runs)


def readers(nodes: Sequence[Node]) -> dict[int, int]:
    """Return how many nodes read each slot."""
    counts: dict[int, int] = {}
    for node in nodes:
        for slot in node.inputs:
            counts[slot] = counts.get(slot, 0) + 1
    return counts


def walk(layers: Sequence[Layer]) -> Iterator[Layer]:
    """Yield every layer, nested ones before the layer that contains them."""
    for layer in layers:
        yield from walk(layer.sublayers())
        yield layer
