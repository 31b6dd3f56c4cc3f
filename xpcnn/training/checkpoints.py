"""The checkpoint file: everything that a fit needs to resume as if never interrupted."""

from __future__ import annotations

import json
import platform
import reprlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from xpcnn import files
from xpcnn.backend import ArrayModule, kernels, to_host
from xpcnn.optimizers.loss_scale import LossScale
from xpcnn.parameters import check_values
from xpcnn.precision import precision_of, stored_dtype
from xpcnn.registry import Number, check_float, check_int
from xpcnn.training.engine.base import Figures
from xpcnn.training.fit import Fit, Position, Stateful
from xpcnn.training.task import changes, differences, to_json
from xpcnn.version import __version__

HostArray = np.ndarray[Any, Any]

#: The version of the file; newer ones are rejected.
FORMAT = 1
#: The version of the arithmetic, increased whenever the exact results of a step change; files without one have 1.
ARITHMETIC = 6
#: The file name of the checkpoint in the directory of a run.
NAME = "checkpoint.safetensors"
#: An upper bound on updates and epochs that no fit reaches.
MOST_STEPS = 2**62
#: The maximum number of differences listed in an error.
_MOST_NAMED = 5


def write(path: files.PathLike, fit: Fit, record: Any = None) -> None:
    """Write the checkpoint of a fit between two steps; the previous one is replaced only once this one is complete.

    record: any JSON-serialisable value to store with it. Raises OSError for a path that cannot be written.
    """
    position, layout, scale = fit.position(), fit.network.layout, fit.optimizer.loss_scale
    tensors = {f"model.{name}": value for name, value in fit.network.host_values().items()}
    for name, moment in fit.optimizer.moments.items():
        tensors |= {f"moments.{name}.{key}": view for key, view in layout.views(to_host(moment)).items()}
    tensors |= {f"data.{name}": digests for name, digests in fit.task.digests.items()}
    tensors |= {
        "epoch.losses": position.figures.losses,
        "epoch.weights": np.array(position.figures.weights, float),
        "steps": np.array(fit.history.steps, float),
    }
    tensors |= {f"epoch.sums.{index}": np.asarray(total) for index, total in enumerate(position.figures.sums)}
    states = []
    for index, callback in enumerate(_stateful(fit.callbacks)):
        name, state = type(callback).__name__, callback.state()
        arrays = {key: value for key, value in state.items() if isinstance(value, np.ndarray)}
        tensors |= {f"callbacks.{index}.{key}": array for key, array in arrays.items()}
        states.append([name, {key: value for key, value in state.items() if key not in arrays}])
    # What grows with the run is stored as tensors, since the size of the description is limited.
    for name, value in (("history", fit.history.history), ("callbacks", states), ("record", record)):
        tensors[name] = np.frombuffer(to_json(value).encode("ascii"), np.uint8)
    description = {
        "checkpoint": FORMAT,
        "versions": versions(fit.work.xp),
        "precision": precision_of(fit.work.xp),
        "settings": fit.settings,
        "epoch": position.epoch,
        "first_epoch": position.first_epoch,
        "done": position.done,
        "seconds": position.seconds,
        "step": fit.step,
        "skipped": fit.optimizer.skipped,
        "loss_scale": None if scale is None else scale.numbers(),
        "learning_rate": _changed_rate(fit),
        "stop_reason": None if fit.interrupted else fit.stop_reason,
    }
    files.save_tensors(path, tensors, description)


def read(path: files.PathLike, advice: str = "Give a checkpoint that xpcnn wrote.") -> SavedFit:
    """Return the content of a checkpoint file, given the file or the directory of a run.

    advice: appended to the error for a damaged file. Raises FileNotFoundError if there is no file, ValueError if it is
    damaged or not a checkpoint.
    """
    file = Path(path, NAME) if Path(path).is_dir() else Path(path)
    if not file.exists():
        raise FileNotFoundError(
            f"There is no checkpoint {str(file)!r}. Give one that callbacks.Checkpoint wrote, "
            "or omit resume to start a new fit."
        )
    tensors, description = files.load_tensors(file, advice)
    version = description.get("checkpoint") if isinstance(description, dict) else None
    if version != FORMAT:
        what = "a model, not a checkpoint" if version is None else f"a checkpoint of format {reprlib.repr(version)}"
        raise ValueError(f"{str(file)!r} is {what}. Give a checkpoint of format {FORMAT}, such as a run's {NAME}.")
    return SavedFit(file, tensors, description)


