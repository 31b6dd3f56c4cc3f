"""Conversion of layers to plain values for a model file, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xpcnn import initializers, layers, registry
from xpcnn.initializers import Initializer
from xpcnn.layers.base import Layer
from xpcnn.registry import Named, check_float


def to_plain(value: Any) -> Any:
    """Return a layer, or one of its arguments, as JSON-compatible values."""
    if isinstance(value, Layer):
        own = kinds().get(value.kind()) is not type(value)
        about = {"layer": value.kind(), "own": own, "trainable": value.trainable, "name": value.name}
        rate = {} if value.learning_rate_factor == 1 else {"learning_rate_factor": value.learning_rate_factor}
        return about | rate | to_plain(value.config())
    if isinstance(value, Initializer):
        return initializers.config_of(value)
    if isinstance(value, Named):
        return value.config()
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise TypeError(f"A layer's argument cannot be saved: {value!r}. Use numbers, text, lists or layers.")


def kinds(custom_layers: Mapping[str, type[Layer]] | None = None) -> dict[str, type[Layer]]:
    """Return every layer class by its kind, and ``custom_layers`` by their given name too.

    Raises TypeError if ``custom_layers`` is not a mapping from names to layer classes.
    """
    given = {} if custom_layers is None else custom_layers
    if not isinstance(given, Mapping) or not all(isinstance(c, type) and issubclass(c, Layer) for c in given.values()):
        raise TypeError(
            f'custom_layers must map names to layer classes, as in {{"Scale": Scale}}. Received: {custom_layers!r}.'
        )
    own = [getattr(layers, name) for name in layers.__all__]
    known = {cls.kind(): cls for cls in own if isinstance(cls, type) and issubclass(cls, Layer) and cls is not Layer}
    for name, cls in given.items():
        known[name] = known[cls.kind()] = cls
    return known


def from_plain(value: Any, known: Mapping[str, type[Layer]]) -> Any:
    """Return the layer, or the argument, that :func:`to_plain` was given.

    Raises ValueError for an unknown kind, an unknown argument or a value that the layer rejects.
    """
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [from_plain(item, known) for item in value]
    if not isinstance(value, Mapping):
        return value
    if "layer" not in value:
        return {key: from_plain(item, known) for key, item in value.items()}
    arguments = dict(value)
    kind, own, trainable = arguments.pop("layer"), arguments.pop("own", False), arguments.pop("trainable", True)
    rate = check_float("learning_rate_factor", arguments.pop("learning_rate_factor", 1.0), "[0, inf)")
    if kind not in known or (own and known[kind] is kinds().get(kind)):
        raise ValueError(
            f"There is no layer {'class given for the' if own else 'of'} kind {kind!r}. "
            f"Use one of: {', '.join(sorted(known))}; "
            "pass custom layers with load(path, custom_layers={...})."
        )
    allowed = registry.parameters(known[kind]).keys() - {"xp"}
    name = arguments.get("name", "") if "name" in allowed else arguments.pop("name", "")
    if not arguments.keys() <= allowed:
        unknown = ", ".join(sorted(arguments.keys() - allowed))
        raise ValueError(f"The layer {kind!r} takes {', '.join(sorted(allowed))}. Received: {unknown}.")
    try:
        layer = known[kind](**{key: from_plain(item, known) for key, item in arguments.items()})
    except TypeError as error:
        raise ValueError(f"The layer {kind!r} cannot be made from {arguments!r:.200} ({error}).") from error
    layer.trainable, layer.name, layer.learning_rate_factor = bool(trainable), str(name), rate
    return layer
