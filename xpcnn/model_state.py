"""What pickle and copy take of a model: plain values, arrays on the host, and the classes of its layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from xpcnn.layers.configs import from_plain, kinds, to_plain
from xpcnn.program.program import walk

if TYPE_CHECKING:
    from xpcnn.model import Sequential

#: What a model keeps beside its layers and arrays, as it is.
_KEPT = ("class_names", "preprocessing", "temperature", "epochs", "digests")


def state_of(model: Sequential) -> dict[str, Any]:
    """Return all that :func:`restore` needs; TypeError for a layer's argument that is no plain value."""
    return {
        "layers": [to_plain(layer) for layer in model.layers],
        "classes": {type(layer).__name__: type(layer) for layer in walk(model.layers) if not layer.hidden},
        "input_shape": model.input_shape,
        "seed": model.seed,
        "backend": model.backend,
        "values": model.get_weights() if model.layers and model.input_shape is not None else None,
        "compiled": (model.optimizer, model.loss, model.metrics),
        **{name: getattr(model, name) for name in _KEPT},
    }


def restore(cls: type[Sequential], state: dict[str, Any]) -> Sequential:
    """Return the model that a state was taken of, compiled as it was, the optimiser's moments included.

    One that computed with NumPy does so again; any other goes to a device where there is one.
    """
    layers = from_plain(state["layers"], kinds(state["classes"]))
    model = cls(layers, state["input_shape"], "numpy" if state["backend"] == "numpy" else None, state["seed"])
    if state["values"] is not None:
        model.set_weights(state["values"])
    for name in _KEPT:
        setattr(model, name, state[name])
    optimizer, loss, metrics = state["compiled"]
    if optimizer is not None:
        model.compile(optimizer, loss, metrics)
    return model