@dataclass(frozen=True, eq=False)
class SavedFit:
    """The content of a checkpoint file; see :func:`read`."""

    path: Path
    tensors: Mapping[str, HostArray]
    description: Mapping[str, Any]

    @property
    def record(self) -> Any:
        """The value that was stored with the checkpoint."""
        with _damage_told(self.path):
            return self._parsed("record")

    @property
    def step(self) -> int:
        """The number of updates made so far."""
        with _damage_told(self.path):
            return check_int("step", self.description["step"])

    @property
    def layers(self) -> list[Any]:
        """The layers of the network, for :func:`xpcnn.layers.configs.from_plain`."""
        with _damage_told(self.path):
            return list(self.description["settings"]["layers"])

    @property
    def used_numba(self) -> bool:
        """Whether compiled kernels computed the fit."""
        versions = self.description.get("versions")
        return isinstance(versions, dict) and "numba" in versions

    @property
    def precision(self) -> str:
        """What products and convolutions were computed in."""
        return str(self.description.get("precision", "float32"))

    def in_precision(self, precision: str) -> SavedFit:
        """Return this checkpoint for resuming in another precision.

        Results then differ in their last bits, and float16's loss scale starts afresh.
        """
        kept = self.description.get("loss_scale") if precision == self.precision else None
        return replace(self, description={**self.description, "precision": precision, "loss_scale": kept})

    @property
    def finished(self) -> bool:
        """Whether the fit had ended, normally or early."""
        with _damage_told(self.path):
            description = self.description
            end = description["first_epoch"] + description["settings"]["epochs"]
            return bool(description["stop_reason"] is not None or description["epoch"] >= end)

    def restore(self, fit: Fit) -> None:
        """Restore the weights, moments, counts and history of a fit.

        Raises ValueError, with nothing changed, if the checkpoint is damaged, or belongs to another fit, saying what
        differs. Rank 0 warns if versions differ, since results may then not be bit-identical.
        """
        digests = fit.task.digests
        with _damage_told(self.path):
            self._refuse_another(fit.settings, digests)
            self._matched(fit.callbacks)
            self._changed_rate()
            step = self.step
            description, tensors, layout = self.description, self.tensors, fit.network.layout
            values = self._under("model.")
            declared = (*layout.declarations, *fit.network.buffer_layout.declarations)
            check_values(values, declared)
            moments = {name: np.zeros(layout.size, fit.network.dtype) for name in fit.optimizer.moment_names}
            for name, moment in moments.items():
                kept = self._under(f"moments.{name}.")
                check_values(kept, layout.declarations)
                for key, view in layout.views(moment).items():
                    view[...] = kept[key]
            scaling = description.get("loss_scale") or {"skipped": description.get("skipped", 0)}
            if LossScale(np, **scaling).numbers()["skipped"] > step:
                raise ValueError("more steps were skipped than made")
            if not all(np.isfinite(array).all() for array in (*values.values(), *moments.values())):
                raise ValueError("it contains NaN or infinite weights")
            sums = [tensors[f"epoch.sums.{index}"] for index in range(len(fit.metrics) if description["done"] else 0)]
            figures = Figures(tensors["epoch.losses"], tensors["epoch.weights"].tolist(), sums)
            epoch, first_epoch, done = (check_int(name, description[name]) for name in ("epoch", "first_epoch", "done"))
            position = Position(epoch, first_epoch, done, float(description["seconds"]), figures)
            last = min(MOST_STEPS, first_epoch + fit.settings["epochs"])
            counted = len(figures.losses) == len(figures.weights) == done and step <= MOST_STEPS
            if not (counted and done < fit.batches_per_epoch and first_epoch <= epoch <= last):
                raise ValueError("its counts are inconsistent")
            history = {str(name): list(column) for name, column in self._parsed("history").items()}
            logs = {name: column[-1] for name, column in history.items()}
            steps, stop_reason = tensors["steps"].tolist(), description["stop_reason"]
        if fit.communicator.rank == 0:
            self._tell_of_versions(fit.work.xp)
        fit.network.set_values(values)
        fit.optimizer.build(fit.work.xp, fit.network.parameters)
        fit.optimizer.load_state({"step": np.array(step), **moments} | {n: np.array(v) for n, v in scaling.items()})
        fit.history.history, fit.history.steps, fit.logs = history, steps, logs
        fit.stop_reason = None if stop_reason is None else str(stop_reason)
        fit.go_on_from(position)

    def restore_callbacks(self, fit: Fit) -> None:
        """Restore the state of callbacks, and a learning rate that they had set, after ``on_fit_begin``."""
        with _damage_told(self.path):
            rate = self._changed_rate()
            for index, (callback, state) in enumerate(self._matched(fit.callbacks)):
                try:
                    callback.load_state({**state, **self._under(f"callbacks.{index}.")})
                except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
                    name = type(callback).__name__
                    raise ValueError(f"the state of callbacks.{name} is invalid: {error!r}") from error
        if rate is not None:
            fit.optimizer.learning_rate = rate

    def _changed_rate(self) -> float | None:
        rate = self.description["learning_rate"]
        return None if rate is None else check_float("learning_rate", rate, "[0, inf)")

    def _matched(self, callbacks: Sequence[Stateful]) -> list[tuple[Stateful, dict[str, Any]]]:
        """Return the callbacks that have a state, each with its saved state; ValueError if they are different ones."""
        saved = [(str(name), dict(state)) for name, state in self._parsed("callbacks")]
        stateful = _stateful(callbacks)
        names, given = [name for name, _ in saved], [type(callback).__name__ for callback in stateful]
        if names != given:
            raise _OtherFitError(
                f"{str(self.path)!r} was written with the callbacks {', '.join(names)[:200] or '(none)'}. "
                f"Received: {', '.join(given) or '(none)'}. Give the same callbacks, in the same order."
            )
        return list(zip(stateful, (state for _, state in saved), strict=True))

    def _refuse_another(self, settings: dict[str, Any], digests: dict[str, HostArray]) -> None:
        found = [*differences("", self.description["settings"], settings)]
        before = self._under("data.")
        for name in sorted({**before, **digests}):
            found += changes(name, before.get(name), digests.get(name))
        if found:
            more = f", and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
            raise _OtherFitError(
                f"{str(self.path)!r} belongs to another fit: {'; '.join(found[:_MOST_NAMED])}{more}. "
                "Use the same settings and data to resume it, or omit resume to start a new fit."
            )

    def _tell_of_versions(self, xp: ArrayModule) -> None:
        written_by = self.description.get("versions")
        then = {"arithmetic": 1, **written_by} if isinstance(written_by, dict) else {}
        different = [*differences("", then, versions(xp))]
        if different:
            warnings.warn(
                f"{str(self.path)!r} was written in another environment: {'; '.join(different)}. Results may not be "
                "bit-identical to those of an uninterrupted run.",
                stacklevel=2,
            )

    def _parsed(self, name: str) -> Any:
        return json.loads(self.tensors[name].tobytes())

    def _under(self, prefix: str) -> dict[str, HostArray]:
        """Return the tensors whose names start with a prefix, by the rest of their names."""
        return {name.removeprefix(prefix): array for name, array in self.tensors.items() if name.startswith(prefix)}


