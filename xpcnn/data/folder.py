"""A folder of class folders whose images are decoded on access."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpcnn.data.decode import UndecodableImage
from xpcnn.data.decoding import Decoding
from xpcnn.data.digests import as_array
from xpcnn.data.folders import ImageFolder, scan
from xpcnn.data.parallel_map import ParallelMap, serial_map
from xpcnn.data.picture import Facts
from xpcnn.data.ranges import check_depths
from xpcnn.data.reading import read_images

#: Files checked together.
_TOGETHER = 256


class Folder:
    """The images of a folder as an array that is decoded on access instead of held in memory, and their labels.

    path: a folder, or the files listed by :func:`xpcnn.data.scan` or :func:`xpcnn.data.from_table`. Indexing with a
    slice or integers (k,) decodes uint8 (k, channels, height, width); with one integer, one image. All files are
    decoded once at the start to find those that cannot be read: ``skipped`` lists them, each with the reason.
    y: int64 (n,), indices into ``classes``. paths: the file of every image. parts: "train", "validation" or "test" for
    every image, or None. groups: the name of the group of every image, or None. facts, digests: as in
    :class:`xpcnn.data.LabelledImages`. parallel_map(function, n): used for that first pass; returns [function(0), …,
    function(n - 1)]. raw: as in :func:`xpcnn.data.load`, for the first pass only; set the range of ``decoding``
    afterwards. ``load_folder(..., cache=True)`` decodes only once, at the cost of a file as large as the images.

    Raises the errors of :func:`xpcnn.data.scan`, ValueError if no image can be read, and :class:`UndecodableImage` on
    access to an image that can no longer be read.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(
        self,
        path: str | os.PathLike[str] | ImageFolder,
        decoding: Decoding,
        threads: int | None = None,
        parallel_map: ParallelMap = serial_map,
        raw: bool = False,
    ) -> None:
        found = path if isinstance(path, ImageFolder) else scan(path)
        self.decoding = decoding
        self.classes = found.classes
        self._threads = threads

        def look(number: int) -> list[Facts | str]:
            paths = found.paths[number * _TOGETHER : (number + 1) * _TOGETHER]
            with closing(read_images(paths, decoding, threads=threads, raw=raw)) as results:
                return [result.reason if isinstance(result, UndecodableImage) else result.facts for result in results]

        looks = parallel_map(look, -(-len(found.paths) // _TOGETHER))
        seen = [one for some in looks for one in some]
        self.skipped = [(path, one) for path, one in zip(found.paths, seen, strict=True) if isinstance(one, str)]
        kept = [row for row, one in enumerate(seen) if not isinstance(one, str)]
        if not kept:
            raise ValueError(f"None of the {len(found.paths)} image files of {found.root} could be read.")
        rows = np.array(kept, dtype=np.int64)
        self.paths = [found.paths[row] for row in kept]
        self.facts = [one for one in seen if not isinstance(one, str)]
        if not raw:
            check_depths(self.facts, decoding)
        self.digests = as_array(one.digest for one in self.facts)
        self.y: NDArray[np.int64] = found.labels[rows]
        self.parts = None if found.parts is None else found.parts[rows]
        self.groups = None if found.groups is None else [found.groups[row] for row in kept]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(images, channels, height, width)."""
        return (len(self.paths), self.decoding.channels, self.decoding.height, self.decoding.width)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, rows: int | slice | NDArray[np.integer[Any]] | Sequence[int]) -> NDArray[np.uint8]:
        numbers = np.arange(len(self))[rows]
        if numbers.ndim == 0:
            return np.asarray(self[[int(numbers)]][0])
        images = np.empty((len(numbers), *self.shape[1:]), np.uint8)
        paths = [self.paths[number] for number in numbers.tolist()]
        with closing(read_images(paths, self.decoding, threads=self._threads)) as results:
            for row, result in enumerate(results):
                if isinstance(result, UndecodableImage):
                    raise result
                images[row] = result.image
        return images
