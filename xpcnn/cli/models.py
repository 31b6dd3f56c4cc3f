"""Model files as the commands need them."""

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
    """Return a model with its preprocessing and class names; ValueError for one that cannot tell classes of images."""
    from xpcnn import load

    model = load(path, xp=xp)
    flat = len(model.network.output_shape) == 1
    if model.preprocessing is None or model.class_names is None or model.loss is None or not flat:
        raise ValueError(
            f"{path!r} does not say how images become numbers and outputs classes, so it takes arrays only. Use a "
            "model that `xpcnn train` wrote, or call compile and set preprocessing and class_names before saving."
        )
    decoding = model.preprocessing.decoding
    made, taken = (decoding.channels, decoding.height, decoding.width), model.network.input_shape
    if made != taken:
        raise ValueError(
            f"{path!r} contradicts itself: its layers take images of shape {taken}, and its preprocessing makes them "
            f"{made}. Save it with a preprocessing that fits."
        )
    return model, model.preprocessing, model.class_names


@contextmanager
def finite(path: str) -> Iterator[Any]:
    """Give a function that returns the outputs of a model if they are finite, and raises ValueError if not."""
    import numpy as np

    def checked(outputs: Any) -> Any:
        if not np.isfinite(outputs).all():
            raise ValueError(f"{path!r} gives outputs that are not finite: its weights are too large. Train it anew.")
        return outputs

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # NumPy's on overflow, which ends in such outputs
        yield checked
