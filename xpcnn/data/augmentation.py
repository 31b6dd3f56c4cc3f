"""Images turned, flipped and shifted at random while a network trains, every draw keyed by the image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from xpcnn import draws

NAMES = ("none", "light", "microscopy")

#: Called with images (n, channels, h, w), the seed, the epoch and the images' indices in the set (n,).
Augmentation: TypeAlias = Callable[[NDArray[Any], int, int, NDArray[np.integer[Any]]], NDArray[Any]]
Indices: TypeAlias = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Placing:
    """An augmentation that lays images differently and makes no new pixels, so that any backend can do it.

    places: gives, for the images' (height, width), seed, epoch and indices (n,), an int32 array (n, 5): whether rows
    and columns are exchanged, whether each is then reversed, and by how many rows and columns the image is shifted,
    its edge repeated. Cell (r, c) of the result is the cell to which r and c are led by these, in this order.
    """

    places: Callable[[tuple[int, int], int, int, Indices], NDArray[np.int32]]

    def __call__(self, images: NDArray[Any], seed: int, epoch: int, indices: Indices) -> NDArray[Any]:
        """Return the images laid anew, once for all that are laid in the same way."""
        height, width = images.shape[2:]
        places = self.places((height, width), seed, epoch, indices)
        up_to, left_to = (int(np.abs(shift).max(initial=0)) for shift in (places[:, 3], places[:, 4]))
        padding = ((0, 0), (0, 0), (up_to, up_to), (left_to, left_to))
        padded = np.pad(images, padding, mode="edge") if up_to or left_to else images
        result = np.empty_like(images)
        codes = places @ np.array([1, 2, 4, 8, 8 * (2 * up_to + 1)])  # one number for all five, as they are below these
        for code in np.unique(codes):
            rows = np.flatnonzero(codes == code)
            exchanged, up, left, down, right = places[rows[0]].tolist()
            down, right = up_to + down, left_to + right
            laid = padded[rows, :, down : down + height, right : right + width]
            laid = laid[..., :: -1 if up else 1, :: -1 if left else 1]
            result[rows] = laid.swapaxes(2, 3) if exchanged else laid
        return result


def augment(name: str) -> Placing | None:
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
    return {"none": None, "light": Placing(_light), "microscopy": Placing(_microscopy)}[name]


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


def _light(size: tuple[int, int], seed: int, epoch: int, indices: Indices) -> NDArray[np.int32]:
    reach_down, reach_right = size[0] // 16, size[1] // 16
    words = _words(seed, epoch, indices)
    places = np.zeros((len(words), 5), np.int32)
    places[:, 2] = words >> np.uint64(63)
    places[:, 3] = _below(2 * reach_down + 1, words) - reach_down
    places[:, 4] = _below(2 * reach_right + 1, words >> np.uint64(16)) - reach_right
    return places


def _microscopy(size: tuple[int, int], seed: int, epoch: int, indices: Indices) -> NDArray[np.int32]:
    # Two flips and the exchange of the axes make all eight ways to lay a square, each once.
    code = _below(8 if size[0] == size[1] else 4, _words(seed, epoch, indices))
    places = np.zeros((len(code), 5), np.int32)
    places[:, 0], places[:, 1], places[:, 2] = code >> 2, code & 1, code >> 1 & 1
    return places
