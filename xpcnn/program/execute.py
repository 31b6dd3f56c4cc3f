"""Runs programs: shards of a batch on threads and ranks, in memory that is reused.

A shard runs each segment of the program independently. Between segments the shards synchronize: their results are
summed over the batch, and the next segment receives the total.
"""

from __future__ import annotations

import functools
import operator
import os
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from types import MappingProxyType, TracebackType
from typing import Any, NamedTuple, TypeAlias, TypeVar

from xpcnn.backend import Array, ArrayModule, is_host
from xpcnn.communicator import ALONE, Communicator
from xpcnn.layers import Context, Layer
from xpcnn.layers.base import Arrays
from xpcnn.losses import Loss
from xpcnn.ops.cuda.ahead import rehearsed
from xpcnn.ops.merging import add
from xpcnn.ops.workspace import Workspace, to_batch_last
from xpcnn.parameters import Shape
from xpcnn.program.memory import Memory
from xpcnn.program.network import Network
from xpcnn.program.program import INPUT, Node, Program, Segment
from xpcnn.program.replay import Notes
from xpcnn.program.shards import add_tree
from xpcnn.program.threads import blas_on_one_thread, check_shards, check_threads, hold_in_this_thread
from xpcnn.recording import watched
from xpcnn.registry import is_known

M = TypeVar("M", bound=Memory)
_NONE: Arrays = MappingProxyType({})


@dataclass
class Goal:
    """The training target of one shard: the loss, and the targets as the loss prepared them.

    normalizer: of the whole batch, so that the losses and gradients of its shards add up. scale: the factor of the
    gradients, an array (1,), in float16.
    """

    loss: Loss
    targets: Array
    weights: Array | None
    normalizer: Array | float
    scale: Array | None = None


class Taped(NamedTuple):
    """A node that has run forward, its backward function or what is left of it, and the number of arrays before it."""

    node: Node
    backward: Any
    requests: int


