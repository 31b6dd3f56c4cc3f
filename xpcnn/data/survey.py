"""A survey of some of a dataset's images, whose sizes, channels and depth determine how all are decoded."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from xpcnn.data.decode import UndecodableImage, open_picture
from xpcnn.data.pixels import Kind, Page
from xpcnn.processors import available_threads

#: Images to look at: enough for a median, and quick even for large ones.
_LOOKED_AT = 32
#: The smallest and the largest side that is chosen.
LEAST_SIDE, GREATEST_SIDE = 8, 64


class Look(NamedTuple):
    """The properties of one image; samples: its channels, without transparency."""

    height: int
    width: int
    samples: int
    kind: Kind
    dtype: str


def look(paths: Sequence[Path], page: Page = 0, as_channels: bool = False, threads: int | None = None) -> list[Look]:
    """Return the properties of some images, taken at regular intervals from ``paths``, without unreadable ones."""
    interval = max(1, len(paths) // _LOOKED_AT)

    def see(path: Path) -> Look | None:
        try:
            pixels = open_picture(path, page, as_channels)
        except UndecodableImage:
            return None
        height, width, samples = pixels.values.shape
        transparent = pixels.alpha and not as_channels
        return Look(height, width, samples - transparent, pixels.kind, pixels.values.dtype.name)

    with ThreadPoolExecutor(threads or available_threads()) as pool:
        return [one for one in pool.map(see, paths[::interval]) if one is not None]


def side(looks: Sequence[Look]) -> int:
    """Return the side, in pixels, to resize images of these sizes to: at least half of them are not shrunk.

    >>> side([Look(28, 20, 1, "grey", "uint8")]), side([Look(2048, 2048, 1, "grey", "uint16")])
    (28, 64)
    """
    longest = [max(one.height, one.width) for one in looks] or [GREATEST_SIDE]
    return min(GREATEST_SIDE, max(LEAST_SIDE, round(statistics.median(longest))))
