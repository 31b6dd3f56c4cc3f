"""A cache of a folder's decoded images on disk, so that they need not be decoded again or held in memory."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xpcnn import files
from xpcnn.data import cache_file
from xpcnn.data.cache_file import Entry, Layout, Status, Stored
from xpcnn.data.decode import UndecodableImage
from xpcnn.data.decoding import Decoding
from xpcnn.data.names import below
from xpcnn.data.picture import Facts, Picture
from xpcnn.data.reading import read_images
from xpcnn.data.versions import versions

#: Must be increased whenever images are decoded or cached differently.
_FORMAT = 2
#: The coarsest file system clock (FAT), in nanoseconds: a younger file can change without its timestamps changing.
_CLOCK_STEP = 2 * 10**9
#: cv2.Error.StsNoMem, the code of an error that may not recur.
_OPENCV_OUT_OF_MEMORY = -4


@dataclass(frozen=True)
class CacheUse:
    """How a cache was used.

    path, bytes: its file and that file's size. reused: images taken from it. read: files that were decoded.
    is_anew: whether there was a cache of which nothing could be used, because of another version, reader or range.
    """

    path: Path
    bytes: int
    reused: int
    read: int
    is_anew: bool = False


class _Source(NamedTuple):
    """A file to read: its path, its name below the folder, its status, and whether a later change would be noticed."""

    path: Path
    name: str
    status: Status
    settled: bool


def load_cached(
    folder: Path,
    root: Path,
    paths: Sequence[Path],
    decoding: Decoding,
    *,
    strict: bool = False,
    threads: int | None = None,
    progress: bool = False,
    raw: bool = False,
) -> tuple[NDArray[Any], list[Facts | str], CacheUse]:
    """Return the images of ``paths``, cached in ``folder`` under the name of ``root``, and update the cache.

    Returns the images that could be read, uint8 or if ``raw`` float32 (n, channels, height, width), as a read-only
    memory map; for each path its facts, or the reason why it could not be read; and how the cache was used.

    Raises :class:`UndecodableImage` for the first file that cannot be read if ``strict``, and OSError if the cache
    cannot be written.
    """
    layout = Layout(np.dtype(np.float32 if raw else np.uint8), decoding.shape)
    place = {"folder": os.path.realpath(root), "decoding": decoding.to_json()}
    origin = {"format": _FORMAT, "readers": versions(), **place}
    cache = folder / f"{_name(root, decoding, raw)}.safetensors"
    sources = _sources(root, paths)
    with _in_one_line(cache), Stored(cache, origin, layout) as stored:
        known = {(entry.name, entry.status): entry for entry in stored.entries}
        found = [known.get((source.name, source.status)) for source in sources]
        if found == stored.entries:
            entries, images = stored.entries, stored.images()
            if strict:
                _refuse_bad(sources, entries)
        else:
            fresh = [source.path for source, entry in zip(sources, found, strict=True) if entry is None]
            files.make_private(cache.parent)  # since images may be
            if cache.exists() and not cache.is_file():
                raise FileExistsError(errno.EEXIST, "it is not a file")
            with (
                files.atomic_write(cache) as file,
                closing(read_images(fresh, decoding, threads=threads, progress=progress, raw=raw)) as results,
            ):
                contents = _contents(sources, found, stored, results, strict)
                entries = cache_file.write(file, origin, layout, contents)
                stored.close()  # Windows can't replace an open file
            images = _reopen(cache, origin, layout, entries)
        size = cache.stat().st_size
    reused = sum(entry is not None and entry.reason is None for entry in found)
    found_in = [entry.facts or entry.reason or "" for entry in entries]
    return images, found_in, CacheUse(cache, size, reused, found.count(None), stored.is_other)


def _name(root: Path, decoding: Decoding, raw: bool) -> str:
    """Return the file name of a cache; where an older version cached the same images, its name, to replace that."""
    place: dict[str, Any] = {"folder": os.path.realpath(root), "decoding": _kept(decoding)}
    more: dict[str, Any] = {
        "page": decoding.page,
        "as_channels": decoding.as_channels,
        "range": decoding.range,
        "raw": raw,
    }
    if more != {"page": 0, "as_channels": False, "range": None, "raw": False}:
        place |= more
    return hashlib.sha256(json.dumps(place).encode()).hexdigest()[:32]


def _kept(decoding: Decoding) -> dict[str, object]:
    return {name: getattr(decoding, name) for name in ("height", "width", "channels", "resizing")}


def _sources(root: Path, paths: Sequence[Path]) -> list[_Source]:
    now = time.time_ns()
    sources = []
    for path in paths:
        status = _status(path)
        settled = not any(0 <= now - changed < _CLOCK_STEP for changed in status[1:])
        sources.append(_Source(path, below(path, root), status, settled))
    return sources


def _status(path: Path) -> Status:
    """Return what changes when a file does, or the error number if it can't be inspected.

    That includes the inode's ctime (on Windows: creation), since `cp -p` and rsync can preserve size and mtime.
    """
    try:
        status = path.stat()
    except OSError as error:
        return (error.errno or 0,)
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _contents(
    sources: Sequence[_Source],
    found: Sequence[Entry | None],
    stored: Stored,
    results: Iterator[Picture | UndecodableImage],
    strict: bool,
) -> Iterator[tuple[Entry, bytes | None]]:
    """Yield the entry and the image of every source, copied from the old cache or else taken from ``results``."""
    for source, entry in zip(sources, found, strict=True):
        image: bytes | None = None
        if entry is None:
            result = next(results)
            # The status from before reading: a file that has changed since will differ the next time.
            status = source.status if source.settled and _is_lasting(source, result) else None
            if isinstance(result, UndecodableImage):
                entry = Entry(source.name, status, result.reason, None)
            else:
                entry, image = Entry(source.name, status, None, result.facts), result.image.tobytes()
        elif entry.reason is None:
            image = stored.image(entry.name)
        if strict:
            _refuse_bad([source], [entry])
        yield entry, image


def _is_lasting(source: _Source, result: Picture | UndecodableImage) -> bool:
    """Whether the result is due to the file itself, and not to a temporary failure."""
    cause = result.__cause__ if isinstance(result, UndecodableImage) else None
    if isinstance(cause, OSError):  # while reading: a failing disk, too many open files
        return len(source.status) == 1 or isinstance(cause, PermissionError)
    deepest = getattr(cause, "__cause__", None)
    return getattr(deepest, "code", None) != _OPENCV_OUT_OF_MEMORY and not isinstance(deepest, MemoryError)


def _refuse_bad(sources: Sequence[_Source], entries: Sequence[Entry]) -> None:
    for source, entry in zip(sources, entries, strict=True):
        if entry.reason is not None:
            raise UndecodableImage(source.path, entry.reason)


def _reopen(cache: Path, origin: object, layout: Layout, entries: Sequence[Entry]) -> NDArray[Any]:
    """Return the images of a cache just written; if two processes write at once, both get the later one's."""
    with Stored(cache, origin, layout) as stored:
        if [(entry.name, entry.reason) for entry in stored.entries] != [
            (entry.name, entry.reason) for entry in entries
        ]:
            raise OSError(errno.EBUSY, "another process has changed it: run again")
        return stored.images()


@contextmanager
def _in_one_line(cache: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OSError(
            f"The cache {str(cache)!r} cannot be used ({error.strerror or error}). Leave --cache out, or set "
            "XDG_CACHE_HOME to a writable folder with enough space."
        ) from error