class Shard:
    """One shard of a batch: the arrays in the slots of its program, and the tape for its backward pass.

    params: parameters and buffers by layer; gradients: views of the shard's flat gradient, by layer. goal: loss and
    targets, in training. report: receives loss and probabilities, or the output if there is no goal. releases: whether
    to reuse memory as soon as no layer needs it, which custom layers may not expect.
    """

    def __init__(
        self,
        program: Program,
        params: Mapping[str, Arrays],
        x: Array,
        context: Context,
        gradients: Mapping[str, Arrays] = MappingProxyType({}),
        goal: Goal | None = None,
        report: Callable[..., None] = lambda *given: None,
        *,
        releases: bool = True,
    ) -> None:
        self.program, self.context, self.goal, self.report = program, context, goal, report
        self.slots: dict[int, Array] = {INPUT: to_batch_last(x, context.workspace)}
        #: Gradients of slots that have been propagated back but not yet consumed.
        self.dy: dict[int, Array] = {}
        self._params, self._gradients, self._releases = params, gradients, releases
        self._tape: list[Taped] = []
        self._count = len(x)

    def rehearsal(self, x: Array) -> Shard:
        """Return a shard that does the same work on the images ``x``, and writes into no array of this one."""
        gradients = {
            layer: {name: self.context.xp.empty_like(view) for name, view in views.items()}
            for layer, views in self._gradients.items()
        }
        context = replace(self.context, buffers={})
        return Shard(self.program, self._params, x, context, gradients, self.goal, releases=self._releases)

    def forward(self, segment: Segment, total: Any = None) -> Any:
        """Run the nodes of a segment, the first given ``total``; return this shard's part of the next sum."""
        context, workspace = self.context, self.context.workspace
        for node in segment.nodes:
            requests = workspace.requests
            needed = (total,) if node.reduces else ()
            found = node.layer.forward(self._params_of(node), self._input_of(node), context, *needed, **node.options)
            y, backward = found if is_known(node.layer) else _output_of(node.layer, found, self._count)
            self.slots[node.output] = self._checked(y, node.output)
            for slot in node.frees:
                del self.slots[slot]
            if context.backward:
                self._tape.append(Taped(node, backward, requests))
            elif self._releases:
                workspace.reclaim(self.slots.values())
        after = segment.after
        if after is None:
            return None
        layer: Any = after.layer
        return layer.local_sums(self._params_of(after), self._input_of(after), context)

    def deliver(self, segment: Segment, total: Any = None) -> None:
        """Report the output."""
        self.report(self.slots[self.program.output])

    def evaluate(self, segment: Segment, total: Any = None) -> None:
        """Compute and report the loss, and store the gradient from which the backward pass starts."""
        assert self.goal is not None
        goal, program, workspace = self.goal, self.program, self.context.workspace
        xp = workspace.xp
        value, dy, probabilities = goal.loss.evaluate(
            xp, self.slots[program.output], goal.targets, goal.weights, goal.normalizer, from_logits=program.from_logits
        )
        self.report(value, probabilities)
        self.dy[program.output] = dy if goal.scale is None else xp.multiply(dy, goal.scale, out=workspace.like(dy))

    def backward(self, segment: Segment, total: Any = None) -> Any:
        """Run backward through the node after a segment, given the ``total`` it needs, and through the segment.

        Returns this shard's part of the sum that the segment's first node needs, if any.
        """
        after = segment.after
        if after is not None and after.runs_backward:
            node, input_gradient, requests = self._tape.pop()
            if node.passes_on:
                self._pass_on(node, input_gradient(total), requests)
        for node in reversed(segment.nodes):
            _, backward, requests = self._tape.pop()
            if not node.runs_backward:
                continue
            found = backward(self.dy.pop(node.output), self._gradients_of(node))
            if node.reduces:
                sums, input_gradient = found
                self._tape.append(Taped(node, input_gradient, requests))
                return sums if node.passes_on else None
            self._pass_on(node, found, requests)
        return None

    def _pass_on(self, node: Node, dx: Any, requests: int) -> None:
        """Store the gradients of a node's inputs, and reclaim all memory allocated since its forward pass."""
        workspace = self.context.workspace
        for slot, gradient in zip(node.inputs, dx if len(node.inputs) > 1 else (dx,), strict=True):
            if slot not in node.passes_on:
                continue
            if len(node.inputs) == 1 and not is_known(node.layer):
                must = f"{node.layer.name!r} must return the gradient of its input from backward"
                gradient = _of_shape(gradient, (self._count, *node.layer.input_shape), must)
            if len(node.inputs) > 1 and not self._releases:  # a custom layer may modify a shared gradient
                gradient = _copied(gradient, workspace)
            if slot in self.dy:
                gradient, _ = add(workspace.xp, (self.dy[slot], gradient), workspace)
            self.dy[slot] = self._checked(gradient, slot)
        if self._releases:
            workspace.reclaim(self.dy.values(), requests)

    def _checked(self, array: Array, slot: int) -> Array:
        """Return an output or a gradient, which must be stored as the program says: kernels cannot tell bits apart."""
        expected = self.program.stored.get(slot, array.dtype)
        if array.dtype != expected:
            raise TypeError(f"Slot {slot} is stored as {expected}. Received: an array of {array.dtype}.")
        return array

    def _input_of(self, node: Node) -> Any:
        inputs = tuple(self.slots[slot] for slot in node.inputs)
        if not is_known(node.layer):  # it may write into what another layer reads or keeps, or the user
            inputs = tuple(_copied(x, self.context.workspace) for x in inputs)
        return inputs if len(inputs) > 1 else inputs[0]

    def _params_of(self, node: Node) -> Arrays:
        return _watched(self._params.get(node.layer.name, _NONE))

    def _gradients_of(self, node: Node) -> Arrays:
        return _watched(self._gradients.get(node.layer.name, _NONE))


