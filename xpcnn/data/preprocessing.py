"""From decoded images to the network's input, identically in training and in prediction."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpcnn.data.decoding import Decoding
from xpcnn.data.parallel_map import ParallelMap, serial_map

_FLOAT32 = np.finfo(np.float32)
_BLOCK_ELEMENTS = 2**20
#: What ``std`` is called in model files, in every version of their format.
_STD_IN_FILES = "deviation"


def _is_number(value: object, smallest: float) -> bool:
    """Whether ``value`` is an int or a float from ``smallest`` up to float32's maximum."""
    return type(value) in (int, float) and smallest <= value <= float(_FLOAT32.max)  # type: ignore[operator]


@dataclass(frozen=True)
class Preprocessing:
    """How images are decoded and normalised; saved with the model, so that prediction can't differ from training.

    mean, std: one number per channel, in the 0..255 units of the images. per_image: standardise every image by the
    mean and standard deviation of all its own values instead; ``mean`` and ``std`` are then unused.

    Raises ValueError unless there is one finite number per channel and every ``std`` is positive.

    >>> grey = Preprocessing(Decoding(height=1, width=2, channels=1), mean=(100.0,), std=(50.0,))
    >>> grey.normalize(np.array([[[[0, 200]]]], dtype=np.uint8)).tolist()
    [[[[-2.0, 2.0]]]]
    """

    decoding: Decoding
    mean: tuple[float, ...]
    std: tuple[float, ...]
    per_image: bool = False

    def __post_init__(self) -> None:
        for name, values, smallest in (
            ("mean", self.mean, float(_FLOAT32.min)),
            ("std", self.std, float(_FLOAT32.tiny)),
        ):
            good = isinstance(values, tuple) and len(values) == self.decoding.channels
            if not good or not all(_is_number(value, smallest) for value in values):
                raise ValueError(
                    f"{name} must be {self.decoding.channels} finite numbers, one per channel, and std must be "
                    f"positive. Received: {str(values)[:200]}."
                )
        if type(self.per_image) is not bool:
            raise ValueError(f"per_image must be True or False. Received: {self.per_image!r}.")

    def normalize(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """Return float32 (x - mean) / std for images (n, channels, h, w) of uint8, or of floats in 0..255.

        With ``per_image``, a constant image gives zeros. Raises ValueError for another shape.
        """
        if images.ndim != 4 or images.shape[1] != self.decoding.channels:
            raise ValueError(
                f"Images must have the shape (n, {self.decoding.channels}, height, width). "
                f"Received: {tuple(images.shape)}."
            )
        x = images.astype(np.float32, order="C")
        if self.per_image:
            _standardize_each(x)
        else:
            x -= np.array(self.mean, dtype=np.float32)[:, np.newaxis, np.newaxis]
            x /= np.array(self.std, dtype=np.float32)[:, np.newaxis, np.newaxis]
        return x

    def to_json(self) -> dict[str, Any]:
        """Return the fields as a JSON-serialisable dictionary, under the names that model files have always used."""
        return {
            "decoding": self.decoding.to_json(),
            "mean": list(self.mean),
            _STD_IN_FILES: list(self.std),
            "per_image": self.per_image,
        }

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Preprocessing:
        """Return the preprocessing that :meth:`to_json` wrote; raise ValueError for anything else."""
        expected = {"decoding", "mean", _STD_IN_FILES, "per_image"}
        lists = isinstance(fields, Mapping) and set(fields) == expected
        if not lists or not isinstance(fields["mean"], list) or not isinstance(fields[_STD_IN_FILES], list):
            raise ValueError(
                f"A preprocessing has exactly the fields decoding, mean and {_STD_IN_FILES} (lists), and per_image. "
                f"Received: {str(fields)[:200]}."
            )
        decoding = Decoding.from_json(fields["decoding"])
        return cls(decoding, tuple(fields["mean"]), tuple(fields[_STD_IN_FILES]), fields["per_image"])

    @classmethod
    def measure(
        cls,
        images: NDArray[Any],
        decoding: Decoding,
        per_image: bool = False,
        rows: NDArray[np.int64] | None = None,
        parallel_map: ParallelMap = serial_map,
    ) -> Preprocessing:
        """Measure the mean and standard deviation of every channel of a set of images (n, channels, h, w).

        rows: the images to measure, usually the training part; None: all. A constant channel gets a ``std`` of 1.
        Images are processed in blocks, whose moments are merged in float64 (Chan, Golub and LeVeque, "Algorithms for
        computing the sample variance", 1983). parallel_map(function, n): returns [function(0), …, function(n - 1)];
        pass one that distributes the calls to share the work. With ``per_image`` nothing is measured.

        Raises ValueError if there are no images, or no finite ones.
        """
        if per_image:
            return cls(decoding, (0.0,) * decoding.channels, (1.0,) * decoding.channels, per_image=True)
        chosen = np.arange(len(images)) if rows is None else rows
        if images.ndim != 4 or images.shape[1] != decoding.channels or len(chosen) == 0:
            raise ValueError(
                f"Measuring needs at least one image of shape ({decoding.channels}, height, width). "
                f"Received: {len(chosen)} of an array of shape {tuple(images.shape)}."
            )
        area = images.shape[2] * images.shape[3]
        block_size = max(1, _BLOCK_ELEMENTS // (decoding.channels * area))

        def moments(number: int) -> tuple[int, NDArray[np.float64], NDArray[np.float64]]:
            block = images[chosen[number * block_size : (number + 1) * block_size]].astype(np.float64)
            block_mean = block.mean(axis=(0, 2, 3))
            block -= block_mean[:, np.newaxis, np.newaxis]
            return len(block) * area, block_mean, np.square(block, out=block).sum(axis=(0, 2, 3))

        count, mean, squares = 0, np.zeros(decoding.channels), np.zeros(decoding.channels)
        for added, block_mean, block_squares in parallel_map(moments, -(-len(chosen) // block_size)):
            difference = block_mean - mean
            mean = mean + difference * (added / (count + added))
            squares += block_squares
            squares += np.square(difference) * (count * added / (count + added))
            count += added
        std = np.sqrt(squares / count)
        std = np.where(_varies(std, mean), std, 1.0)
        return cls(decoding, tuple(mean.tolist()), tuple(std.tolist()))


def _varies(std: NDArray[np.float64], mean: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether values differ by more than float32 loses in storing their mean."""
    return std > float(_FLOAT32.eps) * np.abs(mean) + float(_FLOAT32.tiny)


def _standardize_each(x: NDArray[np.float32]) -> None:
    """Standardise every image of C-contiguous float32 (n, channels, h, w) over all its values, in place."""
    flat = x.reshape(len(x), math.prod(x.shape[1:]))
    mean = flat.mean(axis=1, dtype=np.float64, keepdims=True)
    flat -= mean.astype(np.float32)
    std = np.sqrt(np.square(flat, dtype=np.float64).mean(axis=1, keepdims=True))
    flat /= np.where(_varies(std, mean), std, 1.0).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Normalized:
    """Some of a set's images, normalised on access, so that the whole set is never held in float32.

    images: (n, channels, h, w), usually uint8. rows: the indices of the images that belong, int64 (m,). Indexing with
    a slice or integers (k,) returns float32 (k, channels, h, w).

    >>> images = np.array([0, 100, 200], dtype=np.uint8).reshape(3, 1, 1, 1)
    >>> grey = Preprocessing(Decoding(height=1, width=1, channels=1), mean=(100.0,), std=(50.0,))
    >>> Normalized(images, np.array([2, 0]), grey)[0:1].ravel().tolist()
    [2.0]
    """

    images: NDArray[Any]
    rows: NDArray[np.int64]
    preprocessing: Preprocessing

    dtype = np.dtype(np.float32)
    ndim = 4

    @property
    def shape(self) -> tuple[int, ...]:
        """(rows, channels, height, width)."""
        return (len(self.rows), *self.images.shape[1:])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: slice | NDArray[np.integer[Any]]) -> NDArray[np.float32]:
        return self.preprocessing.normalize(self.images[self.rows[rows]])
