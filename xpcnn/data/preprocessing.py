"""From the bytes of an image to the numbers a network takes, the same in training and in prediction."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpcnn.data.decoding import Decoding
from xpcnn.data.spread import Spread, one_after_another

_FLOAT32 = np.finfo(np.float32)
_BLOCK_ELEMENTS = 2**20


def _is_number(value: object, smallest: float) -> bool:
    """Whether ``value`` is an int or a float from ``smallest`` up to what float32 can hold."""
    return type(value) in (int, float) and smallest <= value <= float(_FLOAT32.max)  # type: ignore[operator]


@dataclass(frozen=True)
class Preprocessing:
    """How images are decoded and normalised; a model keeps it, so that prediction cannot differ from
    training.

    mean, deviation: one number a channel, in the units 0..255 of the images. per_image: every image is
    standardised by the mean and deviation of all its own values instead, and the two are not used.

    Raises ValueError for numbers that are not finite, deviations that are not positive, or not one a channel.

    >>> grey = Preprocessing(Decoding(height=1, width=2, channels=1), mean=(100.0,), deviation=(50.0,))
    >>> grey.normalize(np.array([[[[0, 200]]]], dtype=np.uint8)).tolist()
    [[[[-2.0, 2.0]]]]
    """

    decoding: Decoding
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    per_image: bool = False

    def __post_init__(self) -> None:
        for name, values, smallest in (
            ("mean", self.mean, float(_FLOAT32.min)),
            ("deviation", self.deviation, float(_FLOAT32.tiny)),
        ):
            good = isinstance(values, tuple) and len(values) == self.decoding.channels
            if not good or not all(_is_number(value, smallest) for value in values):
                raise ValueError(
                    f"A {name} is {self.decoding.channels} finite numbers, one a channel, and a deviation is "
                    f"positive. Received: {str(values)[:200]}."
                )
        if type(self.per_image) is not bool:
            raise ValueError(f"per_image is True or False. Received: {self.per_image!r}.")

    def normalize(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """Return float32 (x - mean) / deviation of images (n, channels, h, w), of uint8 or floats in 0..255.

        With ``per_image``, a constant image gives zeros. Raises ValueError for another shape.
        """
        if images.ndim != 4 or images.shape[1] != self.decoding.channels:
            raise ValueError(
                f"Images have the shape (n, {self.decoding.channels}, height, width). Received: {tuple(images.shape)}."
            )
        x = images.astype(np.float32, order="C")
        if self.per_image:
            _standardize_each(x)
        else:
            x -= np.array(self.mean, dtype=np.float32)[:, np.newaxis, np.newaxis]
            x /= np.array(self.deviation, dtype=np.float32)[:, np.newaxis, np.newaxis]
        return x

    def to_json(self) -> dict[str, Any]:
        """Return the fields as a dictionary that JSON can hold."""
        return {
            "decoding": self.decoding.to_json(),
            "mean": list(self.mean),
            "deviation": list(self.deviation),
            "per_image": self.per_image,
        }

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Preprocessing:
        """Return the preprocessing that :meth:`to_json` wrote; raise ValueError for anything else."""
        expected = {"decoding", "mean", "deviation", "per_image"}
        lists = isinstance(fields, Mapping) and set(fields) == expected
        if not lists or not isinstance(fields["mean"], list) or not isinstance(fields["deviation"], list):
            raise ValueError(
                "A preprocessing holds a decoding, lists of mean and deviation, and per_image, and nothing "
                f"else. Received: {str(fields)[:200]}."
            )
        decoding = Decoding.from_json(fields["decoding"])
        return cls(decoding, tuple(fields["mean"]), tuple(fields["deviation"]), fields["per_image"])

    @classmethod
    def measure(
        cls,
        images: NDArray[Any],
        decoding: Decoding,
        per_image: bool = False,
        rows: NDArray[np.int64] | None = None,
        spread: Spread = one_after_another,
    ) -> Preprocessing:
        """Measure the mean and deviation of every channel of a set of images (n, channels, h, w).

        rows: which images to measure, those of the training part; None: all. A channel that is constant has
        the deviation 1. Images are taken a block at a time, and the blocks merged in float64 (Chan, Golub and
        LeVeque, "Algorithms for computing the sample variance", 1983). spread(function, n): what makes
        [function(0), …, function(n - 1)], for whoever has helpers. With ``per_image`` nothing is measured: 0 and 1.

        Raises ValueError if there are no images, or no finite ones.
        """
        if per_image:
            return cls(decoding, (0.0,) * decoding.channels, (1.0,) * decoding.channels, per_image=True)
        chosen = np.arange(len(images)) if rows is None else rows
        if images.ndim != 4 or images.shape[1] != decoding.channels or len(chosen) == 0:
            raise ValueError(
                f"A mean is measured on one image or more of shape ({decoding.channels}, height, width). "
                f"Received: {len(chosen)} of an array of shape {tuple(images.shape)}."
            )
        area = images.shape[2] * images.shape[3]
        step = max(1, _BLOCK_ELEMENTS // (decoding.channels * area))

        def moments(number: int) -> tuple[int, NDArray[np.float64], NDArray[np.float64]]:
            block = images[chosen[number * step : (number + 1) * step]].astype(np.float64)
            block_mean = block.mean(axis=(0, 2, 3))
            block -= block_mean[:, np.newaxis, np.newaxis]
            return len(block) * area, block_mean, np.square(block, out=block).sum(axis=(0, 2, 3))

        count, mean, squares = 0, np.zeros(decoding.channels), np.zeros(decoding.channels)
        for added, block_mean, block_squares in spread(moments, -(-len(chosen) // step)):
            difference = block_mean - mean
            mean = mean + difference * (added / (count + added))
            squares += block_squares
            squares += np.square(difference) * (count * added / (count + added))
            count += added
        deviation = np.sqrt(squares / count)
        deviation = np.where(_varies(deviation, mean), deviation, 1.0)
        return cls(decoding, tuple(mean.tolist()), tuple(deviation.tolist()))


def _varies(deviation: NDArray[np.float64], mean: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether values differ by more than float32 loses when it holds their mean."""
    return deviation > float(_FLOAT32.eps) * np.abs(mean) + float(_FLOAT32.tiny)


def _standardize_each(x: NDArray[np.float32]) -> None:
    """Standardise every image of float32 (n, channels, h, w), C-contiguous, in place over all its values."""
    flat = x.reshape(len(x), math.prod(x.shape[1:]))
    mean = flat.mean(axis=1, dtype=np.float64, keepdims=True)
    flat -= mean.astype(np.float32)
    deviation = np.sqrt(np.square(flat, dtype=np.float64).mean(axis=1, keepdims=True))
    flat /= np.where(_varies(deviation, mean), deviation, 1.0).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Normalized:
    """Some rows of a set of images, normalised when they are taken: an array that is never held in float32.

    images: (n, channels, h, w), usually uint8. rows: the indices that belong, int64 (m,). Indexed by a slice
    or by integers (k,) it gives float32 (k, channels, h, w).

    >>> images = np.array([0, 100, 200], dtype=np.uint8).reshape(3, 1, 1, 1)
    >>> grey = Preprocessing(Decoding(height=1, width=1, channels=1), mean=(100.0,), deviation=(50.0,))
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