#: The work of a shard between two synchronizations: methods of Shard and their segments, in order.
Round: TypeAlias = Sequence[tuple[Callable[[Shard, Segment, Any], Any], Segment]]


def prediction_rounds(program: Program) -> list[Round]:
    """Return the single round of a prediction."""
    (segment,) = program.segments
    return [[(Shard.forward, segment), (Shard.deliver, segment)]]


def training_rounds(program: Program) -> list[Round]:
    """Return the rounds of a training step: forward through all segments, loss, and backward."""
    *before, last = program.segments
    return [
        *([(Shard.forward, segment)] for segment in before),
        [(Shard.forward, last), (Shard.evaluate, last), (Shard.backward, last)],
        *([(Shard.backward, segment)] for segment in reversed(before)),
    ]


def train_whole(shard: Shard) -> None:
    """Run a training step of a whole batch as a single shard, whose sums are the totals."""
    _run(_train, shard)


def _train(shard: Shard) -> None:
    total = None
    for one_round in training_rounds(shard.program):
        for act, segment in one_round:
            total = act(shard, segment, total)


def _predict(shard: Shard) -> None:
    for segment in shard.program.segments:
        shard.forward(segment)


def _run(work: Callable[[Shard], None], shard: Shard) -> None:
    """Do the work of a whole batch, whose kernels are compiled together; a custom part is not called once more."""
    parts = (*(node.layer for node in shard.program.nodes), *((shard.goal.loss,) if shard.goal else ()))
    if not all(map(is_known, parts)):
        work(shard)
        return
    x = shard.slots[INPUT]
    with rehearsed(lambda: work(shard.rehearsal(x))):
        work(shard)


def infer(
    network: Network, x: Array, context: Context, program: Program, params: Mapping[str, Arrays] | None = None
) -> Array:
    """Return the output of a network's program for ``x``, (n, *input_shape), in prediction mode.

    params: what :meth:`Network.prediction_params` returned.
    """
    params = network.prediction_params({}) if params is None else params
    shard = Shard(program, params, x, context, releases=network.knows())
    _run(_predict, shard)
    return shard.slots[program.output]


def activations(network: Network, x: Array, context: Context) -> dict[str, Array]:
    """Return {"conv2d_1": output, …} for every named layer in prediction mode, in order of completion."""
    shard = Shard(network.plain, network.params, x, context, releases=False)
    for segment in network.plain.segments:
        shard.forward(segment)
    return {name: shard.slots[slot] for name, slot in network.outputs.items()}


