"""Builds nodes from layers: their names, shapes and connections."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence

from xpcnn.layers import Layer
from xpcnn.parameters import Shape
from xpcnn.program.program import INPUT, Node, walk


class Builder:
    """A graph under construction, to which the layers of a network add themselves."""

    def __init__(self, input_shape: Shape) -> None:
        self.nodes: list[Node] = []
        #: The shape of each slot, without the batch dimension; the first is the image shape.
        self.shapes: list[Shape] = [tuple(input_shape)]
        #: The output slot of every named layer, in order of completion.
        self.outputs: dict[str, int] = {}
        self._numbers = itertools.count()
        #: The layer being added, and those that its expand has added so far.
        self._outer: tuple[Layer | None, list[Layer]] = (None, [])

    def add(self, layer: Layer, *inputs: int) -> int:
        """Add a layer that reads these slots, with those inside it, and return the slot of its output."""
        outer, siblings = self._outer
        if layer is outer:  # its own expand adds it
            return self._place(layer, *inputs)
        siblings.append(layer)
        self._outer = layer, []
        if type(layer).expand is Layer.expand:
            slot = self.chain(layer.sublayers(), self._place(layer, *inputs))
        else:  # a block has a number too, before those inside it
            next(self._numbers)
            slot = layer.expand(self, *inputs)
        _check_expanded(*self._outer)
        self._outer = outer, siblings
        layer.input_shape, layer.output_shape = self.shapes[inputs[0]], self.shapes[slot]
        if not layer.hidden:
            self.outputs[layer.name] = slot
        return slot

    def chain(self, layers: Sequence[Layer], slot: int = INPUT) -> int:
        """Add layers one after the other, and return the slot of the last one's output."""
        for layer in layers:
            slot = self.add(layer, slot)
        return slot

    def _place(self, layer: Layer, *inputs: int) -> int:
        """Add the node of one layer."""
        layer.number = next(self._numbers)
        slot = len(self.shapes)
        self.shapes.append(layer.connect(*(self.shapes[slot] for slot in inputs)))
        self.nodes.append(Node(layer, inputs, slot))
        return slot


def _check_expanded(block: Layer, added: Sequence[Layer]) -> None:
    """Raise ValueError unless a block's expand has added each of its sublayers once, and no other layer."""
    counts, listed = Counter(map(id, added)), {id(layer) for layer in block.sublayers()}
    for layer in (*added, *block.sublayers()):
        if id(layer) not in listed:
            wrong = "expand adds {}, which sublayers() does not list. Return it from sublayers() too."
        elif id(layer) not in counts:
            wrong = "sublayers() lists {}, which expand does not add. Let expand add it, or leave it out of the list."
        elif counts[id(layer)] > 1:
            wrong = "expand adds {} more than once. Use each layer object once."
        else:
            continue
        which = repr(layer.name) if layer.name else f"a {type(layer).__name__}"
        raise ValueError(f"{type(block).__name__} {block.name or block.kind()!r}: {wrong.format(which)}")


def check_all_used(nodes: Sequence[Node], output: int) -> None:
    """Raise ValueError for a layer whose output is neither read by another layer nor returned by the network."""
    read = {slot for node in nodes for slot in node.inputs} | {output}
    for node in nodes:
        if node.output not in read:
            raise ValueError(
                f"The output of {node.layer.name or node.layer!r} is never used. A block's expand must merge all its "
                "branches and return the slot of its last layer."
            )


def name_layers(layers: Sequence[Layer]) -> None:
    """Name every layer that has no name yet: ``conv2d_1``, …, counted per kind, in order.

    Raises ValueError if a layer or a name is used twice.
    """
    counts: Counter[str] = Counter()
    taken: set[str] = set()
    for layer in walk(layers):
        if layer.hidden:
            continue
        counts[layer.kind()] += 1
        if not layer.name:
            layer.name = f"{layer.kind()}_{counts[layer.kind()]}"
        if layer.name in taken:
            raise ValueError(f"Two layers are named {layer.name!r}. Use each layer object once, and each name once.")
        taken.add(layer.name)
