"""Decoding many image files in parallel, in order."""

from __future__ import annotations

import sys
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor

from xpcnn.data.decode import Source, UndecodableImage, read_picture
from xpcnn.data.decoding import Decoding
from xpcnn.data.picture import Picture
from xpcnn.processors import available_threads

_WINDOW = 512
_WINDOW_BYTES = 2**26


def read_images(
    sources: Sequence[Source],
    decoding: Decoding,
    *,
    threads: int | None = None,
    progress: bool = False,
    raw: bool = False,
) -> Generator[Picture | UndecodableImage, None, None]:
    """Yield every decoded image with its facts, or the reason why it cannot be read, in the order of ``sources``.

    threads: the number of decoding threads; None: as many as this process may use cores. progress: show a progress bar
    on stderr if that is a terminal. raw: as in :func:`xpcnn.data.decode.read_picture`.
    """

    from tqdm import tqdm  # here, so that who predicts arrays needs none

    def attempt(source: Source) -> Picture | UndecodableImage:
        try:
            return read_picture(source, decoding, raw)
        except UndecodableImage as error:
            return error

    threads = threads or available_threads()
    # One window at a time: decoded images wait in memory, and a folder can contain millions.
    few = _WINDOW_BYTES // (decoding.channels * decoding.height * decoding.width)
    window = min(_WINDOW, max(few, threads))
    with (
        ThreadPoolExecutor(threads) as pool,
        tqdm(
            total=len(sources),
            desc="Reading images",
            unit="image",
            file=sys.stderr,
            disable=None if progress else True,
        ) as bar,
    ):
        for start in range(0, len(sources), window):
            for result in pool.map(attempt, sources[start : start + window]):
                bar.update()
                yield result
