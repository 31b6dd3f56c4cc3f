"""Random flips, rotations, shifts and changes of contrast for training images, and views for test-time augmentation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from xpcnn import random
from xpcnn.data.contrast_brightness import adjust_contrast_brightness

NAMES = ("none", "shift", "light", "microscopy", "flip", "dihedral")

#: Called with images (n, channels, h, w), the seed, the epoch and the images' indices in the set (n,).
Augmentation: TypeAlias = Callable[[NDArray[Any], int, int, NDArray[np.integer[Any]]], NDArray[Any]]
#: A view of an image: whether it is transposed, then flipped vertically, then horizontally.
View: TypeAlias = tuple[int, int, int]
#: The largest change of contrast and brightness, as a fraction of an image's own.
MAX_CHANGE = 0.1
Indices: TypeAlias = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class OneOfViews:
    """The transforms of an augmentation that gives one of a few views of each image, all of them equally often.

    views: called with the images' (height, width); returns their views.
    """

    views: Callable[[tuple[int, int]], list[View]]

    def drawn(self, size: tuple[int, int], seed: int, epoch: int, indices: Indices) -> NDArray[np.int64]:
        """Return which of the views each image gets in an epoch, (n,)."""
        return _below(len(self.views(size)), _words(seed, epoch, indices))

    def __call__(self, size: tuple[int, int], seed: int, epoch: int, indices: Indices) -> NDArray[np.int32]:
        """Return the transforms of :class:`GeometricAugmentation`."""
        transforms = np.zeros((len(indices), 5), np.int32)
        transforms[:, :3] = np.array(self.views(size), np.int32)[self.drawn(size, seed, epoch, indices)]
        return transforms


@dataclass(frozen=True)
class GeometricAugmentation:
    """An augmentation that only moves pixels, so that any backend can apply it, and may adjust contrast and brightness.

    transforms: called with the images' (height, width), the seed, the epoch and the indices (n,); returns int32 (n, 5):
    whether each image is transposed, flipped vertically and flipped horizontally, and by how many rows and columns it
    is shifted, with its edge repeated. In this order they map cell (r, c) of the result to one of the image.
    contrast_brightness: called with the seed, the epoch and the indices; returns float32 (n, 2), the changes for
    :func:`xpcnn.data.contrast_brightness.adjust_contrast_brightness`. None: no changes.
    """

    transforms: Callable[[tuple[int, int], int, int, Indices], NDArray[np.int32]]
    contrast_brightness: Callable[[int, int, Indices], NDArray[np.float32]] | None = None

    @property
    def few_views(self) -> OneOfViews | None:
        """What draws the views, if images get nothing but one of a few views, which can all be computed beforehand."""
        unchanged = self.contrast_brightness is None
        return self.transforms if unchanged and isinstance(self.transforms, OneOfViews) else None

    def __call__(self, images: NDArray[Any], seed: int, epoch: int, indices: Indices) -> NDArray[Any]:
        """Return the augmented images; those with the same transform are processed together."""
        height, width = images.shape[2:]
        transforms = self.transforms((height, width), seed, epoch, indices)
        most_down, most_right = (int(np.abs(shift).max(initial=0)) for shift in (transforms[:, 3], transforms[:, 4]))
        padding = ((0, 0), (0, 0), (most_down, most_down), (most_right, most_right))
        padded = np.pad(images, padding, mode="edge") if most_down or most_right else images
        result = np.empty_like(images)
        codes = transforms @ np.array([1, 2, 4, 8, 8 * (2 * most_down + 1)])  # one number for all five: unique
        for code in np.unique(codes):
            rows = np.flatnonzero(codes == code)
            transposed, up, left, down, right = transforms[rows[0]].tolist()
            down, right = most_down + down, most_right + right
            moved = padded[rows, :, down : down + height, right : right + width]
            moved = moved[..., :: -1 if up else 1, :: -1 if left else 1]
            result[rows] = moved.swapaxes(2, 3) if transposed else moved
        if self.contrast_brightness is not None:
            result = adjust_contrast_brightness(np, result, self.contrast_brightness(seed, epoch, indices))
        return result


def augment(name: str) -> GeometricAugmentation | None:
    """Return the augmentation of that name, or None for "none".

    "shift": shifts by up to 1/12 of the side, at least one pixel, with the edge repeated. "light": horizontal flips,
    and shifts by up to 1/16. "microscopy": horizontal and vertical flips, rotations by 90° if images are square, and up
    to a tenth more or less contrast and brightness. "flip": horizontal flips alone. "dihedral": the flips and rotations
    of "microscopy" alone. The result has the shape and dtype of the images. It depends only
    on the seed, the epoch and the image's index, not on the other images of the batch.

    Raises ValueError for another name.

    >>> images = np.arange(64.0).reshape(1, 1, 8, 8)
    >>> augment("shift")(images, 0, 1, np.array([5])).shape
    (1, 1, 8, 8)
    """
    if name not in NAMES:
        raise ValueError(f"There is no augmentation {name!r}. Use one of: {', '.join(NAMES)}.")
    return {
        "none": None,
        "shift": GeometricAugmentation(_shift),
        "light": GeometricAugmentation(_light),
        "microscopy": GeometricAugmentation(OneOfViews(_symmetries), _contrast_brightness),
        "flip": GeometricAugmentation(OneOfViews(_flips)),
        "dihedral": GeometricAugmentation(OneOfViews(_symmetries)),
    }[name]


def views(name: str, size: tuple[int, int]) -> list[View]:
    """Return the views of an image of (height, width) that an augmentation produces, apart from shifts.

    The first view is the image itself. Raises the errors of :func:`augment`.

    >>> views("light", (8, 8))
    [(0, 0, 0), (0, 0, 1)]
    """
    augment(name)  # which knows the names
    found = {"light": _flips, "flip": _flips, "microscopy": _symmetries, "dihedral": _symmetries}.get(name)
    return [(0, 0, 0)] if found is None else sorted(found(size))


@dataclass(frozen=True, eq=False)
class ViewedImages:
    """All of some views of images, on access: first those of the first image, then those of the second, and so on.

    images: (n, channels, height, width), any array that can be indexed by rows. views: images that are not square must
    not be transposed.

    >>> ViewedImages(np.array([[[[1, 2]]], [[[3, 4]]]]), [(0, 0, 0), (0, 0, 1)])[1:3].tolist()
    [[[[2, 1]]], [[[3, 4]]]]
    """

    images: Any
    views: Sequence[View]

    @property
    def shape(self) -> tuple[int, ...]:
        """(n times the number of views, channels, height, width)."""
        return (len(self), *self.images.shape[1:])

    @property
    def dtype(self) -> Any:
        """The images' dtype."""
        return self.images.dtype

    def __len__(self) -> int:
        return len(self.images) * len(self.views)

    def __getitem__(self, rows: slice | Indices) -> NDArray[Any]:
        numbers, which = np.divmod(np.arange(len(self))[rows], len(self.views))
        needed, places = np.unique(numbers, return_inverse=True)
        images = np.asarray(self.images[needed])
        viewed = np.empty((len(numbers), *images.shape[1:]), images.dtype)
        for view, (transposed, up, left) in enumerate(self.views):
            seen = images[places[which == view]][..., :: -1 if up else 1, :: -1 if left else 1]
            viewed[which == view] = seen.swapaxes(2, 3) if transposed else seen
        return viewed


