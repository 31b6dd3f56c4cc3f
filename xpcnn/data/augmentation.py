"""Images turned, flipped and shifted at random while a network trains, every draw keyed by the image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from xpcnn import draws

NAMES = ("none", "light", "microscopy")

#: Called with images (n, channels, h, w), the seed, the epoch and the images' indices in the set (n,).
Augmentation: TypeAlias = Callable[[NDArray[Any], int, int, NDArray[np.integer[Any]]], NDArray[Any]]


def augment(name: str) -> Augmentation | None:
    """Return the augmentation of that name, or None for "none".

    "light": left-right flips, and shifts by up to 1/16 of the side, the edge repeated. "microscopy": flips
    both ways and, where images are square, quarter turns. The result has the shape and dtype of the images
    and depends on the seed, the epoch and the image's index alone, not on the batch it is in.

    Raises ValueError for another name.

    >>> images = np.arange(4.0).reshape(1, 1, 2, 2)
    >>> sorted(augment("microscopy")(images, 0, 1, np.array([5])).ravel().tolist())
    [0.0, 1.0, 2.0, 3.0]
    """
    if name not in NAMES:
        raise ValueError(f"There is no augmentation {name!r}. Use one of: {', '.join(NAMES)}.")
    return {"none": None, "light": _light, "microscopy": _microscopy}[name]


def _words(seed: int, epoch: int, indices: NDArray[np.integer[Any]]) -> NDArray[np.uint64]:
    """Return 64 random bits for each index, (n,), the same whichever others are asked for.

    Number i of SplitMix64, which can be computed without those before it (Steele, Lea and Flood, "Fast
    splittable pseudorandom number generators", OOPSLA 2014), from a start that is drawn for the seed and the
    epoch.
    """
    start = draws.generator(seed, "augmentation", epoch).integers(2**64, size=1, dtype=np.uint64)
    z: NDArray[np.uint64] = start + (indices.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _below(bound: int, bits: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Turn the lowest 16 bits into whole numbers from 0 to below ``bound``."""
    return (((bits & np.uint64(0xFFFF)) * np.uint64(bound)) >> np.uint64(16)).astype(np.int64)


def _in_groups(
    images: NDArray[Any],
    codes: NDArray[np.int64],
    transform: Callable[[NDArray[np.int64], int], NDArray[Any]],
) -> NDArray[Any]:
    """Fill an array like ``images`` with transform(rows, code), once for all rows of the same code."""
    result = np.empty_like(images)
    for code in np.unique(codes).tolist():
        rows = np.flatnonzero(codes == code)
        result[rows] = transform(rows, code)
    return result


def _light(images: NDArray[Any], seed: int, epoch: int, indices: NDArray[np.integer[Any]]) -> NDArray[Any]:
    height, width = images.shape[2:]
    reach_down, reach_right = height // 16, width // 16
    downs, rights = 2 * reach_down + 1, 2 * reach_right + 1
    words = _words(seed, epoch, indices)
    down, right = _below(downs, words), _below(rights, words >> np.uint64(16))
    codes = ((words >> np.uint64(63)).astype(np.int64) * downs + down) * rights + right
    padding = ((0, 0), (0, 0), (reach_down, reach_down), (reach_right, reach_right))
    padded = np.pad(images, padding, mode="edge")

    def flip_and_shift(rows: NDArray[np.int64], code: int) -> NDArray[Any]:
        flip_and_down, right = divmod(code, rights)
        flip, down = divmod(flip_and_down, downs)
        shifted = padded[rows, :, down : down + height, right : right + width]
        return shifted[..., ::-1] if flip else shifted

    return _in_groups(images, codes, flip_and_shift)


def _microscopy(images: NDArray[Any], seed: int, epoch: int, indices: NDArray[np.integer[Any]]) -> NDArray[Any]:
    # Two flips and the swap of the axes make all eight ways to lay a square, each once.
    choices = 8 if images.shape[2] == images.shape[3] else 4

    def flip_and_turn(rows: NDArray[np.int64], code: int) -> NDArray[Any]:
        flipped = images[rows][:, :, :: -1 if code & 1 else 1, :: -1 if code & 2 else 1]
        return flipped.swapaxes(2, 3) if code & 4 else flipped

    return _in_groups(images, _below(choices, _words(seed, epoch, indices)), flip_and_turn)
