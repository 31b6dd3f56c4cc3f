"""Images turned, flipped and shifted at random while a network trains, every draw keyed by the image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from xpcnn import draws
from xpcnn.data.tones import toned

NAMES = ("none", "shift", "light", "microscopy")

#: Called with images (n, channels, h, w), the seed, the epoch and the images' indices in the set (n,).
Augmentation: TypeAlias = Callable[[NDArray[Any], int, int, NDArray[np.integer[Any]]], NDArray[Any]]
#: How an image is laid: whether its axes are exchanged, then its rows reversed, and its columns.
Way: TypeAlias = tuple[int, int, int]
#: How much contrast and brightness change at most, as a part of an image's own.
MOST_TONE = 0.1
Indices: TypeAlias = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Placing:
    """An augmentation that lays images differently and makes no new pixels, so that any backend can do it.

    places: gives, for the images' (height, width), seed, epoch and indices (n,), an int32 array (n, 5): whether rows
    and columns are exchanged, whether each is then reversed, and by how many rows and columns the image is shifted,
    its edge repeated. Cell (r, c) of the result is the cell to which r and c are led by these, in this order.
    tones: gives, for seed, epoch and indices, a float32 array (n, 2) that changes contrast and brightness as
    :func:`xpcnn.data.tones.toned` does, or None to leave both.
    """

    places: Callable[[tuple[int, int], int, int, Indices], NDArray[np.int32]]
    tones: Callable[[int, int, Indices], NDArray[np.float32]] | None = None

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
        return result if self.tones is None else toned(np, result, self.tones(seed, epoch, indices))


def augment(name: str) -> Placing | None:
    """Return the augmentation of that name, or None for "none".

    "shift": shifts by up to 1/12 of the side, one pixel at least, the edge repeated. "light": left-right flips, and
    shifts by up to 1/16. "microscopy": flips both ways and, where images are square, quarter turns, and contrast and
    brightness up to a tenth more or less. The result has the shape and dtype of the images and depends on the seed, the
    epoch and the image's index alone, not on the batch it is in.

    Raises ValueError for another name.

    >>> images = np.arange(64.0).reshape(1, 1, 8, 8)
    >>> augment("shift")(images, 0, 1, np.array([5])).shape
    (1, 1, 8, 8)
    """
    if name not in NAMES:
        raise ValueError(f"There is no augmentation {name!r}. Use one of: {', '.join(NAMES)}.")
    return {
        "none": None,
        "shift": Placing(_shift),
        "light": Placing(_light),
        "microscopy": Placing(_microscopy, _tones),
    }[name]


def ways(name: str, size: tuple[int, int]) -> list[Way]:
    """Return the ways in which an augmentation may lay an image of (height, width), shifts left out.

    Each is whether the axes are exchanged, rows reversed, columns reversed; the first is the image as it is.

    Raises what :func:`augment` raises.

    >>> ways("light", (8, 8))
    [(0, 0, 0), (0, 0, 1)]
    """
    if augment(name) is None or name == "shift":
        return [(0, 0, 0)]
    if name == "light":
        return [(0, 0, 0), (0, 0, 1)]
    return [(e, r, c) for e in ((0, 1) if size[0] == size[1] else (0,)) for r in (0, 1) for c in (0, 1)]


@dataclass(frozen=True, eq=False)
class Laid:
    """Images that are all laid in one of the :func:`ways` when they are taken.

    images: (n, channels, height, width), any array that takes rows.
    """

    images: Any
    way: Way

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, channels, height, width)."""
        return tuple(self.images.shape)

    @property
    def dtype(self) -> Any:
        """That of the images."""
        return self.images.dtype

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        exchanged, up, left = self.way
        laid = np.asarray(self.images[rows])[..., :: -1 if up else 1, :: -1 if left else 1]
        return np.ascontiguousarray(laid.swapaxes(2, 3) if exchanged else laid)


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


def _shift(size: tuple[int, int], seed: int, epoch: int, indices: Indices) -> NDArray[np.int32]:
    return _shifted(_words(seed, epoch, indices), max(1, size[0] // 12), max(1, size[1] // 12))


def _light(size: tuple[int, int], seed: int, epoch: int, indices: Indices) -> NDArray[np.int32]:
    words = _words(seed, epoch, indices)
    places = _shifted(words, size[0] // 16, size[1] // 16)
    places[:, 2] = words >> np.uint64(63)
    return places


def _shifted(words: NDArray[np.uint64], reach_down: int, reach_right: int) -> NDArray[np.int32]:
    places = np.zeros((len(words), 5), np.int32)
    places[:, 3] = _below(2 * reach_down + 1, words) - reach_down
    places[:, 4] = _below(2 * reach_right + 1, words >> np.uint64(16)) - reach_right
    return places


def _microscopy(size: tuple[int, int], seed: int, epoch: int, indices: Indices) -> NDArray[np.int32]:
    # Two flips and the exchange of the axes make all eight ways to lay a square, each once.
    code = _below(8 if size[0] == size[1] else 4, _words(seed, epoch, indices))
    places = np.zeros((len(code), 5), np.int32)
    places[:, 0], places[:, 1], places[:, 2] = code >> 2, code & 1, code >> 1 & 1
    return places


def _tones(seed: int, epoch: int, indices: Indices) -> NDArray[np.float32]:
    words = _words(seed, epoch, indices)
    drawn = np.stack([words >> np.uint64(16), words >> np.uint64(32)], axis=1) & np.uint64(0xFFFF)
    change: NDArray[np.float32] = drawn.astype(np.float32) * np.float32(2 * MOST_TONE / 65535) - np.float32(MOST_TONE)
    return change
