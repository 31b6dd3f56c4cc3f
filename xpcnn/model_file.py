"""The model file: what a model is made of as plain values and arrays, and back."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from xpcnn import __version__, files, losses, metrics, optimizers
from xpcnn.data import Preprocessing
from xpcnn.layers import Layer
from xpcnn.layers.configs import from_plain, kinds, to_plain
from xpcnn.parameters import Shape
from xpcnn.registry import whole

if TYPE_CHECKING:
    from xpcnn.model import Sequential

#: The version of the description; a newer one is refused.
FORMAT = 1


def save(model: Sequential, path: files.PathLike) -> None:
    """Write a model's arrays and its description; see :meth:`xpcnn.Sequential.save`."""
    description = {
        "format": FORMAT,
        "version": __version__,
        "input_shape": list(model.network.input_shape),
        "seed": model.seed,
        "layers": [to_plain(layer) for layer in model.layers],
        "class_names": _checked_names(model.class_names, model.network.output_shape),
        "preprocessing": None if model.preprocessing is None else model.preprocessing.to_json(),
        "epochs": model.epochs,
        "compiled": _compiled(model),
    }
    files.save_tensors(path, model.network.host_values(), description)


def load(
    path: files.PathLike,
    custom_layers: Mapping[str, type[Layer]] | None,
    new: Callable[[Shape, int], Sequential],
) -> Sequential:
    """Return the model of a file; ``new(input_shape, seed)`` makes the empty one. See :func:`xpcnn.load`."""
    known = kinds(custom_layers)
    tensors, description = files.load_tensors(path)
    try:
        if isinstance(description, dict) and "checkpoint" in description:
            raise ValueError("it is a checkpoint, not a model. Give a model file, such as best.safetensors beside it.")
        if not isinstance(description, dict) or description.get("format") != FORMAT:
            found = description.get("format") if isinstance(description, dict) else description
            raise ValueError(f"this version of xpcnn reads format {FORMAT}. Received: format {reprlib.repr(found)}.")
        layers = from_plain(description["layers"], known)
        model = new(description["input_shape"], description["seed"])
        for layer in layers:
            model.add(layer)
        # The arrays are compared with what the layers declare before memory is taken for them.
        shape = model.build(tensors).output_shape
        names, preprocessing, compiled = (description[key] for key in ("class_names", "preprocessing", "compiled"))
        model.class_names = None if names is None else tuple(_checked_names(names, shape))
        model.preprocessing = None if preprocessing is None else Preprocessing.from_json(preprocessing)
        model.epochs = whole("epochs", description["epochs"])
        if compiled is not None:
            model.compile(**compiled)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{str(path)!r} holds no model that can be loaded: {reason}") from error
    return model


def _checked_names(names: Any, output_shape: Shape) -> Any:
    """Return class names as a list, None as it is; ValueError where they are not one text for each class."""
    if names is None:
        return None
    count = max(output_shape[0], 2)  # one output tells two classes apart
    if not isinstance(names, tuple | list) or len(names) != count or not all(isinstance(n, str) for n in names):
        raise ValueError(f"class_names is one text for each of the {count} classes. Received: {reprlib.repr(names)}.")
    return list(names)


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
