"""Images of more than 8 bits: the range of values that a dataset uses, and its mapping to bytes."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpcnn.data.decode import Source, UndecodableImage
from xpcnn.data.decoding import LATEST, Decoding, Range
from xpcnn.data.picture import Facts, map_to_bytes
from xpcnn.data.reading import read_images

#: Values mapped together.
_BLOCK = 2**22
#: Fewer levels than this, of 256, are too few for a whole dataset.
_FEW_LEVELS = 64
_LEVEL_OF_16_BITS = 257
#: An image with a larger fraction of values outside the range is heavily clipped.
MOST_CLIPPED = 0.05


def measure_range(paths: Sequence[Source], decoding: Decoding, threads: int | None = None) -> Decoding:
    """Return a decoding with the range of values that images use after resizing.

    paths: the training images. 8-bit images need no range: if all images are 8-bit, the decoding is returned unchanged.
    threads: the number of decoding threads; None: as many as this process may use cores.

    Raises :class:`~xpcnn.data.UndecodableImage` for an image that cannot be read, and ValueError if 8-bit images are
    mixed with images that do not use the full 16-bit range.
    """
    facts = []
    with closing(read_images(paths, decoding, threads=threads, raw=True)) as results:
        for result in results:
            if isinstance(result, UndecodableImage):
                raise result
            facts.append(result.facts)
    return with_range(decoding, facts)


def range_of(facts: Sequence[Facts], rows: NDArray[np.int64], decoding: Decoding) -> tuple[Range, ...]:
    """Return the minimum and maximum of the chosen images' values: per channel, or over all colours together.

    Raises ValueError if the images have different depths.
    """
    refuse_mixed(facts, all_deep=True)
    some = [facts[row] for row in rows.tolist()]
    low = np.array([one.low for one in some]).min(axis=0)
    high = np.array([one.high for one in some]).max(axis=0)
    if not decoding.as_channels:
        low, high = np.full_like(low, low.min()), np.full_like(high, high.max())
    high = np.where(high > low, high, low + 1)
    return tuple(zip(low.tolist(), high.tolist(), strict=True))


class Scaled:
    """Raw images, float32 (n, channels, height, width), converted to bytes on access."""

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, raw: NDArray[Any], ranges: tuple[Range, ...]) -> None:
        self._raw = raw
        self._ranges = ranges

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, channels, height, width)."""
        return self._raw.shape

    def __len__(self) -> int:
        return len(self._raw)

    def __getitem__(self, rows: Any) -> NDArray[np.uint8]:
        values = np.asarray(self._raw[rows])
        return np.ascontiguousarray(np.moveaxis(map_to_bytes(np.moveaxis(values, -3, -1), self._ranges), -1, -3))


def scaled(raw: NDArray[Any], ranges: tuple[Range, ...]) -> Any:
    """Return raw images as bytes: images in memory are converted at once, memory-mapped ones on access."""
    lazy = Scaled(raw, ranges)
    if isinstance(raw.base, np.memmap) or isinstance(raw, np.memmap):
        return lazy
    result = np.empty(raw.shape, np.uint8)
    block_size = max(1, _BLOCK * len(raw) // max(1, raw.size))
    for start in range(0, len(raw), block_size):
        result[start : start + block_size] = lazy[start : start + block_size]
    return result


def with_range(decoding: Decoding, facts: Sequence[Facts]) -> Decoding:
    """Return a decoding with the range that images use, or unchanged if they are 8-bit or it already has a range.

    Raises ValueError if 8-bit images are mixed with images that do not use the full 16-bit range.
    """
    deep = [one for one in facts if one.is_deep]
    if decoding.range is not None or not deep:
        return decoding
    if len(deep) == len(facts):
        return replace(decoding, range=range_of(facts, np.arange(len(facts)), decoding))
    refuse_mixed(facts)
    return decoding


def refuse_mixed(facts: Sequence[Facts], all_deep: bool = False) -> None:
    """Raise ValueError if images have different depths without a common scale.

    all_deep: refuse any mix with 8-bit images.
    """
    deep = [one for one in facts if one.is_deep]
    kinds = {one.dtype for one in deep}
    if len(kinds) > 1 and len(deep) == len(facts):
        told = ", ".join(f"{sum(one.dtype == kind for one in deep)} of {kind}" for kind in sorted(kinds))
        raise ValueError(
            f"The images have different depths, {told}. Give the values that are black and white in all of them "
            "(--range LOW HIGH), or convert them to one depth."
        )
    if not deep or len(deep) == len(facts) or (kinds == {"uint16"} and not all_deep and not _few(deep)):
        return
    low, high = min(min(one.low) for one in deep), max(max(one.high) for one in deep)
    raise ValueError(
        f"{len(facts) - len(deep)} images are 8-bit and {len(deep)} are {', '.join(sorted(kinds))}, with values "
        f"from {low:g} to {high:g}. Give the values that are black and white in all of them (--range LOW HIGH), or "
        "convert them to one depth."
    )


def check_depths(facts: Sequence[Facts], decoding: Decoding) -> None:
    """Check a loaded dataset: raise like :func:`refuse_mixed` and warn like :func:`warn_of_lost_values`."""
    if decoding.range is None and decoding.generation == LATEST:
        refuse_mixed(facts)
    warn_of_lost_values(facts, decoding)


def warn_of_lost_values(facts: Sequence[Facts], decoding: Decoding) -> None:
    """Warn in one line if a decoding clips many values, or leaves few of 256 levels."""
    deep = [one for one in facts if one.is_deep]
    clipped = [one.clipped for one in facts if one.clipped > MOST_CLIPPED]
    if decoding.range is None:
        if deep and _few(deep):
            high = max(max(one.high, default=0.0) for one in deep)
            _warn(
                f"{_images(len(deep))} of 16 bits with values only up to {high:g}, which leaves {_levels(high)} of "
                f"256 levels. Train on such images, or give their decoding a range: (0, {high:g}), or "
                "data.measure_range."
            )
    elif clipped:
        _warn(
            f"{_images(len(clipped))} with many values outside the range {_in_words(decoding.ranges)} that becomes 0 "
            f"to 255, up to {max(clipped):.0%} of an image. Were they taken with other settings, or is the range too "
            "narrow?"
        )
    elif len(deep) < len(facts) and max(high - low for low, high in decoding.ranges or ()) > 4 * 255:
        _warn(
            f"{_images(len(facts) - len(deep))} of 8 bits will be almost black, since {_in_words(decoding.ranges)} "
            "become 0 to 255. Use the files that the microscope wrote."
        )


def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=4)


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"


def _in_words(ranges: Sequence[Range] | None) -> str:
    """Return a range in words; for several channels, one that includes all of theirs.

    >>> _in_words([(0.0, 4095.0), (10.0, 200.0)])
    '0 to 4095'
    """
    ranges = ranges or ()
    return f"{min(low for low, _ in ranges):g} to {max(high for _, high in ranges):g}"


def _few(deep: Sequence[Facts]) -> bool:
    highs = [max(one.high) for one in deep if one.high and one.dtype == "uint16"]
    return bool(highs) and _levels(max(highs)) < _FEW_LEVELS


def _levels(high: float) -> int:
    return int(high / _LEVEL_OF_16_BITS) + 1
