"""Predicting and measuring: many images through a network, a batch at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from xpcnn.losses import Loss
from xpcnn.metrics import Metric, with_targets
from xpcnn.network import Network
from xpcnn.registry import whole
from xpcnn.training.shards import Runner

HostArray = np.ndarray[Any, Any]


def infer(
    network: Network,
    x: Any,
    batch_size: int,
    threads: int | None = None,
    loss: Loss | None = None,
) -> HostArray:
    """Return the output for all of x, (n, …), on the host; for a ``loss``, of the program that it wants."""
    n, batch_size = len(x), whole("batch_size", batch_size, 1)
    y = np.empty((n, *network.output_shape), dtype=network.dtype)
    with Runner(network, min(batch_size, n), None, threads) as runner:
        runner.prepare_inference()
        for start in range(0, n, batch_size):
            rows = slice(start, min(start + batch_size, n))
            runner.infer(np.asarray(x[rows], dtype=network.dtype), network.program(loss), y[rows])
    return y


def evaluate(
    network: Network,
    loss: Loss,
    metrics: Sequence[Metric],
    x: Any,
    y: HostArray,
    weights: HostArray | None,
    batch_size: int,
    threads: int | None = None,
) -> dict[str, Any]:
    """Return {"loss": …, "accuracy": …} over all samples; the loss is computed from logits where it can be."""
    outputs = infer(network, x, batch_size, threads, loss)
    targets = loss.prepare(y, network.output_shape[0], weights, network.dtype)
    value, _, probabilities = loss.evaluate(
        np, outputs, targets.rows, targets.weights, targets.normalizer, from_logits=network.program(loss).from_logits
    )
    results: dict[str, Any] = {"loss": float(value)}
    for metric, expected in with_targets(metrics, targets, y, network.output_shape[0]):
        results[metric.name] = metric.result(metric.sums(np, probabilities, expected))
    return results
