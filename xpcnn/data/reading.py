"""Many image files decoded at once, in their order."""

from __future__ import annotations

import sys
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from xpcnn.data.decode import Decoding, UndecodableImage, read_image
from xpcnn.processors import available_threads

_WINDOW = 512
_WINDOW_BYTES = 2**26


def read_images(
    paths: Sequence[Path], decoding: Decoding, *, threads: int | None = None, progress: bool = False
) -> Generator[NDArray[np.uint8] | UndecodableImage, None, None]:
    """Yield every image decoded, uint8 (channels, height, width), or the reason why it cannot be, in the order of
    ``paths``.

    threads: how many decode; None: as many as this process may use cores. progress: a bar on stderr, where that is
    a terminal.
    """

    def attempt(path: Path) -> NDArray[np.uint8] | UndecodableImage:
        try:
            return read_image(path, decoding)
        except UndecodableImage as error:
            return error

    threads = threads or available_threads()
    # A window at a time: decoded images wait in memory for their turn, and a folder can hold millions.
    few = _WINDOW_BYTES // (decoding.channels * decoding.height * decoding.width)
    window = min(_WINDOW, max(few, threads))
    with (
        ThreadPoolExecutor(threads) as pool,
        tqdm(
            total=len(paths),
            desc="Reading images",
            unit="image",
            file=sys.stderr,
            disable=None if progress else True,
        ) as bar,
    ):
        for start in range(0, len(paths), window):
            for result in pool.map(attempt, paths[start : start + window]):
                bar.update()
                yield result
