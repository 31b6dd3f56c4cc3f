"""One shard of a batch on its way through a program: forward, the loss, and backward.

A shard runs a segment of the program by itself. Between two segments the shards wait for each other, and what each
returns is added up over the batch; the next segment gets the total.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

from xpcnn.backend import Array
from xpcnn.layers import Context
from xpcnn.layers.base import Arrays
from xpcnn.losses import Loss
from xpcnn.ops.workspace import to_batch_last
from xpcnn.program.program import INPUT, Node, Program, Segment
from xpcnn.recording import watched

_NONE: Arrays = MappingProxyType({})


@dataclass
class Task:
    """What one shard of a batch is to learn.

    rows, weights, normalizer: its targets as the loss prepared them; the normalizer is the whole batch's, so that
    losses and gradients of shards add up. report: takes the shard's loss and probabilities.
    """

    loss: Loss
    rows: Array
    weights: Array | None
    normalizer: Array | float
    report: Callable[[Array, Array], None]


class Taped(NamedTuple):
    """A node that has run forward, what goes back through it, and how much memory had been handed out before it."""

    node: Node
    backward: Any
    requests: int


class Shard:
    """One shard of a batch: the arrays in the slots of its program, and the tape of what goes back through it.

    params: parameters and buffers by layer; gradients: views of the shard's flat gradient, by layer. task: what it is
    to learn. releases: whether memory is used again as soon as no layer needs it, which layers of one's own may not
    expect.
    """

    def __init__(
        self,
        program: Program,
        params: Mapping[str, Arrays],
        x: Array,
        context: Context,
        gradients: Mapping[str, Arrays] = MappingProxyType({}),
        task: Task | None = None,
        *,
        releases: bool = True,
    ) -> None:
        self.program, self.context, self.task = program, context, task
        self.slots: dict[int, Array] = {INPUT: to_batch_last(x, context.workspace)}
        #: Gradients of slots that have been passed back and not yet taken.
        self.dy: dict[int, Array] = {}
        self._params, self._gradients, self._releases = params, gradients, releases
        self._tape: list[Taped] = []

    def forward(self, segment: Segment, total: Any = None) -> Any:
        """Run the nodes of a segment, the first with the ``total`` it needs; return what the next one adds up."""
        for node in segment.nodes:
            requests = self.context.workspace.requests
            needed = (total,) if node.reduces else ()
            y, backward = node.layer.forward(
                self._params_of(node), self._input_of(node), self.context, *needed, **node.options
            )
            self.slots[node.output] = y
            self._tape.append(Taped(node, backward, requests))
        after = segment.reduces
        if after is None:
            return None
        layer: Any = after.layer
        return layer.local_sums(self._params_of(after), self._input_of(after), self.context)

    def turn(self, segment: Segment, total: Any = None) -> Any:
        """Run the last segment forward, evaluate the loss, and begin to go back."""
        assert self.task is not None
        self.forward(segment, total)
        task, outputs = self.task, self.slots[self.program.output]
        xp = self.context.workspace.xp
        value, dy, probabilities = task.loss.evaluate(
            xp, outputs, task.rows, task.weights, task.normalizer, from_logits=self.program.from_logits
        )
        task.report(value, probabilities)
        self.dy[self.program.output] = dy
        return self.backward(segment)

    def backward(self, segment: Segment, total: Any = None) -> Any:
        """Go back through the node after a segment, which gets the ``total`` it needs, and through the segment.

        Returns what the segment's first node adds up over the batch, where it needs that.
        """
        after = segment.reduces
        if after is not None and after.runs_backward:
            node, (_, backward), requests = self._tape.pop()
            if node.passes_on:
                self._pass_on(node, backward(self.dy.pop(node.output), total), requests)
        for node in reversed(segment.nodes):
            if node.reduces and node.runs_backward:
                local_sums, _ = self._tape[-1].backward
                sums = local_sums(self.dy[node.output], self._gradients_of(node))
                return sums if node.passes_on else None
            _, backward, requests = self._tape.pop()
            if node.runs_backward:
                dx = backward(self.dy.pop(node.output), self._gradients_of(node))
                self._pass_on(node, dx, requests)
        return None

    def _pass_on(self, node: Node, dx: Any, requests: int) -> None:
        """Note the gradients of a node's inputs, and take back all memory that was handed out from its forward on."""
        workspace = self.context.workspace
        for slot, gradient in zip(node.inputs, dx if len(node.inputs) > 1 else (dx,), strict=True):
            if slot not in node.passes_on:
                continue
            if slot in self.dy:
                gradient = workspace.xp.add(self.dy[slot], gradient, out=workspace.like(gradient))
            self.dy[slot] = gradient
        if self._releases:
            workspace.reclaim(self.dy.values(), requests)

    def _input_of(self, node: Node) -> Any:
        inputs = tuple(self.slots[slot] for slot in node.inputs)
        return inputs if len(inputs) > 1 else inputs[0]

    def _params_of(self, node: Node) -> Arrays:
        return _watched(self._params.get(node.layer.name, _NONE))

    def _gradients_of(self, node: Node) -> Arrays:
        return _watched(self._gradients.get(node.layer.name, _NONE))


def infer(
    program: Program, params: Mapping[str, Arrays], x: Array, context: Context, *, releases: bool = True
) -> Array:
    """Return a program's output for ``x``, (n, channels, height, width); memory is used again after its last use."""
    slots = {INPUT: to_batch_last(x, context.workspace)}
    for node in program.nodes:
        inputs = tuple(slots[slot] for slot in node.inputs)
        slots[node.output], _ = node.layer.forward(
            _watched(params.get(node.layer.name, _NONE)),
            inputs if len(inputs) > 1 else inputs[0],
            context,
            **node.options,
        )
        for slot in node.frees:
            del slots[slot]
        if releases:
            context.workspace.reclaim(slots.values())
    return slots[program.output]


#: What a shard does in one round, and with which segment.
Round: TypeAlias = tuple[Callable[[Shard, Segment, Any], Any], Segment]


def rounds(program: Program) -> list[Round]:
    """Return the rounds of a training step: forward through all segments, the turn in the last, and back."""
    *before, last = program.segments
    return [
        *((Shard.forward, segment) for segment in before),
        (Shard.turn, last),
        *((Shard.backward, segment) for segment in reversed(before)),
    ]


def train_whole(shard: Shard) -> None:
    """Make a training step of a batch that is one shard: what it adds up is the total."""
    total = None
    for act, segment in rounds(shard.program):
        total = act(shard, segment, total)


def _watched(views: Arrays) -> Arrays:
    """Return views as a pass takes them: read-only mappings, so that a layer writes into them and not beside them."""
    return MappingProxyType({name: watched(view) for name, view in views.items()})
