"""The loop over epochs and steps."""

from __future__ import annotations

import functools
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np

from xpcnn.backend import has_graphs
from xpcnn.data.batches import batches, shuffled
from xpcnn.precision import precision_of
from xpcnn.program.execute import Executor
from xpcnn.training import checkpoints, evaluation
from xpcnn.training.callbacks import Callback
from xpcnn.training.engine.base import EMPTY, Held, StepEngine, StepResult, Work
from xpcnn.training.engine.device import DeviceEngine
from xpcnn.training.engine.graphs import own_stream
from xpcnn.training.engine.host import HostEngine
from xpcnn.training.features import frozen_part
from xpcnn.training.fit import Fit
from xpcnn.training.history import History
from xpcnn.training.progress import Progress
from xpcnn.training.task import code_digest

HostArray = np.ndarray[Any, Any]


def run(
    fit: Fit,
    callbacks: Sequence[Callback],
    *,
    shuffle: bool,
    held: Held | None,
    shards: int | None,
    threads: int | None,
    verbose: int,
    resume: checkpoints.SavedFit | None = None,
) -> History:
    """Train for the epochs of a fit, or for those left in the one to resume.

    held: the data to evaluate after each epoch.
    """
    work, together = fit.work, fit.communicator
    callbacks = sorted(callbacks, key=lambda callback: callback.saves_fit)
    called = [callback for callback in callbacks if together.rank == 0 or not callback.writes]
    saves = resume is not None or any(callback.saves_fit for callback in callbacks)
    fit.callbacks = callbacks
    if saves or together.size > 1:
        fit.settings = fit.task.settings(work.network, work.optimizer, work.loss, work.metrics)
    if together.size > 1:
        _compare_ranks(fit, saves)
    if resume is not None:
        resume.restore(fit)
    fit.model.temperature = 1.0  # the calibration of the earlier weights no longer applies
    if fit.model.thresholds is not None:
        fit.model.thresholds = (0.5,) * len(fit.model.thresholds)
    work.optimizer.build(work.xp, work.network.parameters)
    before = fit.step, work.optimizer.skipped

    def on_gradient(result: StepResult) -> None:
        for callback in called:
            callback.on_gradient(fit, result)

    with ExitStack() as stack:
        make_engine = _choose_engine(stack, fit, called, shards, threads)
        stack.callback(_let_go, fit)
        for callback in reversed(called):  # every one is called, whatever happens, in the order given
            stack.callback(callback.on_fit_end, fit)
        for callback in called:
            callback.on_fit_begin(fit)
        if resume is not None:
            resume.restore_callbacks(fit)
        ended = _agree(fit)
        if fit.epoch < fit.epochs and not ended:
            part = frozen_part(fit, None if held is None else held.x, threads)
            if part is not None:
                ended = not part.compute(verbose, lambda: _agree(fit))
                work, held = part.work, held and held._replace(x=part.held)
            if not ended:
                fit.engine = engine = make_engine(work)
            evaluate = None if held is None else functools.partial(_evaluate, fit, work, held, threads)
            progress = Progress(fit, shown=verbose > 0)
            while fit.epoch < fit.epochs and not ended:
                order = _begin_epoch(fit, engine, called, shuffle)
                with progress.epoch(engine, fit.done * work.batch_size):
                    for positions in order:
                        fit.positions = positions
                        engine.step(positions, on_gradient)
                        fit.done += 1
                        progress.step(len(positions))
                        fit.ends_epoch = fit.done == fit.batches_per_epoch
                        for callback in called:
                            callback.on_step_end(fit)
                        ended = _agree(fit)
                        if ended:
                            break
                if fit.ends_epoch:
                    ended = _end_epoch(fit, engine, called, evaluate, verbose) or ended
            for callback in called:
                callback.on_stop(fit)
        fit.history.steps.extend(fit.position().figures.losses.tolist())  # of an unfinished epoch
    fit.history.stop_reason = fit.stop_reason
    if together.rank == 0:
        _tell_of_skipped(fit, *before)
    return fit.history


def _tell_of_skipped(fit: Fit, step: int, skipped: int) -> None:
    """Warn if float16 skipped every step of this fit, or the scale has fallen to 1 and the last step was skipped.

    step, skipped: the counts before the fit.
    """
    if fit.optimizer.loss_scale is None:
        return
    now, steps = fit.optimizer.loss_scale.numbers(), fit.step - step
    skips, stuck = now["skipped"] - skipped, now["scale"] == 1 and now["finite_steps"] == 0
    if skips and (skips == steps or stuck):
        warnings.warn(
            f"{skips} of {steps} steps changed nothing, since their gradients overflowed float16; the loss scale is "
            f"now {now['scale']:g}. Train longer if that is above 1; else use the precision 'bfloat16', or "
            "callbacks.StopOnNaN() to see where it begins.",
            stacklevel=4,
        )


