"""Where a training step of xpcnn spends its time: each layer's passes, and how close they come to the peak."""

from __future__ import annotations

import math
import statistics
import time
from collections import defaultdict
from contextlib import ExitStack
from typing import Any

import numpy as np

from benchmarks.networks import NETWORKS, samples, xpcnn_model
from benchmarks.sides import xpcnn_train

#: Images per shard, computed by one thread.
IMAGES = 16
WARM_UP = 5


def layer_times(name: str, rounds: int) -> list[dict[str, Any]]:
    """Return for each layer, fused as in training, the median ms and the GFLOP/s of its passes in replayed steps.

    Operations are counted by the layer's definition, so an algorithm that needs fewer can exceed the peak.
    """
    from xpcnn.recording import each_time

    shape, _, description = NETWORKS[name]
    x, y = samples(shape, IMAGES)
    model = xpcnn_model(shape, description)
    nodes = model.network.training_program(model.loss).nodes
    times: dict[tuple[int, str], list[float]] = defaultdict(list)
    started = 0.0

    def start() -> None:
        nonlocal started
        started = time.perf_counter()

    def timed(key: tuple[int, str], function: Any) -> Any:
        """Return a function that is timed, in replays too."""

        def run(*given: Any, **options: Any) -> Any:
            each_time(start)
            result = function(*given, **options)
            each_time(lambda: times[key].append((time.perf_counter() - started) * 1e3))
            return result

        return run

    def watch(number: int, layer: Any) -> None:
        forward = timed((number, "forward"), layer.forward)

        def watched_forward(*given: Any, **options: Any) -> Any:
            y, backward = forward(*given, **options)
            key = number, "backward"
            first = timed(key, backward)
            if not layer.reduces_over_batch:
                return y, first

            def in_two(dy: Any, gradients: Any) -> tuple[Any, Any]:
                sums, input_gradient = first(dy, gradients)
                return sums, timed(key, input_gradient)

            return y, in_two

        layer.forward = watched_forward
        if layer.reduces_over_batch:
            layer.local_sums = timed((number, "forward"), layer.local_sums)

    for number, node in enumerate(nodes):
        watch(number, node.layer)
    with ExitStack() as stack:
        step = xpcnn_train(model, x, y, 1, stack)
        for _ in range(WARM_UP + rounds):
            step()
    rows = []
    for number, node in enumerate(nodes):
        row: dict[str, Any] = {"layer": node.layer.name or type(node.layer).__name__}
        halves = 1 + node.layer.reduces_over_batch
        for direction, products in (("forward", 1), ("backward", 1 + bool(node.passes_on))):
            each_step = np.reshape(times[number, direction], (-1, halves)).sum(axis=1)
            ms = float(np.median(each_step[WARM_UP:])) if len(each_step) else 0.0
            row[f"{direction}_ms"] = ms
            row[f"{direction}_gflops"] = 2e-6 * products * IMAGES * multiplications(node.layer) / ms if ms else 0.0
        rows.append(row)
    return rows


def multiplications(layer: Any) -> int:
    """Return the multiplications of one image's forward pass through a layer."""
    return sum(d.size * math.prod(layer.output_shape[1:]) for d in layer.declarations if len(d.shape) > 1)


def peak_gflops() -> float:
    """Return the GFLOP/s that one thread reaches on the product of two 1024 x 1024 matrices."""
    from xpcnn.program.threads import blas_on_one_thread

    a, b = np.random.default_rng(0).random((2, 1024, 1024), dtype=np.float32)
    out = np.empty_like(a)
    times = []
    with blas_on_one_thread():
        for _ in range(10):
            started = time.perf_counter()
            np.matmul(a, b, out=out)
            times.append(time.perf_counter() - started)
    return 2e-9 * 1024**3 / statistics.median(times)
