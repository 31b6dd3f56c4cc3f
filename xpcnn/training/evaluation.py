"""Prediction and evaluation, batch by batch."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np

from xpcnn.backend import ArrayModule, has_graphs
from xpcnn.calibration import soften
from xpcnn.communicator import ALONE, Communicator
from xpcnn.data.augmentation import View, ViewedImages
from xpcnn.losses import Loss
from xpcnn.metrics import Metric, with_targets
from xpcnn.program.execute import Executor
from xpcnn.program.network import Network
from xpcnn.program.program import Program
from xpcnn.registry import check_int
from xpcnn.training.engine.device_prediction import DevicePrediction
from xpcnn.training.engine.host_prediction import HostPrediction

HostArray = np.ndarray[Any, Any]
#: Writes the output of a program for a batch into an array: run(x, program, y).
Run: TypeAlias = Callable[[HostArray, Program, HostArray], None]

#: The images themselves, unchanged.
ONE_VIEW: Sequence[View] = ((0, 0, 0),)


def infer(
    network: Network,
    x: Any,
    batch_size: int,
    threads: int | None = None,
    loss: Loss | None = None,
    communicator: Communicator = ALONE,
    xp: ArrayModule | None = None,
) -> HostArray:
    """Return the output for all of x, (n, …), on the host; given a ``loss``, it may be logits.

    communicator: of the processes that share the batches. xp: the array module of the run of which this is a part;
    None: chosen for these images.
    """
    n, batch_size = len(x), check_int("batch_size", batch_size, 1)
    if threads is None and communicator.size > 1:
        threads = 1  # the other processors belong to the other ranks
    y = np.empty((n, *network.output_shape), dtype=network.dtype)
    xp = network.for_run(n) if xp is None else xp
    with _running(network, min(batch_size, n), threads, xp) as run:
        batches = [slice(start, min(start + batch_size, n)) for start in range(0, n, batch_size)]
        for rows in batches[communicator.rank :: communicator.size]:
            run(np.asarray(x[rows], dtype=network.dtype), network.program(loss), y[rows])
    if communicator.size > 1:
        own = [y[rows] for rows in batches[communicator.rank :: communicator.size]]
        for rank, theirs in enumerate(communicator.allgather(own)):
            for rows, output in zip(batches[rank :: communicator.size], theirs, strict=True):
                y[rows] = output
    return y


def predict(
    network: Network,
    x: Any,
    batch_size: int,
    threads: int | None = None,
    views: Sequence[View] = ONE_VIEW,
    temperature: float = 1.0,
    loss: Loss | None = None,
    xp: ArrayModule | None = None,
) -> HostArray:
    """Return the outputs for all of x, (n, …), on the host: calibrated, and averaged over all views.

    loss: may replace the last activation, so that the temperature divides logits. xp: as of :func:`infer`.
    """
    xp = network.for_run(len(x) * len(views)) if xp is None else xp
    loss = None if temperature == 1 else loss
    from_logits = network.program(loss).from_logits

    def answer(view: View) -> HostArray:
        viewed = x if not any(view) else ViewedImages(x, [view])
        return soften(infer(network, viewed, batch_size, threads, loss, xp=xp), temperature, from_logits)

    outputs = map(answer, views)
    total = next(outputs)
    for output in outputs:
        total += output
    total /= len(views)
    return total


@contextmanager
def _running(network: Network, batch_size: int, threads: int | None, xp: ArrayModule) -> Iterator[Run]:
    """Yield a function that predicts a batch, reusing the memory of an earlier run."""
    if has_graphs(network.xp):
        with network.borrow("device", functools.partial(DevicePrediction, network.xp)) as prediction, prediction:
            prediction.prepare(network)
            yield functools.partial(prediction.infer, network)
    else:
        with Executor(network, batch_size, None, threads, xp=xp) as executor:
            yield HostPrediction(executor).infer


def evaluate(
    network: Network,
    loss: Loss,
    metrics: Sequence[Metric],
    x: Any,
    y: HostArray,
    weights: HostArray | None,
    batch_size: int,
    threads: int | None = None,
    views: Sequence[View] = ONE_VIEW,
    temperature: float = 1.0,
    communicator: Communicator = ALONE,
    xp: ArrayModule | None = None,
) -> dict[str, Any]:
    """Return {"loss": …, "accuracy": …} over all samples; the loss is computed from logits if possible.

    views: outputs are averaged over these; temperature: divides the logits; xp: as of :func:`infer`.
    """
    if len(views) > 1 or temperature != 1:
        outputs, from_logits = predict(network, x, batch_size, threads, views, temperature, loss, xp), False
    else:
        outputs, from_logits = (
            infer(network, x, batch_size, threads, loss, communicator, xp),
            network.program(loss).from_logits,
        )
    targets = loss.prepare(y, network.output_shape[0], weights, network.dtype)
    value, _, probabilities = loss.evaluate(
        np, outputs, targets.encoded, targets.weights, targets.normalizer, from_logits=from_logits
    )
    results: dict[str, Any] = {"loss": float(value)}
    for metric, expected in with_targets(metrics, targets, y, network.output_shape[0]):
        results[metric.name] = metric.result(metric.sums(np, probabilities, expected))
    return results
