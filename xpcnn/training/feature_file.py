"""A file of features: what frozen layers give for the images of a fit, kept on disk for the next one."""

from __future__ import annotations

import errno
import functools
import hashlib
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from xpcnn import files
from xpcnn.backend import ArrayModule, to_host
from xpcnn.data.augmentation import ViewedImages
from xpcnn.data.parallel_map import ParallelMap
from xpcnn.layers.configs import to_plain
from xpcnn.program.network import Network
from xpcnn.training.checkpoints import versions
from xpcnn.training.task import code_digest

HostArray = np.ndarray[Any, Any]
#: The number of images that are read at once for their digest.
_ROWS = 64


class FeatureFile:
    """The file for one network and its images; trouble with it is a warning, once.

    key: what :func:`digest_of` returns. maker: what :func:`maker_of` returns; the features of another one, such as an
    older version, are not read but replaced.
    """

    def __init__(self, folder: Path, key: str, maker: dict[str, Any]) -> None:
        self.path = folder / f"{key}.safetensors"
        self._maker = maker
        self._told = False

    def read(self, shapes: Mapping[str, tuple[int, ...]], dtype: np.dtype[Any]) -> dict[str, HostArray] | None:
        """Return the features by name, in these shapes; None if they are not there or can't be used."""
        try:
            self._prepare_folder()
            features, description = files.load_tensors(self.path)
        except FileNotFoundError:
            return None
        except OSError as error:
            reason = error.strerror or str(error)
        except ValueError:
            reason = "it is damaged"
        else:
            found = {name: array.shape for name, array in features.items() if array.dtype == dtype}
            if found == shapes and description == {"features": self._maker}:
                return features
            reason = "it was written by another version, or on another processor"
        self._tell(f"The features in {str(self.path)!r} can't be used, so they are computed: {reason}.")
        return None

    def write(self, features: Mapping[str, HostArray]) -> None:
        """Write the features; two processes that write at once both write whole files, and the later one remains."""
        try:
            if sum(array.nbytes for array in features.values()) > files.MOST_BYTES - files.MOST_HEADER_BYTES:
                raise OSError(errno.EFBIG, f"it would be larger than {files.MOST_BYTES} bytes")
            self._prepare_folder()
            files.save_tensors(self.path, features, {"features": self._maker})
        except OSError as error:
            self._tell(f"The features can't be kept in {str(self.path)!r}: {error.strerror or error}.")

    def _prepare_folder(self) -> None:
        files.make_private(self.path.parent)
        files.refuse_shared(self.path.parent)  # others could make the features anything

    def _tell(self, trouble: str) -> None:
        if not self._told:
            warnings.warn(trouble, stacklevel=2)
        self._told = True


def digest_of(network: Network, images: Mapping[str, ViewedImages], parallel_map: ParallelMap) -> str:
    """Return a digest of a network's layers and weights, and of the numbers and views of images.

    parallel_map: as of :meth:`xpcnn.communicator.Communicator.parallel_map`.
    """
    nodes = [[to_plain(node.layer), node.inputs, node.output] for node in network.nodes]
    views = {name: [viewed.shape, viewed.views] for name, viewed in images.items()}
    digest = hashlib.blake2b(json.dumps([str(network.dtype), nodes, views]).encode(), digest_size=16)
    for node in network.nodes:
        for name, array in sorted(network.params.get(node.layer.name, {}).items()):
            digest.update(name.encode() + to_host(array).tobytes())
    for viewed in images.values():
        blocks = -(-len(viewed.images) // _ROWS)
        for part in parallel_map(functools.partial(_digest_of_block, viewed.images, network.dtype), blocks):
            digest.update(part)
    return digest.hexdigest()


def _digest_of_block(images: Any, dtype: np.dtype[Any], block: int) -> bytes:
    numbers = np.asarray(images[block * _ROWS : (block + 1) * _ROWS], dtype=dtype)
    return hashlib.blake2b(numbers.tobytes()).digest()


def maker_of(xp: ArrayModule, batch_size: int) -> dict[str, Any]:
    """Return what decides the bits of features, besides the network and the images, as JSON-serialisable values."""
    from threadpoolctl import threadpool_info

    blas = [
        library for library in threadpool_info() if library["user_api"] == "blas" and _is_numpys(library["filepath"])
    ]
    return {
        "versions": versions(xp),
        "backend": str(xp.__name__),
        "sources": code_digest(),
        "blas": [[one["internal_api"], one["version"], one.get("architecture")] for one in blas],
        "instructions": np.show_config(mode="dicts")["SIMD Extensions"],
        "batch_size": batch_size,
    }


def _is_numpys(library: str) -> bool:
    """Whether NumPy may use a library: not one that comes with another package, such as OpenCV, which may be loaded."""
    folder = Path(library).parent
    of_package = folder.parent.name if folder.name == ".dylibs" else folder.name.removesuffix(".libs")
    return of_package == "numpy" or folder.name not in (".dylibs", f"{of_package}.libs")
