"""Image data on the host: decoding, folders, MNIST, the bundled digits, splits, augmentation and batches.

Submodules are imported on first use, and OpenCV when the first image is decoded.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xpcnn.data import augmentation, batches
    from xpcnn.data.augmentation import augment
    from xpcnn.data.batches import shuffled
    from xpcnn.data.decode import UndecodableImage, read_image
    from xpcnn.data.decoding import Decoding
    from xpcnn.data.digits import load_digits
    from xpcnn.data.folder import Folder
    from xpcnn.data.folders import ImageFolder, load, load_folder, scan
    from xpcnn.data.groups import grouped
    from xpcnn.data.labelled import LabelledImages, write_skipped_csv
    from xpcnn.data.listed import from_table
    from xpcnn.data.mnist import load_mnist, read_idx
    from xpcnn.data.preprocessing import Normalized, Preprocessing
    from xpcnn.data.ranges import measure_range
    from xpcnn.data.resizing import resize
    from xpcnn.data.splits import Split, split_from_parts, stratified_split

_HOMES = {
    "Decoding": "decoding",
    "Folder": "folder",
    "ImageFolder": "folders",
    "LabelledImages": "labelled",
    "Normalized": "preprocessing",
    "Preprocessing": "preprocessing",
    "Split": "splits",
    "UndecodableImage": "decode",
    "augment": "augmentation",
    "from_table": "listed",
    "grouped": "groups",
    "load": "folders",
    "load_digits": "digits",
    "load_folder": "folders",
    "load_mnist": "mnist",
    "measure_range": "ranges",
    "read_idx": "mnist",
    "read_image": "decode",
    "resize": "resizing",
    "scan": "folders",
    "shuffled": "batches",
    "split_from_parts": "splits",
    "stratified_split": "splits",
    "write_skipped_csv": "labelled",
}

__all__ = [
    "Decoding",
    "Folder",
    "ImageFolder",
    "LabelledImages",
    "Normalized",
    "Preprocessing",
    "Split",
    "UndecodableImage",
    "augment",
    "augmentation",
    "batches",
    "from_table",
    "grouped",
    "load",
    "load_digits",
    "load_folder",
    "load_mnist",
    "measure_range",
    "read_idx",
    "read_image",
    "resize",
    "scan",
    "shuffled",
    "split_from_parts",
    "stratified_split",
    "write_skipped_csv",
]


def __getattr__(name: str) -> Any:
    if name in ("augmentation", "batches"):  # modules: `batches.batches` can't also be an attribute of this name
        return importlib.import_module(f"xpcnn.data.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'xpcnn.data' has no attribute {name!r}")
    return getattr(importlib.import_module(f"xpcnn.data.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
