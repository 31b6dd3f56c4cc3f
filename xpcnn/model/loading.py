"""Models from their files."""

from __future__ import annotations

from collections.abc import Mapping

from xpcnn import files
from xpcnn.backend import ArrayModule
from xpcnn.layers import Layer
from xpcnn.layers.configs import kinds
from xpcnn.model import file
from xpcnn.model.model import Sequential
from xpcnn.model.state import check_names, check_thresholds
from xpcnn.program.memory_bound import check_size


def load(
    path: files.PathLike,
    xp: ArrayModule | str | None = None,
    custom_layers: Mapping[str, type[Layer]] | None = None,
) -> Sequential:
    """Load a model from a file that :meth:`Sequential.save` wrote, compiled as it was.

    custom_layers: {"Scale": Scale, …}, the classes of custom layers. Raises FileNotFoundError, ValueError if
    the file is not a model, is damaged or contains an unknown layer, TypeError for custom_layers that are not layer
    classes, and BackendError for an unavailable backend.
    """
    known = kinds(custom_layers)  # outside the block, since an error here is not about the file
    state = file.read(path)
    with file.refusal(path):
        model = Sequential.from_state(state, known, xp)
        check_size(model.network)
        check_names(model.class_names, model.network.output_shape)
        check_thresholds(model.thresholds, model.network.output_shape)
    return model
