"""The model file: saves and loads the state of a model as safetensors."""

from __future__ import annotations

import reprlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from xpcnn import calibration, files, losses, optimizers
from xpcnn import metrics as metrics_
from xpcnn.data import Preprocessing
from xpcnn.data.digests import SIZE, with_digests
from xpcnn.endings import refuse_foreign
from xpcnn.losses import Loss
from xpcnn.metrics import Metric
from xpcnn.model.state import ModelState, check_finite
from xpcnn.optimizers import Optimizer
from xpcnn.registry import check_float, check_int
from xpcnn.version import __version__

#: The tensor with the digests of the training images; unlike this name, the names of layers' arrays contain a dot.
DIGESTS = "digests"
#: The version of the file format, and that of models with several labels an image, of which version 0.1.0 would name
#: one; other versions are rejected.
FORMAT, SEVERAL_LABELS = 1, 2
#: The maximum number of layers of a loaded model, including nested ones.
MOST_LAYERS = 10_000
#: The advice for files of other formats.
READS = "Give a file that xpcnn wrote. To load PyTorch weights, use xpcnn.formats.torch.load_state_dict(model, path)."


def write(path: files.PathLike, state: ModelState) -> None:
    """Write the arrays of a complete model and its description; see :meth:`xpcnn.Sequential.save`."""
    refuse_foreign(path)
    assert state.input_shape is not None
    assert state.arrays is not None
    description = {
        "format": FORMAT if state.thresholds is None else SEVERAL_LABELS,
        "version": __version__,
        "input_shape": list(state.input_shape),
        "seed": state.seed,
        "layers": state.layers,
        "class_names": None if state.class_names is None else list(state.class_names),
        "preprocessing": None if state.preprocessing is None else state.preprocessing.to_json(),
        "epochs": state.epochs,
        "temperature": state.temperature,
        "thresholds": None if state.thresholds is None else list(state.thresholds),
        "compiled": _compiled(state),
    }
    check_finite(state.arrays)
    digests = {} if state.digests is None else {DIGESTS: state.digests}
    files.save_tensors(path, {**state.arrays, **digests}, description)


def read(path: files.PathLike) -> ModelState:
    """Return the state stored in a file; its arrays are not yet checked against its layers.

    Raises the same errors as :func:`xpcnn.load`.
    """
    _refuse_no_file(Path(path))
    tensors, description = files.load_tensors(path, READS)
    with refusal(path):
        if isinstance(description, dict) and "checkpoint" in description:
            raise ValueError("it is a checkpoint, not a model. Give a model file, such as best.safetensors beside it.")
        if not isinstance(description, dict) or description.get("format") not in (FORMAT, SEVERAL_LABELS):
            found = description.get("format") if isinstance(description, dict) else description
            raise ValueError(
                f"this version of xpcnn reads formats {FORMAT} and {SEVERAL_LABELS}. Received: format "
                f"{reprlib.repr(found)}."
            )
        count = _count_layers(description["layers"])
        if count > MOST_LAYERS:
            raise ValueError(f"A model has at most {MOST_LAYERS:,} layers. Received: {count:,}.")
        digests = tensors.pop(DIGESTS, None)
        check_finite(tensors)
        names, preprocessing, compiled = (description[key] for key in ("class_names", "preprocessing", "compiled"))
        temperature = description.get("temperature", 1)  # missing in the oldest files
        thresholds = description.get("thresholds")
        if (thresholds is not None) != (description["format"] == SEVERAL_LABELS):
            raise ValueError(f"its format is {description['format']}, and its thresholds {reprlib.repr(thresholds)}.")
        optimizer, loss, measured = (None, None, []) if compiled is None else _parts(**compiled)
        return ModelState(
            layers=description["layers"],
            input_shape=description["input_shape"],
            seed=description["seed"],
            arrays=tensors,
            class_names=tuple(names) if isinstance(names, list) else names,
            preprocessing=None if preprocessing is None else Preprocessing.from_json(preprocessing),
            temperature=check_float("temperature", temperature, f"[{calibration.LEAST}, {calibration.MOST}]"),
            thresholds=tuple(thresholds) if isinstance(thresholds, list) else thresholds,
            epochs=check_int("epochs", description["epochs"]),
            digests=None if digests is None else _digests(digests),
            optimizer=optimizer,
            loss=loss,
            metrics=measured,
        )


@contextmanager
def refusal(path: files.PathLike) -> Iterator[None]:
    """Turn any error raised by the content of a file into one that names the file."""
    try:
        yield
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as error:
        raise ValueError(f"{str(path)!r} does not contain a loadable model: {files.reason_of(error)}") from error


def _refuse_no_file(path: Path) -> None:
    """Raise OSError, saying what to give instead, for a directory or a missing file."""
    if path.is_dir():
        inside = path / "best.safetensors"
        advice = f"Give {str(inside)!r}." if inside.exists() else "Give a file, such as runs/train/best.safetensors."
        raise IsADirectoryError(f"{str(path)!r} is a directory, not a model file. {advice}")
    if path.exists() and not path.is_file():
        raise OSError(f"{str(path)!r} is not a regular file. Give a model file, such as runs/train/best.safetensors.")
    if not path.exists():
        raise FileNotFoundError(
            f"There is no model file {str(path)!r}. Give one that xpcnn wrote, such as runs/train/best.safetensors."
        )


def _count_layers(plain: Any) -> int:
    """Return the number of layers in a description, including nested ones."""
    count, waiting = 0, [plain]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            count += "layer" in value
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
    return count


def _digests(digests: Any) -> np.ndarray[Any, Any]:
    """Return the digests of images, sorted and unique; ValueError if they are not uint8 (n, 8)."""
    array = np.asarray(digests)
    if array.dtype != np.uint8 or array.ndim != 2 or array.shape[1] != SIZE:
        raise ValueError(f"digests must be uint8 (n, {SIZE}). Received: {array.dtype} {array.shape}.")
    return with_digests(None, array)


def _compiled(state: ModelState) -> dict[str, Any] | None:
    """Return the arguments to compile the model again; None if it is not compiled, or with a custom class."""
    if state.optimizer is None or state.loss is None:
        return None
    compiled: dict[str, Any] = {
        "optimizer": state.optimizer.config(),
        "loss": state.loss.config(),
        "metrics": [metric.config() for metric in state.metrics],
    }
    try:
        _ = _parts(**compiled)
    except ValueError:
        return None
    return compiled


def _parts(optimizer: Any, loss: Any, metrics: Any) -> tuple[Optimizer, Loss, list[Metric]]:
    """Return the optimiser, loss and metrics of a description."""
    return optimizers.get(optimizer), losses.get(loss), [metrics_.get(metric) for metric in metrics]
