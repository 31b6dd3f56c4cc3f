"""Weights as PyTorch's ``state_dict`` in a safetensors file, both ways; PyTorch itself is not needed.

Convolutions are (out, in, rows, columns) and dense layers (out, in) there as here. What no such file holds has to be
the same on both sides: the layers, BatchNorm's epsilon and momentum (both defaults are PyTorch's, 1e-5 and 0.1), and
how images are normalised.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from xpcnn import files
from xpcnn.formats.torch_names import full_name, match
from xpcnn.layers import BatchNorm, Dense, GlobalAveragePool2D, GlobalMaxPool2D, Layer, Residual
from xpcnn.layers.activation import applies
from xpcnn.model import Sequential
from xpcnn.model.state import check_finite
from xpcnn.parameters import Shape
from xpcnn.program.program import walk

HostArray = np.ndarray[Any, Any]

#: What counts steps in PyTorch's BatchNorm, which xpcnn has no use for.
_COUNTER = "num_batches_tracked"
_FLOATS: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
}
#: How files begin that ``torch.save`` writes: a zip archive, or a pickle of protocol 2 to 5.
_PICKLES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


class _Tensor(NamedTuple):
    """An array of a file, as it lies there."""

    dtype: str
    shape: Shape
    data: bytes

    def values(self) -> HostArray:
        """Return the array as float32; a bfloat16 is the upper half of one."""
        raw: HostArray = np.frombuffer(self.data, dtype=_FLOATS[self.dtype])
        if self.dtype == "BF16":
            raw = (raw.astype(np.uint32) << 16).view(np.float32)
        with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused as such
            numbers: HostArray = raw.astype(np.float32)
        return numbers.reshape(self.shape)


def load_state_dict(model: Sequential, path: files.PathLike, names: Mapping[str, str] | None = None) -> dict[str, str]:
    """Write the weights of a PyTorch model's file into a model of the same layers; returns {layer: module}.

    The file is what ``safetensors.torch.save_file(model.state_dict(), path)`` writes, of float64, float32, float16 or
    bfloat16; each ``num_batches_tracked`` is left out, and the model's temperature becomes 1. A module belongs to the
    layer with the same arrays (weight, bias, running_mean, …) of the same shapes. Where several do, their order tells.
    safetensors sorts a file by name, so that ``features.10`` stands before ``features.2``: the order of the file holds
    only where it is not that one, and else the names are asked, as :func:`~xpcnn.formats.torch_names.match` says. What
    they do not tell is refused; ``names`` then pairs some layers with modules, {"batch_norm_1": "bn1"}.

    Raises FileNotFoundError, and ValueError, with nothing written, for a file that is damaged or pickled (``.pt``,
    saying how to convert it), of other numbers, or, with a table of all arrays, whose arrays do not fit.

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
    _refuse_pickles(path)
    try:
        tensors = _read(path)
        theirs: dict[str, dict[str, Shape]] = {}
        for name, tensor in tensors.items():
            module, _, array = name.rpartition(".")
            theirs.setdefault(module, {})[array] = tensor.shape
        found = match(ours, theirs, [*_residuals(model)], names, not _is_sorted(tensors))
        values = {
            f"{layer}.{array}": tensors[full_name(found[layer], array)].values()
            for layer, arrays in ours.items()
            for array in arrays
        }
        check_finite(values)
    except ValueError as error:
        raise ValueError(f"{str(path)!r} holds no state_dict that can be loaded: {error}") from error
    model.set_weights(values)
    model.temperature = 1.0
    return found


def save_state_dict(model: Sequential, path: files.PathLike, names: Mapping[str, str] | None = None) -> None:
    """Write a model's weights as PyTorch's ``state_dict``, for ``load_state_dict(load_file(path), strict=True)``.

    names: {layer: module} for every layer with arrays, such as :func:`load_state_dict` returns. Without it the modules
    are numbered as in an ``nn.Sequential`` of the same layers, activations being modules of their own and global
    pooling two, ``AdaptiveAvgPool2d(1)`` and ``Flatten()``; a Residual is a Sequential inside it::

        class Residual(nn.Sequential):
            def forward(self, x):
                return x + super().forward(x)

    and the layers of its shortcut are in a Sequential ``shortcut`` of that.

    Each ``num_batches_tracked``, which PyTorch uses for ``momentum=None`` alone, is 0. The temperature of a calibrated
    model is put into its last Dense layer, as weight and bias divided by it, so that softmax or sigmoid of PyTorch's
    outputs is what the model predicts.

    Raises ValueError for names that are not one for each layer, and for a temperature where the model does not end in
    Dense and softmax or one sigmoid; OSError for a path that cannot be written.
    """
    from safetensors.numpy import save

    holders = _holders(model)
    found = dict(_numbered(model.layers) if names is None else names)
    wanted = [layer.name for layer in holders]
    if sorted(found) != sorted(wanted) or len(set(found.values())) < len(found):
        raise ValueError(f"names gives each of {', '.join(wanted)} a module of its own. Received: {names}.")
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
            arrays[full_name(found[layer.name], _COUNTER)] = np.array(0, np.int64)
    with files.atomic_write(path) as file:
        file.write(save({name: np.asarray(array, order="C") for name, array in arrays.items()}, {"format": "pt"}))


