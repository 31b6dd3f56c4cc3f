"""Where a training step of xpcnn spends its time: each layer's passes, and how close they come to the peak."""

from __future__ import annotations

import math
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np

from benchmarks.networks import NETWORKS, samples, xpcnn_model
from benchmarks.sides import xpcnn_train

#: Images of a piece, computed by one thread.
IMAGES = 16
WARM_UP = 5


def layer_times(name: str, rounds: int) -> list[dict[str, Any]]:
    """Return for each layer, fused as in training, median ms of its passes and their GFLOP/s, in replayed steps.

    The operations are those of the definition, so an algorithm with fewer can exceed the peak.
    """
    from xpcnn.recording import each_time

    shape, _, description = NETWORKS[name]
    x, y = samples(shape, IMAGES)
    model = xpcnn_model(shape, description)
    layers = model.network.program(model.loss).layers
    times: dict[tuple[int, str], list[float]] = defaultdict(list)
    started = 0.0

    def start() -> None:
        nonlocal started
        started = time.perf_counter()

    def timed(key: tuple[int, str], run: Any) -> Iterator[Any]:
        """Run one pass of a layer, a generator where pieces meet in it, between two readings of the clock."""
        each_time(start)
        result = (yield from run()) if layers[key[0]].meets else run()
        each_time(lambda: times[key].append((time.perf_counter() - started) * 1e3))
        return result

    def watch(number: int) -> None:
        layer = layers[number]
        forward = layer.forward

        def watched_forward(params: Any, x: Any, context: Any) -> Any:
            y, backward = yield from timed((number, "forward"), lambda: forward(params, x, context))

            def watched_backward(dy: Any, gradients: Any) -> Any:
                return timed((number, "backward"), lambda: backward(dy, gradients))

            return y, watched_backward if layer.meets else lambda dy, gradients: _result(
                watched_backward(dy, gradients)
            )

        layer.forward = watched_forward if layer.meets else lambda *given: _result(watched_forward(*given))

    for number in range(len(layers)):
        watch(number)
    with ExitStack() as stack:
        step = xpcnn_train(model, x, y, 1, stack)
        for _ in range(WARM_UP + rounds):
            step()
    rows = []
    for number, layer in enumerate(layers):
        row: dict[str, Any] = {"layer": layer.name or type(layer).__name__}
        for direction, products in (("forward", 1), ("backward", 1 + layer.needs_input_gradient)):
            ms = statistics.median(times[number, direction][WARM_UP:] or [0.0])
            row[f"{direction}_ms"] = ms
            row[f"{direction}_gflops"] = 2e-6 * products * IMAGES * multiplications(layer) / ms if ms else 0.0
        rows.append(row)
    return rows


def multiplications(layer: Any) -> int:
    """Return the multiplications of one image's forward pass through a layer."""
    shape = getattr(layer, "convolution", layer).output_shape
    return sum(d.size * math.prod(shape[1:]) for d in layer.declarations if len(d.shape) > 1)


def peak_gflops() -> float:
    """Return the speed of one thread for the product of two square matrices of 1024."""
    from xpcnn.training.threads import blas_on_one_thread

    a, b = np.random.default_rng(0).random((2, 1024, 1024), dtype=np.float32)
    out = np.empty_like(a)
    times = []
    with blas_on_one_thread():
        for _ in range(10):
            started = time.perf_counter()
            np.matmul(a, b, out=out)
            times.append(time.perf_counter() - started)
    return 2e-9 * 1024**3 / statistics.median(times)


def _result(run: Iterator[Any]) -> Any:
    """Return the result of a generator without a yield."""
    try:
        next(run)
    except StopIteration as end:
        return end.value
    raise RuntimeError("No pieces meet in this layer.")
