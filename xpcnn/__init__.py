"""xpcnn: train convolutional image classifiers from one readable source, on NumPy or CuPy.

>>> import xpcnn
>>> from xpcnn import layers, optimizers
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xpcnn import (
        calibration,
        callbacks,
        data,
        distributed,
        formats,
        initializers,
        layers,
        losses,
        metrics,
        optimizers,
        plots,
        presets,
        pretrained,
        recipe,
        schedules,
    )
    from xpcnn.estimator import XPCNNClassifier as XPCNNClassifier
    from xpcnn.model import Sequential, load
    from xpcnn.pretrained import load_pretrained

__all__ = [
    "Sequential",
    "__version__",
    "calibration",
    "callbacks",
    "data",
    "distributed",
    "formats",
    "initializers",
    "layers",
    "load",
    "load_pretrained",
    "losses",
    "metrics",
    "optimizers",
    "plots",
    "presets",
    "pretrained",
    "recipe",
    "schedules",
]

#: The module of each public name that is not a module itself; it is imported on first use, so that ``xpcnn --help``
#: works without NumPy. XPCNNClassifier needs scikit-learn, so it is not in ``__all__``: ``from xpcnn import *`` works
#: without.
_HOMES = {
    "Sequential": ("xpcnn.model", "Sequential"),
    "XPCNNClassifier": ("xpcnn.estimator", "XPCNNClassifier"),
    "load": ("xpcnn.model", "load"),
    "load_pretrained": ("xpcnn.pretrained", "load_pretrained"),
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from xpcnn.version import installed_version

        return installed_version()
    if name not in __dir__():
        from xpcnn.hints import no_attribute

        raise no_attribute("xpcnn", "name", name, __dir__())
    if name not in _HOMES:
        return importlib.import_module(f"xpcnn.{name}")
    module, attribute = _HOMES[name]
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted({*__all__, *_HOMES})
