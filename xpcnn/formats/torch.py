"""Loading and saving weights as PyTorch's ``state_dict``; PyTorch itself is not needed.

Convolutions are (out, in, rows, columns) and dense layers (out, in) in both libraries. What the file does not contain
must be the same on both sides: the layers, BatchNorm's epsilon and momentum (both defaults are PyTorch's, 1e-5 and
0.1), and the normalisation of images.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np

from xpcnn import files
from xpcnn.formats.torch_file import COUNTER, read
from xpcnn.formats.torch_names import full_name, match
from xpcnn.formats.torch_tensor import HostArray
from xpcnn.layers import BatchNorm, Dense, GlobalAveragePool2D, GlobalMaxPool2D, Layer, Residual
from xpcnn.layers.activation import applies
from xpcnn.model import Sequential
from xpcnn.model.state import check_finite
from xpcnn.parameters import Shape
from xpcnn.program.program import walk


def read_state_dict(path: files.PathLike) -> dict[str, HostArray]:
    """Return the weights in a PyTorch file as float32 by their full names, in the order of the file.

    path: a file as described in :func:`load_state_dict`. Raises FileNotFoundError, and ValueError for a file that is
    damaged or contains anything else.

    >>> import safetensors.numpy, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     safetensors.numpy.save_file({"fc.bias": np.zeros(2, np.float16)}, f"{folder}/fc.safetensors")
    ...     read_state_dict(f"{folder}/fc.safetensors")
    {'fc.bias': array([0., 0.], dtype=float32)}
    """
    with _naming(path):
        tensors, _ = read(path)
        values = {name: tensor.values() for name, tensor in tensors.items()}
        check_finite(values)
    return values


def load_state_dict(model: Sequential, path: files.PathLike, names: Mapping[str, str] | None = None) -> dict[str, str]:
    """Load the weights of a PyTorch model into a model with the same layers; return {layer: module}.

    The file is what ``torch.save(model.state_dict(), path)`` or ``safetensors.torch.save_file(model.state_dict(),
    path)`` writes, with float64, float32, float16 or bfloat16 tensors; ``num_batches_tracked`` is ignored, and the
    model's temperature is reset to 1. Nothing in a file of ``torch.save`` is executed. It may also be a checkpoint with
    the weights under "state_dict" or "model", and a prefix ``module.`` of all names is removed.

    If each layer has the name of a module with the same arrays, these are paired. Otherwise each layer is matched to
    the module with the same arrays (weight, bias, running_mean, …) of the same shapes, and if several modules match,
    order decides. safetensors sorts tensors by name, which puts ``features.10`` before ``features.2``, so the order in
    such a file is used only if it differs from that; otherwise the modules' names decide, as described in
    :func:`~xpcnn.formats.torch_names.match`. If they are ambiguous too, pass ``names``, which pairs some layers with
    modules: {"batch_norm_1": "bn1"}.

    Raises FileNotFoundError, and ValueError, leaving the model unchanged, for a file that is damaged, contains anything
    but weights or other dtypes, or does not fit (with a table of all arrays).

    >>> import safetensors.numpy, tempfile
    >>> from xpcnn import Sequential, layers
    >>> model = Sequential([layers.Flatten(), layers.Dense(2)], (1, 1, 3))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     arrays = {"fc.weight": np.ones((2, 3), np.float16), "fc.bias": np.zeros(2, np.float16)}
    ...     safetensors.numpy.save_file(arrays, f"{folder}/fc.safetensors")
    ...     load_state_dict(model, f"{folder}/fc.safetensors")
    {'dense_1': 'fc'}
    """
    ours = {layer.name: {d.name: d.shape for d in (*layer.declarations, *layer.buffers)} for layer in _holders(model)}
    with _naming(path):
        tensors, in_order = read(path)
        theirs: dict[str, dict[str, Shape]] = {}
        for name, tensor in tensors.items():
            module, _, array = name.rpartition(".")
            theirs.setdefault(module, {})[array] = tensor.raw.shape
        found = match(ours, theirs, [*_residuals(model)], names, in_order)
        values = {
            f"{layer}.{array}": tensors[full_name(found[layer], array)].values()
            for layer, arrays in ours.items()
            for array in arrays
        }
        check_finite(values)
    model.set_weights(values)
    model.temperature = 1.0
    return found


def save_state_dict(model: Sequential, path: files.PathLike, names: Mapping[str, str] | None = None) -> None:
    """Write a model's weights as PyTorch's ``state_dict``, for ``load_state_dict(load_file(path), strict=True)``.

    names: {layer: module} for every layer with arrays, as returned by :func:`load_state_dict`. Without it, modules are
    numbered as in an ``nn.Sequential`` of the same layers, where an activation is a separate module and global pooling
    is two, ``AdaptiveAvgPool2d(1)`` and ``Flatten()``; a Residual is a nested Sequential::

        class Residual(nn.Sequential):
            def forward(self, x):
                return x + super().forward(x)

    whose ``shortcut``, another Sequential, contains the layers of its shortcut.

    Every ``num_batches_tracked``, which PyTorch only uses with ``momentum=None``, is 0. The temperature of a calibrated
    model is folded into its last Dense layer, whose weight and bias are divided by it, so that softmax or sigmoid of
    PyTorch's outputs matches the model's predictions.

    Raises ValueError if ``names`` does not give each layer one module, or if the model has a temperature but does not
    end in Dense and softmax or a single sigmoid, and OSError if the path cannot be written.
    """
    from safetensors.numpy import save

    holders = _holders(model)
    found = dict(_numbered(model.layers) if names is None else names)
    wanted = [layer.name for layer in holders]
    if sorted(found) != sorted(wanted) or len(set(found.values())) < len(found):
        raise ValueError(f"names must map each of {', '.join(wanted)} to a different module. Received: {names}.")
    values = model.get_weights()
    check_finite(values)
    if model.temperature != 1:
        last = _last_dense(model)
        for declaration in last.declarations:
            values[declaration.full_name] /= np.float32(model.temperature)
    arrays = {}
    for layer in holders:
        for declaration in (*layer.declarations, *layer.buffers):
            arrays[full_name(found[layer.name], declaration.name)] = values[declaration.full_name]
        if isinstance(layer, BatchNorm):
            arrays[full_name(found[layer.name], COUNTER)] = np.array(0, np.int64)
    with files.atomic_write(path) as file:
        file.write(save({name: np.asarray(array, order="C") for name, array in arrays.items()}, {"format": "pt"}))


@contextmanager
def _naming(path: files.PathLike) -> Iterator[None]:
    """Make errors of a file's content name the file."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{str(path)!r} does not contain a loadable state_dict: {error}") from error


