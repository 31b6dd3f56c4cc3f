"""The files that contain a state dict: safetensors, and both formats of ``torch.save``, a zip archive and a stream."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from xpcnn import files
from xpcnn.formats.torch_pickle import ADVICE, Pickles
from xpcnn.formats.torch_tensor import DTYPES, FLOATS, Tensor, View

#: The step counter of PyTorch's BatchNorm, which xpcnn does not need.
COUNTER = "num_batches_tracked"
#: The most entries of a zip archive; each storage is one.
MOST_ENTRIES = 100_000
#: The first bytes of files written by ``torch.save``: a zip archive, or a pickle of protocol 2 to 5.
_PICKLES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
#: The integer 0x1950A86A20F9469CFC6C as a pickle, with which a stream begins, and the version that follows.
_MAGIC, _VERSION = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", 1001


def read(path: files.PathLike) -> tuple[dict[str, Tensor], bool]:
    """Return a file's tensors, without PyTorch's step counters, and whether their order is that of the modules."""
    with open(path, "rb") as file:
        pickled = _is_pickled(file.read(9))
    if pickled:
        return _pickled(files.read_bounded(path)), True
    tensors = _safetensors(files.read_safetensors(path))
    return tensors, not _is_sorted(tensors)


def is_state_dict(path: files.PathLike) -> bool:
    """Whether a file begins as one that :func:`read` takes: a pickle, or safetensors without a model of xpcnn."""
    if os.path.isdir(path):
        return False
    with open(path, "rb") as file:
        start = file.read(9)
        if _is_pickled(start):
            return True
        length = int.from_bytes(start[:8], "little")
        if start[8:] != b"{" or length > files.MOST_HEADER_BYTES:
            return False
        return f'"{files.DESCRIPTION}":'.encode() not in file.read(length)


def _is_pickled(start: bytes) -> bool:
    return start.startswith(_PICKLES) and start[8:] != b"{"  # a header of 640 bytes begins like a pickle


def _is_weight(name: str, dtype: str) -> bool:
    """Whether a tensor is not a step counter; raise ValueError if it is a weight of another dtype than floats."""
    if name.rpartition(".")[2] == COUNTER:
        return False
    if dtype not in FLOATS:
        raise ValueError(
            f"{name[:100]!r} has the dtype {dtype}, but weights must be {', '.join(FLOATS)}. "
            "Convert it with tensor.float() before saving."
        )
    return True


def _safetensors(content: bytes) -> dict[str, Tensor]:
    """Return the weights of a safetensors file in their order in the file."""
    import safetensors

    deserialize: Any = safetensors.deserialize  # which has no types
    try:
        tensors = dict(deserialize(content))
    except safetensors.SafetensorError as error:
        raise ValueError(f"it is not a safetensors file, or is damaged ({files.shortened(error)})") from error
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    found = {}
    for name in sorted(filter(tensors.get, header), key=lambda name: header[name]["data_offsets"]):
        dtype, shape, data = (tensors[name][key] for key in ("dtype", "shape", "data"))
        if _is_weight(name, dtype):
            found[name] = Tensor(dtype, np.ndarray(shape, DTYPES[dtype], data))
    return found


def _is_sorted(tensors: Mapping[str, Tensor]) -> bool:
    """Whether the arrays of each dtype are sorted by name, as safetensors does, so that their order means nothing."""
    by_type: dict[str, list[str]] = {}
    for name, tensor in tensors.items():
        by_type.setdefault(tensor.dtype, []).append(name)
    return all(names == sorted(names) for names in by_type.values())


def _pickled(content: bytes) -> dict[str, Tensor]:
    """Return the weights of a file that ``torch.save`` wrote, in their order in the file."""
    value, storages = _from_zip(content) if content.startswith(b"PK") else _from_stream(content)
    views = _views(value)
    prefix = "module." if all(name.startswith("module.") for name in views) else ""  # of DataParallel
    weights = {name: view for name, view in views.items() if _is_weight(name, view.storage.dtype)}
    count = sum(view.count for view in weights.values())
    if count > len(content):  # tensors may share numbers, or repeat them with strides of 0
        raise ValueError(f"its tensors have {count} numbers, more than the file has bytes ({len(content)})")
    return {name.removeprefix(prefix): view.tensor(storages[view.storage.key]) for name, view in weights.items()}


def _views(value: Any) -> dict[str, View]:
    """Return the state dict that a file contains, or that is in a dict under "state_dict" or "model"."""
    if isinstance(value, dict):
        inner = (value.get(key) for key in ("state_dict", "model"))
        value = next((found for found in inner if isinstance(found, dict)), value)
    if not isinstance(value, dict):
        raise ValueError(f"it is not a dict of tensors (received: {type(value).__name__}). {ADVICE}")
    for name, view in value.items():
        if not isinstance(name, str) or not isinstance(view, View):
            raise ValueError(
                f"{str(name)[:100]!r} is not the name of a tensor (received: {type(view).__name__}). {ADVICE}"
            )
    return value


def _from_zip(content: bytes) -> tuple[Any, dict[str, bytes]]:
    """Return the pickled value of a zip archive and the bytes of its storages by key."""
    entries = _entries(content)
    root = next(iter(entries), "").partition("/")[0]
    if f"{root}/data.pkl" not in entries:
        raise ValueError(f"it is a zip archive without a data.pkl, so not one of torch.save. {ADVICE}")
    if entries.get(f"{root}/byteorder", b"little") != b"little":
        raise ValueError("its numbers are big-endian. Save it again on a little-endian machine.")
    pickles = Pickles(entries[f"{root}/data.pkl"])
    value = pickles.load()
    storages = {key: entries.get(f"{root}/data/{key}", b"") for key in pickles.storages}
    for key, data in storages.items():
        if len(data) != pickles.storages[key].size:
            raise ValueError(f"its storage {key[:100]!r} has {len(data)} bytes, not {pickles.storages[key].size}")
    return value, storages


def _entries(content: bytes) -> dict[str, bytes]:
    """Return the entries of a zip archive by name; raise ValueError unless they are stored as ``torch.save`` does."""
    if content.count(b"PK\1\2") > MOST_ENTRIES:  # the first bytes of each entry in the archive's directory
        raise ValueError(f"it is a zip archive of more than {MOST_ENTRIES:,} entries")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            infos = archive.infolist()
            stored = all(info.compress_type == zipfile.ZIP_STORED for info in infos)
            sound = stored and sum(info.file_size for info in infos) <= len(content)
            entries = {info.filename: archive.read(info) for info in infos} if sound else {}
    except (zipfile.BadZipFile, EOFError, OverflowError, RuntimeError, ValueError) as error:
        raise ValueError(f"it is a damaged zip archive ({files.shortened(error) or 'cut off'})") from error
    if len(entries) < len(infos):
        raise ValueError("it is a zip archive whose entries are compressed, doubled or larger than the file")
    return entries


def _from_stream(content: bytes) -> tuple[Any, dict[str, bytes]]:
    """Return the pickled value of a stream, the default before PyTorch 1.6, and the bytes of its storages by key."""
    start = content.find(_MAGIC, 0, 32)
    if start < 0:
        raise ValueError(f"it is a pickle, but not one of torch.save. {ADVICE}")
    pickles = Pickles(content, start + len(_MAGIC))
    version, system, value, keys = (pickles.load() for _ in range(4))
    if version != _VERSION or not isinstance(system, dict) or system.get("little_endian") is not True:
        raise ValueError(f"it is not of version {_VERSION} and little-endian. Save it again with a newer PyTorch.")
    named = isinstance(keys, list) and all(isinstance(key, str) for key in keys)
    if not named or {*keys} != pickles.storages.keys():
        raise ValueError("its list of storages is not that of its tensors")
    storages = {}
    for key in keys:
        storage = pickles.storages[key]
        if pickles.number(8) != storage.count:
            raise ValueError(f"its storage {key[:100]!r} does not have {storage.count} numbers")
        storages[key] = pickles.take(storage.size)
    return value, storages