def _words(seed: int, epoch: int, indices: NDArray[np.integer[Any]]) -> NDArray[np.uint64]:
    """Return 64 random bits for each index, (n,), the same whichever other indices are asked for.

    Outputs of SplitMix64, each of which can be computed without those before it (Steele, Lea and Flood, "Fast
    splittable pseudorandom number generators", OOPSLA 2014), from a start drawn for the seed and the epoch.
    """
    start = random.generator(seed, "augmentation", epoch).integers(2**64, size=1, dtype=np.uint64)
    z: NDArray[np.uint64] = start + (indices.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _below(bound: int, bits: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Turn the lowest 16 bits into integers from 0 to below ``bound``."""
    return (((bits & np.uint64(0xFFFF)) * np.uint64(bound)) >> np.uint64(16)).astype(np.int64)


def _shift(size: tuple[int, int], seed: int, epoch: int, indices: Indices) -> NDArray[np.int32]:
    return _shifts(_words(seed, epoch, indices), max(1, size[0] // 12), max(1, size[1] // 12))


def _light(size: tuple[int, int], seed: int, epoch: int, indices: Indices) -> NDArray[np.int32]:
    words = _words(seed, epoch, indices)
    transforms = _shifts(words, size[0] // 16, size[1] // 16)
    transforms[:, 2] = words >> np.uint64(63)
    return transforms


def _shifts(words: NDArray[np.uint64], most_down: int, most_right: int) -> NDArray[np.int32]:
    transforms = np.zeros((len(words), 5), np.int32)
    transforms[:, 3] = _below(2 * most_down + 1, words) - most_down
    transforms[:, 4] = _below(2 * most_right + 1, words >> np.uint64(16)) - most_right
    return transforms


def _flips(size: tuple[int, int]) -> list[View]:
    return [(0, 0, 0), (0, 0, 1)]


def _symmetries(size: tuple[int, int]) -> list[View]:
    # A transposition and two flips make each of the eight symmetries of a square once.
    return [(t, r, c) for t in ((0, 1) if size[0] == size[1] else (0,)) for c in (0, 1) for r in (0, 1)]


def _contrast_brightness(seed: int, epoch: int, indices: Indices) -> NDArray[np.float32]:
    words = _words(seed, epoch, indices)
    drawn = np.stack([words >> np.uint64(16), words >> np.uint64(32)], axis=1) & np.uint64(0xFFFF)
    changes: NDArray[np.float32] = drawn.astype(np.float32) * np.float32(2 * MAX_CHANGE / 65535)
    return changes - np.float32(MAX_CHANGE)
