"""The checkpoint file: everything that a fit needs to resume as if never interrupted."""

from __future__ import annotations

import json
import platform
import reprlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xpcnn import files
from xpcnn.backend import to_host
from xpcnn.parameters import check_values
from xpcnn.registry import Number, check_float, check_int
from xpcnn.training.engine.base import Figures
from xpcnn.training.fit import Fit, Position, Stateful
from xpcnn.training.task import changes, differences, to_json
from xpcnn.version import __version__

HostArray = np.ndarray[Any, Any]

#: The version of the file; newer ones are rejected.
FORMAT = 1
#: The number of the arithmetic, raised with every change of the bits that a step gives; files without one have 1.
ARITHMETIC = 2
#: What the file is called in the directory of a run.
NAME = "checkpoint.safetensors"
#: Upper bounds on updates and epochs, which no fit reaches.
MOST_STEPS = 2**62
#: The maximum number of differences that an error lists.
_MOST_NAMED = 5


def write(path: files.PathLike, fit: Fit, record: Any = None) -> None:
    """Write the checkpoint of a fit between two steps; the one before it stays until this one is whole.

    record: anything that JSON can hold, kept for whoever resumes. Raises OSError for a path that cannot be written.
    """
    position, layout = fit.position(), fit.network.layout
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
    # What grows with the run is kept in tensors: a description has a bound.
    for name, value in (("history", fit.history.history), ("callbacks", states), ("record", record)):
        tensors[name] = np.frombuffer(to_json(value).encode("ascii"), np.uint8)
    description = {
        "checkpoint": FORMAT,
        "versions": versions(),
        "settings": fit.settings,
        "epoch": position.epoch,
        "first_epoch": position.first_epoch,
        "done": position.done,
        "seconds": position.seconds,
        "step": fit.step,
        "learning_rate": _changed_rate(fit),
        "stop_reason": None if fit.interrupted else fit.stop_reason,
    }
    files.save_tensors(path, tensors, description)


def read(path: files.PathLike, advice: str = "Give a checkpoint that xpcnn wrote.") -> SavedFit:
    """Return what a checkpoint file holds, or that in a run's directory.

    Raises FileNotFoundError where there is none, ValueError for another file, or, with this advice, for a damaged one.
    """
    file = Path(path, NAME) if Path(path).is_dir() else Path(path)
    if not file.exists():
        raise FileNotFoundError(
            f"There is no checkpoint {str(file)!r}. Give one that callbacks.Checkpoint wrote; "
            "without resume a fit begins anew."
        )
    tensors, description = files.load_tensors(file, advice)
    version = description.get("checkpoint") if isinstance(description, dict) else None
    if version != FORMAT:
        what = "a model, not a checkpoint" if version is None else f"a checkpoint of format {reprlib.repr(version)}"
        raise ValueError(f"{str(file)!r} is {what}. Give a checkpoint of format {FORMAT}, such as a run's {NAME}.")
    return SavedFit(file, tensors, description)


