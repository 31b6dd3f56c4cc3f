"""A training step and a prediction of each side on a GPU, launched kernel by kernel or as one CUDA graph."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.networks import NETWORKS, copy_weights, samples, torch_model, xpcnn_model

Step = Callable[[], object]


@dataclass
class Side:
    """One side's work: a call, and how to measure its time on the device."""

    call: Step
    milliseconds: Callable[[Step, int], float]


def pair(xp: Any, name: str) -> tuple[Any, Any]:
    """Return a network for both sides, on the device, with the same weights."""
    shape, _, description = NETWORKS[name]
    model, module = xpcnn_model(shape, description), torch_model(shape, description)
    copy_weights(model, module)
    return model.to(xp), module.cuda()


def batch_of(xp: Any, name: str, n: int) -> tuple[Any, Any, Any, Any]:
    """Return a batch for xpcnn (images with the batch last in memory, one-hot labels) and for PyTorch."""
    import torch

    from xpcnn.ops.workspace import Workspace

    shape, _, description = NETWORKS[name]
    x, y = samples(shape, n)
    images = Workspace(xp).batch_last(x.shape, np.float32)
    images[...] = xp.asarray(x)
    rows = xp.asarray(np.eye(description[-1][1], dtype=np.float32)[y])
    return images, rows, torch.from_numpy(x).cuda(), torch.from_numpy(y).cuda()


def xpcnn_train(xp: Any, model: Any, images: Any, rows: Any) -> Step:
    """Return the work of a training step: forward, loss, backward and Adam, on arrays at fixed addresses."""
    from xpcnn.layers import Context
    from xpcnn.ops.workspace import Workspace
    from xpcnn.program.execute import Goal, Shard, train_whole

    network, optimizer = model.network, model.optimizer
    optimizer.build(xp, network.parameters)
    program = network.training_program(model.loss)
    gradient = xp.zeros(network.layout.size, dtype=np.float32)
    views, segments = network.layout.layer_views(gradient), network.layout.segments()
    scalars = xp.asarray(np.array(optimizer.scalars(0), np.float32))
    divisor, step = xp.full((), float(len(rows)), np.float32), xp.zeros(1, np.uint64)

    def work() -> Any:
        context = Context(Workspace(xp), training=True, step=step)
        losses: list[Any] = []
        goal = Goal(model.loss, rows, None, divisor)
        report = lambda loss, probabilities: losses.append(loss)  # noqa: E731
        train_whole(Shard(program, network.params, images, context, views, goal, report))
        optimizer.apply(network.parameters, gradient, segments, scalars)
        network.update_buffers(context.buffers)
        return losses[0]

    return work


def xpcnn_predict(xp: Any, model: Any, images: Any) -> Step:
    """Return the work of a prediction."""
    from xpcnn.layers import Context
    from xpcnn.ops.workspace import Workspace
    from xpcnn.program.execute import infer

    network = model.network
    return lambda: infer(network, images, Context(Workspace(xp)), network.program())


def torch_train(module: Any, x: Any, y: Any, *, capturable: bool = False, compiled: bool = False) -> Step:
    """Return the work of a training step of a copy of the module, with fused Adam.

    capturable: for a graph of the whole step; compiled: with torch.compile, which captures graphs itself.
    """
    import torch

    module = copy.deepcopy(module)
    forward = torch.compile(module, mode="reduce-overhead") if compiled else module
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3, fused=True, capturable=capturable)

    def work() -> Any:
        optimizer.zero_grad(set_to_none=True)
        loss = torch.nn.functional.cross_entropy(forward(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return work


def torch_predict(module: Any, x: Any) -> Step:
    """Return the work of a prediction."""
    import torch

    module = copy.deepcopy(module).eval()

    def work() -> Any:
        with torch.inference_mode():
            return torch.softmax(module(x), dim=1)

    return work


def torch_graph(work: Step) -> Step:
    """Capture PyTorch's work as one CUDA graph, following its documentation, and return its replay."""
    import torch

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            work()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()

    def replay() -> object:
        graph.replay()
        return work  # keeps alive the module and the optimiser, whose memory the graph uses

    return replay


def cupy_milliseconds(xp: Any) -> Callable[[Step, int], float]:
    """Return a function that times calls by device events on CuPy's current stream."""

    def milliseconds(call: Step, n: int) -> float:
        start, end = xp.cuda.Event(), xp.cuda.Event()
        start.record()
        for _ in range(n):
            call()
        end.record()
        end.synchronize()
        return float(xp.cuda.get_elapsed_time(start, end)) / n

    return milliseconds


def torch_milliseconds(call: Step, n: int) -> float:
    """Return the milliseconds of a call, by device events on PyTorch's current stream."""
    import torch

    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    for _ in range(n):
        call()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / n


def first_multiplications(model: Any) -> int:
    """Return the multiplications of the first layer with weights, the gradient of whose input is never computed."""
    import math

    layer = next(node.layer for node in model.network.nodes if node.layer.declarations)
    return int(layer.declarations[0].size * math.prod(layer.output_shape[1:]))


def launches(call: Step) -> int | None:
    """Return how many kernels and copies a call launches on the device, or None if the profiler fails."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    try:
        call()
        torch.cuda.synchronize()
        with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as seen:
            call()
            torch.cuda.synchronize()
        on_device = (event for event in seen.events() if event.device_type == torch.autograd.DeviceType.CUDA)
        return sum(1 for event in on_device if not getattr(event, "is_user_annotation", False))
    except Exception as error:  # a profiler that fails to start must not end the run
        print(f"launches are not counted: {error}")
        return None
