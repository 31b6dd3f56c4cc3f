"""The program of a network: its layers as nodes that read and write numbered slots, in the order of their work."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from xpcnn.layers import Conv2D, Dense, Layer
from xpcnn.layers.activation import applies
from xpcnn.losses import Loss

#: The slot of the images.
INPUT = 0
_NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})


class Node(NamedTuple):
    """One layer at its place in a program."""

    layer: Layer
    #: The slots it reads, and the one it writes.
    inputs: tuple[int, ...]
    output: int
    #: What its forward is told beside its input: which layers after it are fused with it, and the like.
    options: Mapping[str, Any] = _NO_OPTIONS
    #: The slots that nobody reads after it.
    frees: tuple[int, ...] = ()
    #: Whether it needs a sum over the whole batch, so that a segment begins with it.
    reduces: bool = False
    #: The slots among its inputs whose gradients somebody needs; whether its backward runs at all.
    passes_on: tuple[int, ...] = ()
    runs_backward: bool = False

    def also(self, **options: Any) -> Node:
        """Return this node with more options."""
        return self._replace(options=MappingProxyType({**self.options, **options}))


class Segment(NamedTuple):
    """Nodes that a shard of a batch runs without the others, and the node after them, which needs a sum over all."""

    nodes: tuple[Node, ...]
    reduces: Node | None


class Program(NamedTuple):
    """The nodes to run; their last output is logits where the loss computes the last activation better itself."""

    nodes: tuple[Node, ...]
    output: int
    from_logits: bool = False

    @property
    def segments(self) -> list[Segment]:
        """The nodes, cut before each that needs a sum over the whole batch."""
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


def without_last_activation(nodes: Sequence[Node], loss: Loss | None) -> tuple[Sequence[Node], bool]:
    """Return the nodes but a last activation that a loss computes better itself, and whether that is so."""
    takes_over = loss is not None and loss.activation is not None and applies(nodes[-1].layer, loss.activation)
    return (nodes[:-1], True) if takes_over else (nodes, False)


def for_prediction(nodes: Sequence[Node], output: int, from_logits: bool = False) -> Program:
    """Return the program of nodes, each noted with the slots that nobody reads after it."""
    return Program(tuple(_with_last_uses(nodes)), output, from_logits)


def for_training(nodes: Sequence[Node], output: int, from_logits: bool, frozen: Collection[str]) -> Program:
    """Return the program of nodes, each noted with what goes back through it and what is summed over the batch.

    frozen: names of layers that do not learn. Gradients end where nothing before learns.
    """
    noted = []
    learning = _with_gradients(nodes, (), lambda layer: bool(layer.declarations) and layer.name not in frozen)
    for node in _with_last_uses([*learning]):
        if not node.passes_on and type(node.layer) in (Conv2D, Dense):
            node = node.also(input_gradient=False)
        noted.append(node._replace(reduces=node.layer.reduces_over_batch and node.layer.name not in frozen))
    return Program(tuple(noted), output, from_logits)


def for_gradient_of(slot: int, nodes: Sequence[Node], output: int) -> Program:
    """Return the program of nodes, each noted with what goes back through it to a slot."""
    return Program(tuple(_with_gradients(nodes, (slot,), lambda layer: False)), output)


def _with_last_uses(nodes: Sequence[Node]) -> Iterator[Node]:
    """Yield nodes noted with the slots that nobody reads after them."""
    last_use = {slot: number for number, node in enumerate(nodes) for slot in node.inputs}
    for number, node in enumerate(nodes):
        yield node._replace(frees=tuple(slot for slot in dict.fromkeys(node.inputs) if last_use[slot] == number))


def _with_gradients(nodes: Sequence[Node], needed: Iterable[int], learns: Callable[[Layer], bool]) -> Iterator[Node]:
    """Yield nodes noted with the inputs whose gradients are needed: those slots, and whatever learns, come before."""
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
    """Yield every layer, those inside another before it."""
    for layer in layers:
        yield from walk(layer.sublayers())
        yield layer