def _refuse_pickles(path: files.PathLike) -> None:
    """Raise ValueError for a file that only running what it says could read."""
    with open(path, "rb") as file:
        start = file.read(9)
    if start.startswith(_PICKLES) and start[8:] != b"{":  # a header of 640 bytes begins like a pickle
        source, target = str(path), str(Path(path).with_suffix(".safetensors"))
        raise ValueError(
            f"{source!r} is pickled, which xpcnn does not read: it could run anything. Where PyTorch is, convert it: "
            "import torch, safetensors.torch; safetensors.torch.save_file("
            f"torch.load({source!r}, weights_only=True), {target!r})"
        )


def _read(path: files.PathLike) -> dict[str, _Tensor]:
    """Return the arrays of a file in the order in which they lie there, PyTorch's counters left out."""
    import safetensors

    deserialize: Any = safetensors.deserialize  # which has no types
    content = files.read_bounded(path)
    try:
        tensors = dict(deserialize(content))
    except safetensors.SafetensorError as error:
        raise ValueError(f"it is no safetensors file, or is damaged ({files.shortened(error)})") from error
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    found = {}
    for name in sorted(filter(tensors.get, header), key=lambda name: header[name]["data_offsets"]):
        tensor = tensors[name]
        if name.rpartition(".")[2] == _COUNTER:
            continue
        if tensor["dtype"] not in _FLOATS:
            raise ValueError(
                f"{name[:100]!r} is of {tensor['dtype']}, and weights are of {', '.join(_FLOATS)}. "
                "Convert it with tensor.float() before it is saved."
            )
        found[name] = _Tensor(tensor["dtype"], tuple(tensor["shape"]), tensor["data"])
    return found


def _is_sorted(tensors: Mapping[str, _Tensor]) -> bool:
    """Whether arrays lie as safetensors sorts them, by name among those of one type, which tells nothing."""
    by_type: dict[str, list[str]] = {}
    for name, tensor in tensors.items():
        by_type.setdefault(tensor.dtype, []).append(name)
    return all(names == sorted(names) for names in by_type.values())


def _holders(model: Sequential) -> list[Layer]:
    """Return the layers that have arrays, in the order of their work."""
    return [node.layer for node in model.network.nodes if node.layer.declarations or node.layer.buffers]


def _residuals(model: Sequential) -> Iterator[list[str]]:
    """Yield the names of what each residual stack holds."""
    for layer in walk(model.layers):
        if isinstance(layer, Residual):
            yield [inner.name for inner in walk([*layer.layers, *(layer.shortcut or [])])]


def _numbered(layers: Sequence[Layer], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield each layer with arrays and its name in PyTorch's nn.Sequential."""
    number = 0
    for layer in _modules(layers):
        if isinstance(layer, Residual):
            yield from _numbered(layer.layers, f"{prefix}{number}.")
            yield from _numbered(layer.shortcut or [], f"{prefix}{number}.shortcut.")
        elif layer.declarations or layer.buffers:
            yield layer.name, f"{prefix}{number}"
        number += 2 if isinstance(layer, GlobalAveragePool2D | GlobalMaxPool2D) else 1


def _modules(layers: Sequence[Layer]) -> Iterator[Layer]:
    """Yield what are modules of their own in PyTorch: layers, their activations, and residual stacks whole."""
    for layer in layers:
        yield layer
        if not isinstance(layer, Residual):
            yield from _modules(layer.sublayers())


def _last_dense(model: Sequential) -> Dense:
    """Return the layer whose outputs the temperature divides; ValueError where there is none."""
    ends = [node.layer for node in model.network.nodes][-2:]
    one = math.prod(model.network.output_shape) == 1
    softens = applies(ends[-1], "softmax") or (applies(ends[-1], "sigmoid") and one)
    before = ends[0]
    if not softens or type(before) is not Dense:
        raise ValueError(
            f"The model's temperature, {model.temperature}, can only be put into a last Dense layer before "
            f"softmax or one sigmoid. The model ends in {', '.join(map(repr, ends))}. "
            "Set model.temperature = 1 to leave it out."
        )
    return before