class _OtherFitError(ValueError):
    """An intact checkpoint that belongs to another fit; not reported as damaged."""


@contextmanager
def _damage_told(path: Path) -> Iterator[None]:
    """Turn any error raised by a damaged file into one that names the file."""
    try:
        yield
    except _OtherFitError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError, RecursionError) as error:
        raise ValueError(f"{str(path)!r} is damaged and cannot be resumed: {files.reason_of(error)}.") from error


def _stateful(callbacks: Sequence[Stateful]) -> list[Stateful]:
    """Return the callbacks that have a state, without reading it: it may not exist before ``on_fit_begin``."""
    return [callback for callback in callbacks if callback.has_state]


def _changed_rate(fit: Fit) -> float | None:
    """Return the learning rate if a callback has changed it since the fit began, else None."""
    rate = fit.optimizer.config()["learning_rate"]
    return float(rate) if isinstance(rate, Number) and rate != fit.settings["optimizer"]["learning_rate"] else None


def versions(xp: ArrayModule) -> dict[str, str | int]:
    """Return the versions that affect the exact results of a fit on an array module, besides its task."""
    numbers: dict[str, str | int] = {"xpcnn": __version__, "numpy": np.__version__, "machine": platform.machine()}
    if kernels(xp) == "cpu":
        from xpcnn.ops.cpu import compiler  # which imports Numba

        numbers |= compiler.versions()
    if stored_dtype(xp) is not None:  # those of before were float32
        numbers["images"] = precision_of(xp)
    return {**numbers, "arithmetic": ARITHMETIC}
