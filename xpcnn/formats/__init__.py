"""Models in other formats: ``html``, ``onnx``, ``torch``, ``text`` and ``cnn_json``, each imported on first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from xpcnn.hints import no_attribute

if TYPE_CHECKING:
    from xpcnn.formats import cnn_json, html, onnx, text, torch

__all__ = ["cnn_json", "html", "onnx", "text", "torch"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise no_attribute(__name__, "format", name, __all__)
    return importlib.import_module(f"xpcnn.formats.{name}")


def __dir__() -> list[str]:
    return __all__
