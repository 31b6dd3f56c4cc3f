"""MNIST from its four IDX files (Y. LeCun, C. Cortes and C. Burges), plain or gzip-compressed."""

from __future__ import annotations

import gzip
import math
import os
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from xpcnn.data.labelled import LabelledImages

DATA_VARIABLE = "XPCNN_DATA"
MAX_BYTES = 2**30
#: Deflate compresses at most 1,032 bytes into one, so a header that claims more is false.
_MAX_EXPANSION = 1032
_UNSIGNED_BYTE = 8


def load_mnist(folder: str | os.PathLike[str] | None = None) -> tuple[LabelledImages, LabelledImages]:
    """Return the training and the test set, grey, uint8 (n, 1, 28, 28), with the classes "0" to "9".

    folder: contains the four files ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``,
    ``t10k-images-idx3-ubyte`` and ``t10k-labels-idx1-ubyte``, each with or without ``.gz``; None: the subfolder
    ``mnist`` of the folder in the environment variable ``XPCNN_DATA``.

    Raises FileNotFoundError for a missing file or folder, and ValueError for files that are not MNIST's.
    """
    if folder is None:
        beside = os.environ.get(DATA_VARIABLE)
        if not beside:
            raise FileNotFoundError(
                f"MNIST was requested, but {DATA_VARIABLE} is not set. Set it to the folder that contains "
                "'mnist', or call load_mnist with the folder of the four IDX files."
            )
        folder = Path(beside, "mnist")
    return _load_set(Path(folder), "train"), _load_set(Path(folder), "t10k")


def read_idx(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes, gzip-compressed if its name ends in ``.gz``, to uint8 of its declared shape.

    The format: two zero bytes, the type (8: unsigned byte), the number of dimensions, each dimension as a big-endian
    32-bit number, and the values in row-major order. Nothing is allocated until the size of the file makes the header
    plausible.

    Raises ValueError for a file of another format or length, and OSError for one that cannot be opened.
    """
    path = Path(path)
    compressed = path.suffix == ".gz"
    file_bytes = path.stat().st_size
    try:
        with gzip.open(path, "rb") if compressed else path.open("rb") as stream:
            shape = _read_header(path, cast(BinaryIO, stream))
            count, most = math.prod(shape), file_bytes * _MAX_EXPANSION if compressed else file_bytes
            extent = math.prod(size or 1 for size in shape)  # NumPy limits it even where one dimension is 0
            if count > most or extent > MAX_BYTES:
                raise ValueError(
                    f"{path} is truncated or not an IDX file. Received: {file_bytes} bytes and a header that "
                    f"declares the shape {shape}."
                )
            content = stream.read(count + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is truncated or damaged. Received: {error}. Download the file again.") from error
    if len(content) != count:
        length = "fewer" if len(content) < count else "more"
        raise ValueError(f"{path} is damaged: it has {length} values than its declared shape {shape}.")
    return np.frombuffer(content, dtype=np.uint8).reshape(shape).copy()


def _read_header(path: Path, stream: BinaryIO) -> tuple[int, ...]:
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] != _UNSIGNED_BYTE or not 1 <= magic[3] <= 4:
        raise ValueError(
            f"{path} is not an IDX file of unsigned bytes in 1 to 4 dimensions. Received the first bytes: "
            f"{magic.hex(' ') or 'none'}."
        )
    sizes = stream.read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise ValueError(f"{path} is truncated: it ends within its header. Download the file again.")
    return tuple(np.frombuffer(sizes, dtype=">u4").tolist())


def _load_set(folder: Path, name: str) -> LabelledImages:
    image_path, label_path = (
        _find(folder, f"{name}-images-idx3-ubyte"),
        _find(folder, f"{name}-labels-idx1-ubyte"),
    )
    x, y = read_idx(image_path), read_idx(label_path)
    if x.ndim != 3 or x.shape[1:] != (28, 28) or y.shape != x.shape[:1] or np.any(y > 9):
        raise ValueError(
            f"{image_path.name} and {label_path.name} in {folder} are not MNIST's: images (n, 28, 28) with n "
            f"labels from 0 to 9. Received: images {x.shape} and labels {y.shape} up to {y.max(initial=0)}."
        )
    return LabelledImages(x[:, np.newaxis], y.astype(np.int64), tuple("0123456789"))


def _find(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise FileNotFoundError(f"There is no {name} or {name}.gz in {folder}. Put MNIST's four IDX files there.")
