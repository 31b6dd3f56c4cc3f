"""Model files for the commands."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xpcnn.backend import ArrayModule
    from xpcnn.data import Preprocessing
    from xpcnn.model import Sequential


def load_for_images(path: str, xp: ArrayModule) -> tuple[Sequential, Preprocessing, tuple[str, ...]]:
    """Return a model with its preprocessing and class names; raises ValueError if it does not classify images."""
    from xpcnn import load

    model = load(path, xp=xp)
    flat = len(model.network.output_shape) == 1
    if model.preprocessing is None or model.class_names is None or model.loss is None or not flat:
        raise ValueError(
            f"{path!r} does not say how to preprocess images or what its classes are, so it takes arrays only. Use a "
            "model that `xpcnn train` wrote, or compile it and set preprocessing and class_names before saving."
        )
    decoding = model.preprocessing.decoding
    made, taken = (decoding.channels, decoding.height, decoding.width), model.network.input_shape
    if made != taken:
        raise ValueError(
            f"{path!r} contradicts itself: its layers take inputs of shape {taken}, and its preprocessing makes them "
            f"{made}. Save it with a matching preprocessing."
        )
    return model, model.preprocessing, model.class_names


@contextmanager
def finite(path: str) -> Iterator[Any]:
    """Give a function that returns a model's outputs if they are finite, and raises ValueError if not."""
    import numpy as np

    def checked(outputs: Any) -> Any:
        if not np.isfinite(outputs).all():
            raise ValueError(f"{path!r} gives NaN or infinite outputs: its weights are too large. Retrain it.")
        return outputs

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # NumPy's on overflow, which leads to such outputs
        yield checked
