"""The checkpoint file: everything that a fit needs to go on as if nothing had happened."""

from __future__ import annotations

import functools
import json
import platform
import reprlib
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from xpcnn import __version__, files
from xpcnn.backend import to_host
from xpcnn.layers.configs import to_plain
from xpcnn.network import check_values
from xpcnn.registry import whole
from xpcnn.training.steps import Figures

if TYPE_CHECKING:
    from xpcnn.training.callbacks import Callback
    from xpcnn.training.loop import Fit

HostArray = np.ndarray[Any, Any]

#: The version of the file; a newer one is refused.
FORMAT = 1
#: What the file is called in the directory of a run.
NAME = "checkpoint.safetensors"
#: Updates and epochs that no fit comes to.
MOST_STEPS = 2**62
#: Differences that an error names one by one.
_MOST_NAMED = 5
_ROWS = 1024


@dataclass(frozen=True, eq=False)
class Task:
    """What a fit is asked to do: the arguments that decide how it goes, and the arrays it learns from and measures."""

    arguments: Mapping[str, Any]
    data: Mapping[str, Any]

    @functools.cached_property
    def digests(self) -> dict[str, HostArray]:
        """A CRC-32 of every row of every array, uint32 (n,), by which changed images are found."""
        return {name: _digests(rows) for name, rows in self.data.items() if rows is not None}

    def settings(self, fit: Fit) -> dict[str, Any]:
        """Return everything but the data that decides how a fit goes, as JSON can hold it."""
        settings = {
            "input_shape": list(fit.network.input_shape),
            "layers": [to_plain(layer) for layer in fit.network.layers],
            "optimizer": fit.optimizer.config(),
            "loss": fit.loss.config(),
            "metrics": [metric.config() for metric in fit.metrics],
            **self.arguments,
        }
        plain: dict[str, Any] = json.loads(json.dumps(settings))  # so that it can be compared with what was read
        return plain


class Position(NamedTuple):
    """How far a fit has come: epochs, those before it began, steps of the epoch at hand and what they gave."""

    epoch: int
    first_epoch: int
    done: int
    seconds: float
    figures: Figures


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
        # in a tensor, since a run may list any number of files and the description is read whole
        "record": np.frombuffer(json.dumps(record).encode("ascii"), np.uint8),
    }
    tensors |= {f"epoch.sums.{number}": np.asarray(total) for number, total in enumerate(position.figures.sums)}
    states = []
    for number, (name, state) in enumerate(_states(fit.callbacks)):
        arrays = {key: value for key, value in state.items() if isinstance(value, np.ndarray)}
        tensors |= {f"callbacks.{number}.{key}": array for key, array in arrays.items()}
        states.append([name, {key: value for key, value in state.items() if key not in arrays}])
    description = {
        "checkpoint": FORMAT,
        "versions": _versions(),
        "backend": fit.network.xp.__name__,
        "settings": fit.settings,
        "epoch": position.epoch,
        "first_epoch": position.first_epoch,
        "done": position.done,
        "seconds": position.seconds,
        "step": fit.step,
        "history": fit.history.history,
        "stop_reason": None if fit.interrupted else fit.stop_reason,
        "callbacks": states,
    }
    files.save_tensors(path, tensors, description)