@dataclass(frozen=True, eq=False)
class SavedFit:
    """What a checkpoint file holds; see :func:`read`."""

    path: Path
    tensors: Mapping[str, HostArray]
    description: Mapping[str, Any]

    @property
    def record(self) -> Any:
        """What was kept for whoever resumes."""
        with _damage_told(self.path):
            return self._parsed("record")

    @property
    def step(self) -> int:
        """The number of updates made."""
        with _damage_told(self.path):
            return check_int("step", self.description["step"])

    @property
    def finished(self) -> bool:
        """Whether the fit had ended, normally or early."""
        with _damage_told(self.path):
            description = self.description
            end = description["first_epoch"] + description["settings"]["epochs"]
            return bool(description["stop_reason"] is not None or description["epoch"] >= end)

    def restore(self, fit: Fit) -> None:
        """Bring a fit to where this one was, weights, moments, counts and history.

        Raises ValueError, with nothing changed, where this belongs to another fit, saying what differs, or is damaged.
        The first rank warns where the versions differ, since the bits may then, too.
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
            if not all(np.isfinite(array).all() for array in (*values.values(), *moments.values())):
                raise ValueError("it holds weights that are not finite")
            sums = [tensors[f"epoch.sums.{index}"] for index in range(len(fit.metrics) if description["done"] else 0)]
            figures = Figures(tensors["epoch.losses"], tensors["epoch.weights"].tolist(), sums)
            epoch, first_epoch, done = (check_int(name, description[name]) for name in ("epoch", "first_epoch", "done"))
            position = Position(epoch, first_epoch, done, float(description["seconds"]), figures)
            last = min(MOST_STEPS, first_epoch + fit.settings["epochs"])
            counted = len(figures.losses) == len(figures.weights) == done and step <= MOST_STEPS
            there_is = done * fit.settings["batch_size"] <= len(fit.task.data["x"])
            if not (counted and there_is and first_epoch <= epoch <= last):
                raise ValueError("its counts contradict each other")
            history = {str(name): list(column) for name, column in self._parsed("history").items()}
            logs = {name: column[-1] for name, column in history.items()}
            steps, stop_reason = tensors["steps"].tolist(), description["stop_reason"]
        if fit.communicator.rank == 0:
            self._tell_of_versions()
        fit.network.set_values(values)
        fit.optimizer.build(fit.network.xp, fit.network.parameters)
        fit.optimizer.load_state({"step": np.array(step), **moments})
        fit.history.history, fit.history.steps, fit.logs = history, steps, logs
        fit.stop_reason = None if stop_reason is None else str(stop_reason)
        fit.go_on_from(position)

    def restore_callbacks(self, fit: Fit) -> None:
        """Give callbacks back what they knew, and the optimiser the rate that they left, once the fit has begun."""
        with _damage_told(self.path):
            rate = self._changed_rate()
            for index, (callback, state) in enumerate(self._matched(fit.callbacks)):
                try:
                    callback.load_state({**state, **self._under(f"callbacks.{index}.")})
                except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
                    raise ValueError(f"the state of callbacks.{type(callback).__name__}: {error!r}") from error
        if rate is not None:
            fit.optimizer.learning_rate = rate

    def _changed_rate(self) -> float | None:
        rate = self.description["learning_rate"]
        return None if rate is None else check_float("learning_rate", rate, "[0, inf)")

    def _matched(self, callbacks: Sequence[Stateful]) -> list[tuple[Stateful, dict[str, Any]]]:
        """Return the callbacks that have a state, each with the one that was kept; ValueError where they are others."""
        saved = [(str(name), dict(state)) for name, state in self._parsed("callbacks")]
        stateful = _stateful(callbacks)
        names, given = [name for name, _ in saved], [type(callback).__name__ for callback in stateful]
        if names != given:
            raise _OtherFitError(
                f"{str(self.path)!r} was written with the callbacks {', '.join(names)[:200] or '(none)'}. "
                f"Received: {', '.join(given) or 'none'}. Give the same, in the same order."
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
                "Give the same to go on with it, or no resume to begin anew."
            )

    def _tell_of_versions(self) -> None:
        written_by = self.description.get("versions")
        then = {"arithmetic": 1, **written_by} if isinstance(written_by, dict) else {}
        different = [*differences("", then, versions())]
        if different:
            warnings.warn(
                f"{self.path} was written elsewhere: {'; '.join(different)}. The last bits may differ from those of "
                "a run without a break.",
                stacklevel=2,
            )

    def _parsed(self, name: str) -> Any:
        return json.loads(self.tensors[name].tobytes())

    def _under(self, prefix: str) -> dict[str, HostArray]:
        """Return the tensors whose names begin so, by the rest of their names."""
        return {name.removeprefix(prefix): array for name, array in self.tensors.items() if name.startswith(prefix)}


class _OtherFitError(ValueError):
    """The checkpoint is whole and does not belong here: told as it is."""


@contextmanager
def _damage_told(path: Path) -> Iterator[None]:
    """Turn any error raised by a modified file into one that names the file."""
    try:
        yield
    except _OtherFitError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError, RecursionError) as error:
        raise ValueError(
            f"{str(path)!r} is damaged, and no fit can go on from it: {files.reason_of(error)}."
        ) from error


def _stateful(callbacks: Sequence[Stateful]) -> list[Stateful]:
    """Return the callbacks that have a state, without asking for it: before a fit they may have none yet."""
    return [callback for callback in callbacks if callback.has_state]


def _changed_rate(fit: Fit) -> float | None:
    """Return the learning rate that a callback has set; None where it is what it was when the fit began."""
    rate = fit.optimizer.config()["learning_rate"]
    return float(rate) if isinstance(rate, Number) and rate != fit.settings["optimizer"]["learning_rate"] else None


def versions() -> dict[str, str | int]:
    """Return what decides the last bits of a fit beside its task."""
    numbers = {"xpcnn": __version__, "numpy": np.__version__, "machine": platform.machine()}
    return {**numbers, "arithmetic": ARITHMETIC}
