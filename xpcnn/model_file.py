"""The model file: what a model is made of as plain values and arrays, and back."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xpcnn import __version__, calibration, files, losses, metrics, optimizers
from xpcnn.data import Preprocessing
from xpcnn.data.digests import SIZE, with_digests
from xpcnn.endings import refuse_foreign
from xpcnn.layers import Layer
from xpcnn.layers.configs import from_plain, kinds, to_plain
from xpcnn.memory_bound import check_size
from xpcnn.parameters import Shape
from xpcnn.registry import number, whole

if TYPE_CHECKING:
    from xpcnn.model import Sequential

#: The name of the tensor that holds the digests of the pictures a model was made with; layers' have a dot.
DIGESTS = "digests"
#: The version of the description; a newer one is refused.
FORMAT = 1
#: The most layers of a model that is loaded, those inside others counted.
MOST_LAYERS = 10_000
#: What is said of other files.
READS = (
    "Give a file that xpcnn wrote. Of other libraries it reads PyTorch's weights, saved as safetensors, by "
    "xpcnn.formats.torch.load_state_dict(model, path)."
)


def save(model: Sequential, path: files.PathLike) -> None:
    """Write a model's arrays and its description; see :meth:`xpcnn.Sequential.save`."""
    refuse_foreign(path)
    description = {
        "format": FORMAT,
        "version": __version__,
        "input_shape": list(model.network.input_shape),
        "seed": model.seed,
        "layers": [to_plain(layer) for layer in model.layers],
        "class_names": checked_names(model.class_names, model.network.output_shape),
        "preprocessing": None if model.preprocessing is None else model.preprocessing.to_json(),
        "epochs": model.epochs,
        "temperature": model.temperature,
        "compiled": _compiled(model),
    }
    values = model.network.host_values()
    check_finite(values)
    if model.digests is not None:
        values = values | {DIGESTS: model.digests}
    files.save_tensors(path, values, description)


def _refuse_no_file(path: Path) -> None:
    """Raise OSError, saying what to give, for a folder and where there is nothing."""
    if path.is_dir():
        inside = path / "best.safetensors"
        advice = f"Give {str(inside)!r}." if inside.exists() else "Give a file, such as runs/train/best.safetensors."
        raise IsADirectoryError(f"{str(path)!r} is a folder, not a model file. {advice}")
    if path.exists() and not path.is_file():
        raise OSError(f"{str(path)!r} is no regular file. Give a model file, such as runs/train/best.safetensors.")
    if not path.exists():
        raise FileNotFoundError(
            f"There is no model file {str(path)!r}. Give one that xpcnn wrote, such as runs/train/best.safetensors."
        )


def load(
    path: files.PathLike,
    custom_layers: Mapping[str, type[Layer]] | None,
    new: Callable[[Shape, int], Sequential],
) -> Sequential:
    """Return the model of a file; ``new(input_shape, seed)`` makes the empty one. See :func:`xpcnn.load`."""
    known = kinds(custom_layers)
    _refuse_no_file(Path(path))
    tensors, description = files.load_tensors(path, READS)
    try:
        if isinstance(description, dict) and "checkpoint" in description:
            raise ValueError("it is a checkpoint, not a model. Give a model file, such as best.safetensors beside it.")
        if not isinstance(description, dict) or description.get("format") != FORMAT:
            found = description.get("format") if isinstance(description, dict) else description
            raise ValueError(f"this version of xpcnn reads format {FORMAT}. Received: format {reprlib.repr(found)}.")
        count = _count_layers(description["layers"])
        if count > MOST_LAYERS:
            raise ValueError(f"A model has {MOST_LAYERS:,} layers at most. Received: {count:,}.")
        layers = from_plain(description["layers"], known)
        model = new(description["input_shape"], description["seed"])
        for layer in layers:
            model.add(layer)
        digests = tensors.pop(DIGESTS, None)
        check_finite(tensors)
        # The arrays are compared with what the layers declare before memory is taken for them.
        network = model.build(tensors)
        check_size(network)
        shape = network.output_shape
        names, preprocessing, compiled = (description[key] for key in ("class_names", "preprocessing", "compiled"))
        model.class_names = None if names is None else tuple(checked_names(names, shape))
        model.preprocessing = None if preprocessing is None else Preprocessing.from_json(preprocessing)
        model.digests = None if digests is None else checked_digests(digests)
        model.epochs = whole("epochs", description["epochs"])
        temperature = description.get("temperature", 1)  # the first files had none
        model.temperature = number("temperature", temperature, f"[{calibration.LEAST}, {calibration.MOST}]")
        if compiled is not None:
            model.compile(**compiled)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as error:
        raise ValueError(f"{str(path)!r} holds no model that can be loaded: {reason_of(error)}") from error
    return model


def _count_layers(plain: Any) -> int:
    """Return how many layers a description holds, those inside others included."""
    count, waiting = 0, [plain]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            count += "layer" in value
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
    return count


def reason_of(error: Exception) -> str:
    """Return what was wrong with a file."""
    return f"{files.shortened(error)} is missing" if isinstance(error, KeyError) else files.shortened(error)


def check_finite(values: Mapping[str, np.ndarray[Any, Any]]) -> None:
    """Raise ValueError unless all arrays of a model file are of float32 and hold finite numbers only."""
    for name, array in values.items():
        if array.dtype != np.float32:
            raise ValueError(f"The array {name!r} is of {array.dtype}, and a model's are of float32.")
        if not np.isfinite(array).all():
            raise ValueError(f"The array {name!r} holds values that are not finite. Use the model of an earlier epoch.")


def checked_names(names: Any, output_shape: Shape) -> Any:
    """Return class names as a list, None as it is; ValueError where they are not one text for each class."""
    if names is None:
        return None
    count = max(output_shape[0], 2)  # one output tells two classes apart
    if not isinstance(names, tuple | list) or len(names) != count or not all(isinstance(n, str) for n in names):
        raise ValueError(f"class_names is one text for each of the {count} classes. Received: {reprlib.repr(names)}.")
    return list(names)


def checked_digests(digests: Any) -> np.ndarray[Any, Any]:
    """Return the digests of pictures, sorted and each once; ValueError where they are not uint8 (n, 8)."""
    array = np.asarray(digests)
    if array.dtype != np.uint8 or array.ndim != 2 or array.shape[1] != SIZE:
        raise ValueError(f"digests are uint8 (n, {SIZE}). Received: {array.dtype} {array.shape}.")
    return with_digests(None, array)


def _compiled(model: Sequential) -> dict[str, Any] | None:
    """Return what compile needs to choose the same again; None before it, or where a part is of one's own class."""
    if model.optimizer is None or model.loss is None:
        return None
    compiled: dict[str, Any] = {
        "optimizer": model.optimizer.config(),
        "loss": model.loss.config(),
        "metrics": [metric.config() for metric in model.metrics],
    }
    try:
        _ = optimizers.get(compiled["optimizer"]), losses.get(compiled["loss"])
        _ = [metrics.get(metric) for metric in compiled["metrics"]]
    except ValueError:
        return None
    return compiled