def _begin_epoch(fit: Fit, engine: StepEngine, callbacks: Sequence[Callback], shuffle: bool) -> Iterator[HostArray]:
    """Return the remaining batches of an epoch, as positions among the samples."""
    fit.started = time.perf_counter() - fit.seconds
    for callback in callbacks:
        callback.on_epoch_begin(fit)
    n, size, seed = len(fit.work.samples.rows), fit.work.batch_size, fit.work.seed
    order = shuffled(n, seed, fit.epoch) if shuffle else np.arange(n)
    engine.begin_epoch(fit.epoch, order, fit.before)
    fit.before, fit.seconds = EMPTY, 0.0
    return batches(order[fit.done * size :], size)


def _end_epoch(
    fit: Fit,
    engine: StepEngine,
    callbacks: Sequence[Callback],
    evaluate: Callable[[], dict[str, Any]] | None,
    verbose: int,
) -> bool:
    """Record the results of an epoch, evaluate, and return whether the fit ends here."""
    losses, weights, sums = engine.figures()
    fit.history.steps.extend(losses.tolist())
    fit.done = 0
    fit.epoch += 1
    fit.model.epochs = fit.epoch
    fit.logs = {"loss": float(np.average(losses, weights=weights))}
    for metric, total in zip(fit.metrics, sums, strict=True):
        fit.logs[metric.name] = metric.result(total)
    if evaluate is not None:
        fit.logs.update({f"val_{name}": value for name, value in evaluate().items()})
    fit.logs["lr"] = engine.rate
    fit.logs["seconds"] = time.perf_counter() - fit.started
    fit.history.append(fit.logs)
    for callback in callbacks:
        callback.on_epoch_end(fit)
    if verbose and fit.epoch % verbose == 0:
        print(_line(fit), flush=True)  # last, so that a printed epoch is saved
    return _agree(fit)


def _evaluate(fit: Fit, work: Work, held: Held, threads: int | None) -> dict[str, Any]:
    """Return the loss and the metrics of the validation data."""
    return evaluation.evaluate(
        work.network, work.loss.unsmoothed(), work.metrics, *held, max(work.batch_size, 256), threads,
        communicator=fit.communicator, xp=work.xp,
    )  # fmt: skip


def _choose_engine(
    stack: ExitStack, fit: Fit, callbacks: Sequence[Callback], shards: int | None, threads: int | None
) -> Callable[[Work], StepEngine]:
    """Return a factory for the engine: DeviceEngine on a single device, unless shards or gradients are needed."""
    work, ranks = fit.work, fit.communicator.size
    watched = any(callback.looks_at_gradients for callback in callbacks)
    if has_graphs(work.network.xp) and shards in (None, 1) and not watched and ranks == 1:
        stack.enter_context(own_stream(work.network.xp))
        return lambda work: DeviceEngine(work, guarded=any(callback.guards for callback in callbacks))

    def make(work: Work) -> StepEngine:
        size = min(work.batch_size, len(work.samples.rows))
        executor = stack.enter_context(Executor(work.network, size, shards, threads, True, fit.communicator, work.xp))
        if fit.communicator.rank == 0 and executor.shards < ranks:
            warnings.warn(
                f"A batch of {size} is split into {executor.shards} shards, so {ranks - executor.shards} of {ranks} "
                "ranks are idle. Use more shards or larger batches.",
                stacklevel=4,
            )
        return HostEngine(work, executor)

    return make


def _compare_ranks(fit: Fit, saves: bool) -> None:
    """Raise ValueError unless all ranks run the same fit, and broadcast the weights of rank 0.

    saves: whether checkpoints are read or written, which requires digests of the data.
    """
    together, network, xp = fit.communicator, fit.network, fit.work.xp
    computing = {"backend": str(xp.__name__), "precision": precision_of(xp)}
    together.same("code", checkpoints.versions(xp) | computing | {"sources": code_digest()})
    together.same("arguments", fit.settings)
    together.same("data", fit.task.sample_digests())
    together.same("training progress", {"epochs": fit.epoch, "steps": fit.step})
    if saves:
        fit.task.find_digests(together.parallel_map)  # now, while all ranks can help, not when rank 0 writes
    network.set_values(together.broadcast(network.host_values()))


def _agree(fit: Fit) -> bool:
    """Return whether the fit ends here: on all ranks if one stops, since a signal may reach just one."""
    ended = False
    fit.communicator.doing = f"step {fit.step}, epoch {fit.epoch + 1}"
    for reason, interrupted in fit.communicator.allgather((fit.stop_reason, fit.interrupted)):
        if reason is not None:
            ended = True
            if fit.stop_reason is None:
                fit.stop_reason, fit.interrupted = reason, interrupted
    return ended


def _let_go(fit: Fit) -> None:
    """Release the engine and its memory."""
    fit.engine = fit.positions = None


def _line(fit: Fit) -> str:
    """Return the line that summarises an epoch."""
    shown = (f"{name} {value:.4g}" for name, value in fit.logs.items() if np.ndim(value) == 0 and name != "seconds")
    return f"epoch {fit.epoch}/{fit.epochs}  {'  '.join(shown)}  {fit.logs['seconds']:.1f} s"