def read(path: files.PathLike) -> Checkpoint:
    """Return what a checkpoint file holds, or that in a run's directory.

    Raises FileNotFoundError where there is none, ValueError for another file, or a damaged one.
    """
    file = Path(path, NAME) if Path(path).is_dir() else Path(path)
    if not file.exists():
        raise FileNotFoundError(
            f"There is no checkpoint {str(file)!r}. Give one that callbacks.Checkpoint wrote; "
            "without resume a fit begins anew."
        )
    tensors, description = files.load_tensors(file)
    version = description.get("checkpoint") if isinstance(description, dict) else None
    if version != FORMAT:
        what = "a model, not a checkpoint" if version is None else f"a checkpoint of format {reprlib.repr(version)}"
        raise ValueError(f"{str(file)!r} is {what}. Give a checkpoint of format {FORMAT}, such as a run's {NAME}.")
    return Checkpoint(file, tensors, description)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What a checkpoint file holds; see :func:`read`."""

    path: Path
    tensors: Mapping[str, HostArray]
    description: Mapping[str, Any]

    @property
    def record(self) -> Any:
        """What was kept for whoever resumes."""
        with _damage_told(self.path):
            return json.loads(self.tensors["record"].tobytes())

    @property
    def step(self) -> int:
        """Number of updates that were made."""
        with _damage_told(self.path):
            return whole("step", self.description["step"])

    @property
    def finished(self) -> bool:
        """Whether the fit had come to its end, of itself or early."""
        with _damage_told(self.path):
            description = self.description
            end = description["first_epoch"] + description["settings"]["epochs"]
            return bool(description["stop_reason"] is not None or description["epoch"] >= end)

    def restore(self, fit: Fit) -> None:
        """Bring a fit to where this one was, weights, moments, counts and history.

        Raises ValueError, with nothing changed, where this belongs to another fit, saying what differs, or is damaged.
        Warns where the versions differ, since the bits may then, too.
        """
        with _damage_told(self.path):
            self._refuse_another(fit)
            self._matched(fit.callbacks)
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
            sums = [tensors[f"epoch.sums.{number}"] for number in range(len(fit.metrics) if description["done"] else 0)]
            figures = Figures(tensors["epoch.losses"], tensors["epoch.weights"].tolist(), sums)
            epoch, first_epoch, done = (whole(name, description[name]) for name in ("epoch", "first_epoch", "done"))
            position = Position(epoch, first_epoch, done, float(description["seconds"]), figures)
            last = min(MOST_STEPS, first_epoch + fit.settings["epochs"])
            counted = len(figures.losses) == len(figures.weights) == done and step <= MOST_STEPS
            there_is = done * fit.settings["batch_size"] <= len(fit.task.data["x"])
            if not (counted and there_is and first_epoch <= epoch <= last):
                raise ValueError("its counts contradict each other")
            history = {str(name): list(column) for name, column in description["history"].items()}
            steps, stop_reason = tensors["steps"].tolist(), description["stop_reason"]
        self._tell_of_versions()
        fit.network.set_values(values)
        fit.optimizer.build(fit.network.xp, fit.network.parameters)
        fit.optimizer.load_state({"step": np.array(step), **moments})
        fit.history.history, fit.history.steps = history, steps
        fit.stop_reason = None if stop_reason is None else str(stop_reason)
        fit.go_on_from(position)

    def restore_callbacks(self, callbacks: Sequence[Callback]) -> None:
        """Give callbacks back what they knew, once their fit has begun."""
        with _damage_told(self.path):
            for number, (callback, state) in enumerate(self._matched(callbacks)):
                try:
                    callback.load_state({**state, **self._under(f"callbacks.{number}.")})
                except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
                    raise ValueError(f"the state of callbacks.{type(callback).__name__}: {error!r}") from error

    def _matched(self, callbacks: Sequence[Callback]) -> list[tuple[Callback, dict[str, Any]]]:
        """Return the callbacks that have a state, each with the one that was kept; ValueError where they are others."""
        saved = [(str(name), dict(state)) for name, state in self.description["callbacks"]]
        stateful = [callback for callback in callbacks if callback.state()]
        names, given = [name for name, _ in saved], [type(callback).__name__ for callback in stateful]
        if names != given:
            raise _OtherFitError(
                f"{str(self.path)!r} was written with the callbacks {', '.join(names)[:200] or '(none)'}. "
                f"Received: {', '.join(given) or 'none'}. Give the same, in the same order."
            )
        return list(zip(stateful, (state for _, state in saved), strict=True))

    def _refuse_another(self, fit: Fit) -> None:
        differences = [*_differences("", self.description["settings"], fit.settings)]
        digests = self._under("data.")
        for name in sorted({**digests, **fit.task.digests}):
            differences += _changes(name, digests.get(name), fit.task.digests.get(name))
        if differences:
            more = f", and {len(differences) - _MOST_NAMED} more" if len(differences) > _MOST_NAMED else ""
            raise _OtherFitError(
                f"{str(self.path)!r} belongs to another fit: {'; '.join(differences[:_MOST_NAMED])}{more}. "
                "Give the same to go on with it, or no resume to begin anew."
            )

    def _tell_of_versions(self) -> None:
        versions = self.description.get("versions")
        different = [*_differences("", versions if isinstance(versions, dict) else {}, _versions())]
        if different:
            warnings.warn(
                f"{self.path} was written elsewhere: {'; '.join(different)}. The last bits may differ from those of "
                "a run without a break.",
                stacklevel=2,
            )

    def _under(self, prefix: str) -> dict[str, HostArray]:
        """Return the tensors whose names begin so, by the rest of their names."""
        return {name.removeprefix(prefix): array for name, array in self.tensors.items() if name.startswith(prefix)}


class _OtherFitError(ValueError):
    """The checkpoint is whole and does not belong here: told as it is."""


@contextmanager
def _damage_told(path: Path) -> Iterator[None]:
    """Turn whatever a file raises that somebody has changed into one error that names it."""
    try:
        yield
    except _OtherFitError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError, RecursionError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else files.shortened(error)
        raise ValueError(f"{str(path)!r} is damaged, and no fit can go on from it: {reason}.") from error


def _states(callbacks: Sequence[Callback]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name and the state of every callback that has one."""
    for callback in callbacks:
        if state := callback.state():
            yield type(callback).__name__, state


def _versions() -> dict[str, str]:
    return {"xpcnn": __version__, "numpy": np.__version__, "machine": platform.machine()}


def _digests(rows: Any) -> HostArray:
    digests = np.empty(len(rows), np.uint32)
    for start in range(0, len(rows), _ROWS):
        block = np.ascontiguousarray(rows[start : start + _ROWS])
        # a label and a pixel count by their value, whatever the type that holds them
        block = block.astype(np.float32 if block.ndim > 2 else np.float64, copy=False)
        digests[start : start + len(block)] = [zlib.crc32(row.data) for row in block.reshape(len(block), -1)]
    return digests


def _differences(where: str, then: Any, now: Any) -> Iterator[str]:
    """Yield what differs between two values that JSON can hold, a phrase for each: ``batch_size was 32, is 64``."""
    if isinstance(then, dict) and isinstance(now, dict):
        for key in {**then, **now}:
            inner = f"{where}.{key}" if where else str(key)
            yield from _differences(inner, then.get(key), now.get(key))
    elif isinstance(then, list) and isinstance(now, list):
        for index in range(max(len(then), len(now))):
            pair = (part[index] if index < len(part) else None for part in (then, now))
            yield from _differences(f"{where}[{index}]", *pair)
    elif then != now:
        yield f"{where} was {reprlib.repr(then)}, is {reprlib.repr(now)}"


def _changes(name: str, then: HostArray | None, now: HostArray | None) -> Iterator[str]:
    """Yield how the rows of an array differ from those of a checkpoint."""
    if then is None or now is None:
        yield f"{name} was {'not ' if then is None else ''}given, is {'not ' if now is None else ''}given"
    elif len(then) != len(now):
        yield f"{name} had {len(then)} rows, has {len(now)}"
    elif len(rows := np.flatnonzero(then != now)):
        yield f"{name} differs in {len(rows)} of {len(now)} rows, the first of them row {rows[0]}"
