"""Values of more than 8 bits: the range that a set of pictures uses, and its mapping to bytes."""

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
#: Of 256 levels, fewer than these are too few to be used by a whole set.
_FEW_LEVELS = 64
_LEVEL_OF_16_BITS = 257
#: A picture of which more is outside the range is clipped heavily.
MOST_CLIPPED = 0.05


def measure_range(paths: Sequence[Source], decoding: Decoding, threads: int | None = None) -> Decoding:
    """Return a decoding with the range of values that pictures use once they are brought to its size.

    paths: of the pictures to train on. Those of 8 bits need no range: where all are, the decoding comes back as it is.
    threads: how many decode; None: as many as this process may use cores.

    Raises :class:`~xpcnn.data.UndecodableImage` for one that cannot be read, ValueError where those of 8 bits are among
    others whose values are not spread over 16 bits.
    """
    facts = []
    with closing(read_images(paths, decoding, threads=threads, raw=True)) as results:
        for result in results:
            if isinstance(result, UndecodableImage):
                raise result
            facts.append(result.facts)
    return with_range(decoding, facts)


def range_of(facts: Sequence[Facts], rows: NDArray[np.int64], decoding: Decoding) -> tuple[Range, ...]:
    """Return the least and the greatest value of those pictures: of each channel, or of all colours together.

    Raises ValueError where pictures of several depths are among them.
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
    """Raw pictures, float32 (n, channels, height, width), as bytes when they are taken."""

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
    """Return raw pictures as bytes: those in memory at once, those mapped from the disk when they are taken."""
    lazy = Scaled(raw, ranges)
    if isinstance(raw.base, np.memmap) or isinstance(raw, np.memmap):
        return lazy
    result = np.empty(raw.shape, np.uint8)
    step = max(1, _BLOCK * len(raw) // max(1, raw.size))
    for start in range(0, len(raw), step):
        result[start : start + step] = lazy[start : start + step]
    return result


def with_range(decoding: Decoding, facts: Sequence[Facts]) -> Decoding:
    """Return a decoding with the range that pictures use; as it is where they are of 8 bits, or it has one.

    Raises ValueError where pictures of 8 bits are among others whose values are not spread over 16 bits.
    """
    deep = [one for one in facts if one.is_deep]
    if decoding.range is not None or not deep:
        return decoding
    if len(deep) == len(facts):
        return replace(decoding, range=range_of(facts, np.arange(len(facts)), decoding))
    refuse_mixed(facts)
    return decoding


def refuse_mixed(facts: Sequence[Facts], all_deep: bool = False) -> None:
    """Raise ValueError where pictures are of several depths whose values have no common scale.

    all_deep: whether pictures of 8 bits may not be among others.
    """
    deep = [one for one in facts if one.is_deep]
    kinds = {one.dtype for one in deep}
    if len(kinds) > 1 and len(deep) == len(facts):
        told = ", ".join(f"{sum(one.dtype == kind for one in deep)} of {kind}" for kind in sorted(kinds))
        raise ValueError(
            f"The pictures are of several depths, {told}. Give the values that are black and white in all of them "
            "(--range LOW HIGH), or convert them to one depth."
        )
    if not deep or len(deep) == len(facts) or (kinds == {"uint16"} and not all_deep and not _few(deep)):
        return
    low, high = min(min(one.low) for one in deep), max(max(one.high) for one in deep)
    raise ValueError(
        f"{len(facts) - len(deep)} pictures are of 8 bits and {len(deep)} of {', '.join(sorted(kinds))}, with values "
        f"from {low:g} to {high:g}. Give the values that are black and white in all of them (--range LOW HIGH), or "
        "convert them to one depth."
    )


def check_depths(facts: Sequence[Facts], decoding: Decoding) -> None:
    """Raise what :func:`refuse_mixed` raises, and warn as :func:`warn_of_lost_values` does, of a set that is loaded."""
    if decoding.range is None and decoding.generation == LATEST:
        refuse_mixed(facts)
    warn_of_lost_values(facts, decoding)


def warn_of_lost_values(facts: Sequence[Facts], decoding: Decoding) -> None:
    """Warn in one line where a decoding clips many values of pictures, or leaves few of 256 levels."""
    deep = [one for one in facts if one.is_deep]
    clipped = [one.clipped for one in facts if one.clipped > MOST_CLIPPED]
    if decoding.range is None:
        if deep and _few(deep):
            high = max(max(one.high, default=0.0) for one in deep)
            _warn(
                f"{_pictures(len(deep))} of 16 bits hold values up to {high:g} only, which leaves {_levels(high)} of "
                f"256 levels. Train on such pictures, or give their decoding a range: (0, {high:g}), or "
                "data.measure_range."
            )
    elif clipped:
        _warn(
            f"{_pictures(len(clipped))} with many values outside the range that becomes 0 to 255, "
            f"{_told(decoding.ranges)}: {max(clipped):.0%} of one. Were they taken "
            "with other settings, or is the range too narrow?"
        )
    elif len(deep) < len(facts) and max(high - low for low, high in decoding.ranges or ()) > 4 * 255:
        _warn(
            f"{_pictures(len(facts) - len(deep))} of 8 bits among values of which {_told(decoding.ranges)} become 0 to "
            "255 are almost black. Give them as the microscope wrote them."
        )


def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=4)


def _pictures(count: int) -> str:
    return "1 picture" if count == 1 else f"{count} pictures"


def _told(ranges: Sequence[Range] | None) -> str:
    """Return a range in words, of several channels the widest.

    >>> _told([(0.0, 4095.0), (10.0, 200.0)])
    '0 to 4095'
    """
    ranges = ranges or ()
    return f"{min(low for low, _ in ranges):g} to {max(high for _, high in ranges):g}"


def _few(deep: Sequence[Facts]) -> bool:
    highs = [max(one.high) for one in deep if one.high and one.dtype == "uint16"]
    return bool(highs) and _levels(max(highs)) < _FEW_LEVELS


def _levels(high: float) -> int:
    return int(high / _LEVEL_OF_16_BITS) + 1