class Executor:
    """Runs the shards of a batch on threads of this process; a device does not split it by default.

    Use it as a context manager, which limits BLAS to one thread. training: whether it trains, which takes three times
    the work of prediction. communicator: of the processes that share the shards. xp: the array module of the run, if
    not the network's.
    """

    def __init__(
        self,
        network: Network,
        batch_size: int,
        shards: int | None = None,
        threads: int | None = None,
        training: bool = False,
        communicator: Communicator = ALONE,
        xp: ArrayModule | None = None,
    ) -> None:
        self.network, self.communicator, self.xp = network, communicator, network.xp if xp is None else xp
        host = is_host(self.xp)
        self.shards = min(check_shards(shards, batch_size), batch_size) if host or shards else communicator.size
        work = network.multiplications * (3 if training else 1) * batch_size / self.shards
        if threads is None and communicator.size > 1:
            threads = 1  # the other processors belong to the other ranks
        self.threads = min(check_threads(threads, work), self.shards) if host else 1
        self._stack = ExitStack()

    def __enter__(self) -> Executor:
        self._stack.enter_context(blas_on_one_thread())
        self._pool = None
        if self.threads > 1:
            kind = "threads", self.threads, os.getpid()  # a forked process has none of its parent's threads
            self._pool = self._stack.enter_context(self.network.borrow(kind, self._start_threads))
        return self

    def _start_threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.threads - 1, "xpcnn", initializer=hold_in_this_thread)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def borrow_memory(self, make: Callable[[], M], kind: Hashable, only: Hashable = None) -> M:
        """Return the memory and recordings of an earlier run of this kind, or new memory."""
        memory = self._stack.enter_context(self.network.borrow(kind, make, only))
        self._stack.callback(memory.batch.clear)
        return memory

    def run(
        self,
        rounds: Sequence[Round],
        begin: Callable[[int], Shard],
        count: int,
        holders: int = 1,
        notes: Notes | None = None,
    ) -> list[Shard]:
        """Run shards through all rounds, and return them.

        begin: creates a shard by its index, on the thread that runs it. holders: how many ranks have shards. notes:
        records all calls for replay.
        """
        shards: dict[int, Shard] = {}
        total: Any = None
        for one_round in rounds:
            work: Callable[[int], Any] = functools.partial(self._work, shards, begin, one_round, total)
            if notes is not None:
                work = notes.taken(work, count)
            parts = list(map(work, range(count))) if self._pool is None else self._on_threads(work, count)
            total = None if parts[0] is None else self._all_reduce(parts, holders, notes)
        return [shards[number] for number in range(count)]

    def _work(
        self, shards: dict[int, Shard], begin: Callable[[int], Shard], one_round: Round, total: Any, number: int
    ) -> Any:
        """Run one round of one shard."""
        shard = shards[number] = shards.get(number) or begin(number)
        for act, segment in one_round:
            total = act(shard, segment, total)
        return total

    def _all_reduce(self, parts: list[Any], holders: int, notes: Notes | None) -> Any:
        """Sum the results of the shards of all ranks."""
        with nullcontext() if notes is None else notes.between():
            return self.communicator.all_reduce(add_tree(parts, operator.add), holders)

    def on_shards(self, work: Callable[[int], Any], count: int) -> list[Any]:
        """Run every shard, sequentially or on threads."""
        return list(map(work, range(count))) if self._pool is None else self._on_threads(work, count)

    def _on_threads(self, work: Callable[[int], Any], count: int) -> list[Any]:
        """Run shard i on thread i modulo the number of threads; the calling thread is the first."""
        assert self._pool is not None
        results: list[Any] = [None] * count

        def work_from(first: int) -> None:
            for number in range(first, count, self.threads):
                results[number] = work(number)

        others = [self._pool.submit(work_from, t) for t in range(1, min(self.threads, count))]
        try:
            work_from(0)
        finally:
            wait(others)  # even after an error, since they use memory that the next run reuses
        for future in others:
            future.result()
        return results


def _output_of(layer: Layer, found: Any, n: int) -> tuple[Array, Any]:
    """Return the output for n images and the backward function that a custom layer has returned, or raise TypeError."""
    if not isinstance(found, tuple) or len(found) != 2:
        raise TypeError(f"{layer.name!r} must return (y, backward) from forward. Received: {type(found).__name__}.")
    y, backward = found
    return _of_shape(y, (n, *layer.output_shape), f"{layer.name!r} must return y from forward"), backward


def _of_shape(array: Any, shape: Shape, must: str) -> Array:
    """Return what a custom layer has returned, or raise TypeError, saying what it ``must``, if its shape is another."""
    if getattr(array, "shape", None) != shape:
        received = f"an array of shape {array.shape}" if hasattr(array, "shape") else type(array).__name__
        raise TypeError(f"{must}, an array of shape {shape}. Received: {received}.")
    return array


def _copied(array: Array, workspace: Workspace) -> Array:
    copy = workspace.like(array)
    copy[...] = array
    return copy


def _watched(views: Arrays) -> Arrays:
    """Return views as read-only mappings, so that a layer can only write into the arrays themselves."""
    return MappingProxyType({name: watched(view) for name, view in views.items()})
