"""Optimisers: one pass over flat arrays, in place, with PyTorch's formulas."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from xpcnn.optimizers.base import Optimizer
from xpcnn.optimizers.rules import SGD, Adagrad, Adam, AdamW, RMSprop
from xpcnn.registry import Registry

__all__ = ["SGD", "Adagrad", "Adam", "AdamW", "Optimizer", "RMSprop", "get"]

_REGISTRY = Registry("optimizer", Optimizer, [SGD, RMSprop, Adagrad, Adam, AdamW])


def get(optimizer: Optimizer | str | Mapping[str, Any]) -> Optimizer:
    """Return the optimiser for a name, a configuration or an object.

    Raises ValueError for an unknown name, listing the known ones, and TypeError for anything else.

    >>> get("adam")
    Adam(learning_rate=0.001, beta1=0.9, beta2=0.999, epsilon=1e-08, clip_norm=None)
    """
    return _REGISTRY.get(optimizer)


if not TYPE_CHECKING:  # type checkers know which names are missing

    def __getattr__(name):
        raise _REGISTRY.no_attribute(__name__, name)
