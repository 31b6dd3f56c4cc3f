"""The ``config.json`` that timm writes beside weights: their architecture, and the images that it takes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

from xpcnn import files, hub
from xpcnn.formats.timm_names import ARCHITECTURES
from xpcnn.hints import did_you_mean

#: A larger file is refused without reading it; that of a network for 21,000 classes has 2 MiB.
MOST_BYTES = 2**24
#: The arguments of a model that change nothing that its outputs depend on, and the pooling that xpcnn has.
_HARMLESS = {"num_classes", "in_chans", "img_size", "drop_rate", "drop_path_rate"}
_POOLING = "avg"


class Config(NamedTuple):
    """What weights are for: timm's architecture, the images' height and width, and their normalisation in 0..255.

    classes: their number, None if not recorded. labels: their names, None unless there is one for each.
    """

    architecture: str
    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: int | None = None
    labels: tuple[str, ...] | None = None


def read_beside(weights: Path) -> Config | None:
    """Return the configuration in the folder of a file with weights; None if there is none, or it is not timm's.

    Raises ValueError for one that is damaged, contradicts itself, or describes a network that xpcnn does not have.
    """
    path = weights.with_name(hub.DESCRIPTION)
    if not path.is_file():
        return None
    try:
        if os.path.getsize(path) > MOST_BYTES:
            raise ValueError(f"it is larger than {MOST_BYTES} bytes")
        fields = json.loads(path.read_bytes())
        return _config(fields) if _is_timms(fields) else None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{str(path)!r} does not describe these weights: {files.shortened(error)}.") from error


def _is_timms(fields: Any) -> bool:
    """Whether a value is a configuration as timm writes it; raises ValueError unless it is an object."""
    if not isinstance(fields, dict):
        raise ValueError(f"it must be an object. Received: {_shown(fields)}")
    return "architecture" in fields or "pretrained_cfg" in fields


def _config(fields: dict[str, Any]) -> Config:
    inner = fields.get("pretrained_cfg", fields)  # older versions wrote all in one object
    if not isinstance(inner, dict):
        raise ValueError(f"pretrained_cfg must be an object. Received: {_shown(inner)}")
    architecture = _architecture(fields.get("architecture", inner.get("architecture")))
    _refuse_changes(fields)
    counts = [given["num_classes"] for given in (fields, inner) if given.get("num_classes") is not None]
    if any(type(count) is not int or count < 1 for count in counts) or len(set(counts)) > 1:
        raise ValueError(f"num_classes must be one number from 1 on. Received: {_shown(counts)}")
    classes = counts[0] if counts else None
    mean, std = (_three(name, inner.get(name)) for name in ("mean", "std"))
    if min(std) <= 0:
        raise ValueError(f"std must be positive. Received: {_shown(inner['std'])}")
    labels = fields.get("label_names", inner.get("label_names"))
    return Config(architecture, _size(inner.get("input_size")), mean, std, classes, _labels(labels, classes))


def _architecture(name: Any) -> str:
    if not isinstance(name, str) or name not in ARCHITECTURES:
        hint = did_you_mean("architecture", name, [*ARCHITECTURES])
        raise ValueError(
            f"xpcnn does not have the architecture {_shown(name)}.{hint} It has {', '.join(ARCHITECTURES)}"
        )
    return name


def _refuse_changes(fields: dict[str, Any]) -> None:
    """Raise ValueError for a pooling or arguments with which an architecture computes something else."""
    arguments = fields.get("model_args") or {}
    if not isinstance(arguments, dict):
        raise ValueError(f"model_args must be an object. Received: {_shown(arguments)}")
    changes = {name: value for name, value in arguments.items() if name not in _HARMLESS and value is not None}
    changes |= {"global_pool": fields["global_pool"]} if fields.get("global_pool") is not None else {}
    for name, value in changes.items():
        if (name, value) != ("global_pool", _POOLING):
            raise ValueError(f"xpcnn does not have the architecture with {name[:100]} = {_shown(value)}")


def _three(name: str, values: Any) -> tuple[float, ...]:
    """Return the numbers of red, green and blue in 0..255, from those in 0..1."""
    numbers = isinstance(values, list) and all(type(value) in (int, float) for value in values)
    if not numbers or len(values) != 3 or not all(0 <= value <= 1 for value in values):
        raise ValueError(f"{name} must be three numbers from 0 to 1. Received: {_shown(values)}")
    return tuple(255.0 * value for value in values)


def _size(values: Any) -> tuple[int, int]:
    whole = isinstance(values, list) and len(values) == 3 and all(type(value) is int for value in values)
    if not whole or values[0] != 3 or min(values) < 1:
        raise ValueError(f"input_size must be [3, height, width]. Received: {_shown(values)}")
    return values[1], values[2]


def _labels(labels: Any, classes: int | None) -> tuple[str, ...] | None:
    """Return the names of the classes; None if there are none, or a dict, with which some may lack one."""
    if labels is None or isinstance(labels, dict):
        return None
    texts = isinstance(labels, list) and all(isinstance(label, str) for label in labels)
    if not texts or len(set(labels)) < len(labels) or classes not in (None, len(labels)):
        count = f"{classes} different texts" if classes else "different texts"
        raise ValueError(f"label_names must be {count}. Received: {_shown(labels)}")
    return tuple(labels)


def _shown(value: Any) -> str:
    """Return a value on one line, cut to 100 characters."""
    return json.dumps(value)[:100]