def _holders(model: Sequential) -> list[Layer]:
    """Return the layers that have arrays, in the order in which they run."""
    return [node.layer for node in model.network.nodes if node.layer.declarations or node.layer.buffers]


def _residuals(model: Sequential) -> Iterator[list[str]]:
    """Yield the names of the layers in each residual stack."""
    for layer in walk(model.layers):
        if isinstance(layer, Residual):
            yield [inner.name for inner in walk([*layer.layers, *(layer.shortcut or [])])]


def _numbered(layers: Sequence[Layer], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield the name of each layer with arrays, and its name in PyTorch's nn.Sequential."""
    number = 0
    for layer in _modules(layers):
        if isinstance(layer, Residual):
            yield from _numbered(layer.layers, f"{prefix}{number}.")
            yield from _numbered(layer.shortcut or [], f"{prefix}{number}.shortcut.")
        elif layer.declarations or layer.buffers:
            yield layer.name, f"{prefix}{number}"
        number += 2 if isinstance(layer, GlobalAveragePool2D | GlobalMaxPool2D) else 1


def _modules(layers: Sequence[Layer]) -> Iterator[Layer]:
    """Yield the layers that are separate modules in PyTorch: layers, their activations, and whole residual stacks."""
    for layer in layers:
        yield layer
        if not isinstance(layer, Residual):
            yield from _modules(layer.sublayers())


def _last_dense(model: Sequential) -> Dense:
    """Return the Dense layer that the temperature can be folded into; raise ValueError if there is none."""
    ends = [node.layer for node in model.network.nodes][-2:]
    one = math.prod(model.network.output_shape) == 1
    softens = applies(ends[-1], "softmax") or (applies(ends[-1], "sigmoid") and one)
    before = ends[0]
    if not softens or type(before) is not Dense:
        raise ValueError(
            f"The model's temperature, {model.temperature}, can only be folded into a final Dense layer followed by "
            f"softmax or a single sigmoid. The model ends in {', '.join(map(repr, ends))}. "
            "Set model.temperature = 1 to save it without the temperature."
        )
    return before
