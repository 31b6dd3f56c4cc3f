"""Loading labelled images from a folder of class folders."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpcnn import files
from xpcnn.data.cache import CacheUse, load_cached
from xpcnn.data.decode import UndecodableImage
from xpcnn.data.decoding import Decoding
from xpcnn.data.digests import as_array
from xpcnn.data.labelled import LabelledImages
from xpcnn.data.labels import counts
from xpcnn.data.listing import class_files, count_endings, subfolders
from xpcnn.data.names import nfc
from xpcnn.data.picture import Facts
from xpcnn.data.ranges import check_depths
from xpcnn.data.reading import read_images

#: The names that the parts may have, in folders and tables.
PART_NAMES = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}


@dataclass(frozen=True, eq=False)
class ImageFolder:
    """The image files of a folder, none of them opened yet.

    classes: the names of the class folders in natural order ("cell2" before "cell10"). paths: n files, by part and
    class, each in natural order. labels: int64 (n,), indices into ``classes``, or (n, classes) of 0 and 1 if an image
    may have several, see :func:`xpcnn.data.from_table`. parts: "train", "validation" or "test"
    for every file, or None if the folder has no such subfolders. root: the folder. groups: the name of the group of
    every file, such as its patient, or None. passed_over: the number of files in or beside class folders that are not
    images, by lower-case extension, "" for none.
    """

    classes: tuple[str, ...]
    paths: list[Path]
    labels: NDArray[np.int64]
    parts: NDArray[np.str_] | None
    root: Path
    groups: list[str] | None = None
    passed_over: Counter[str] = field(default_factory=Counter)


def scan(folder: str | os.PathLike[str], training: bool = True) -> ImageFolder:
    """List the images of a folder of class folders.

    A folder has its own parts if it contains ``train`` beside ``val`` (or ``valid``, ``validation``) or ``test``, in
    upper or lower case. Each of these then contains class folders, the classes are those of ``train``, and any other
    folders beside them are ignored.

    Images are files with an image's extension, hidden ones included, at any depth below their class folder. Hidden
    folders are ignored, and links to folders are not followed below a class folder. Other files are counted, except
    system files such as ``.DS_Store``.

    Class names are in Unicode's composed form (NFC): folders whose names differ only in that form, as between macOS and
    Linux, are one class. training: False if the images are only evaluated; one class is then enough.

    Raises FileNotFoundError or NotADirectoryError if ``folder`` is not a folder, and ValueError if it has fewer than
    two class folders, a class without images, or a class in another part that ``train`` lacks.
    """
    root = check_folder(folder, "Give a folder that contains one folder per class.")
    part_folders = _part_folders(root)
    classes = tuple(_class_folders(part_folders.get("train", root)))
    if len(classes) < (2 if training else 1):
        found = f"only one class folder, {classes[0]!r}" if classes else "no class folder"
        raise ValueError(
            f"The folder {part_folders.get('train', root)} contains {found}. Give a folder that contains "
            f"{'at least two class folders' if training else 'class folders'} with images in them."
        )
    paths: list[Path] = []
    labels: list[int] = []
    parts: list[str] = []
    passed_over: Counter[str] = Counter()
    for part, place in (part_folders or {"train": root}).items():
        passed_over += count_endings(path.name for path in place.iterdir() if path.is_file())
        for name, folders in _class_folders(place).items():
            if name not in classes:
                raise ValueError(
                    f"The class folder {folders[0]} has no counterpart in {part_folders['train']}, which has "
                    f"{', '.join(classes)}. Rename or remove the folder."
                )
            listed = [class_files(folder) for folder in folders]
            images = [image for found, _ in listed for image in found]
            if not images and part == "train":
                others = sum((others for _, others in listed), Counter())
                told = f" of a supported format, only {_endings(others)}" if others else ""
                raise ValueError(
                    f"The class folder {folders[0]} contains no image{told}. Add images to it or remove it."
                )
            paths += images
            labels += [classes.index(name)] * len(images)
            parts += [part] * len(images)
            passed_over += sum((others for _, others in listed), Counter())
    part_of = np.array(parts) if part_folders else None
    return ImageFolder(classes, paths, np.array(labels, dtype=np.int64), part_of, root, passed_over=passed_over)


def _endings(others: Counter[str]) -> str:
    return ", ".join(f"{count} {ending or 'without extension'}" for ending, count in others.most_common(4))


def check_folder(folder: str | os.PathLike[str], advice: str = "Give the folder that contains the images.") -> Path:
    """Return the path of a folder; raises FileNotFoundError or NotADirectoryError if it is not one."""
    root = Path(folder)
    if not root.exists():
        raise FileNotFoundError(f"There is no folder {root}. {advice}")
    if not root.is_dir():
        raise NotADirectoryError(f"{root} is not a folder. {advice}")
    return root


def load(
    image_folder: ImageFolder,
    decoding: Decoding,
    *,
    strict: bool = False,
    threads: int | None = None,
    progress: bool = False,
    cache: bool | str | os.PathLike[str] | None = None,
    raw: bool = False,
    training: bool = True,
) -> LabelledImages:
    """Decode the images of a folder on several threads into one uint8 array, in the order of ``paths``.

    Files that cannot be read are skipped and listed with the reason in ``skipped``; with ``strict`` the first one
    raises. threads: the number of decoding threads; None: as many as this process may use cores. progress: show a
    progress bar on stderr if that is a terminal.

    cache: the folder for a file of decoded images, so that the next time only files whose size or timestamps have
    changed are decoded; True: the user's cache folder; None or False: no cache. With a cache the images stay on disk:
    ``x`` is a read-only memory map, so memory does not grow with their number. raw: return the values of the files as
    float32, for :func:`xpcnn.data.ranges.scaled` to convert to bytes. training: as in :func:`scan`.

    Raises :class:`UndecodableImage` if ``strict``, ValueError if a class has lost all its (training) images or if 8-bit
    and deeper images have no common scale, and OSError if the cache cannot be written. Warns if the decoding's range
    clips many values or leaves few of 256 levels.
    """
    if threads is not None and threads < 1:
        raise ValueError(f"threads must be at least 1. Received: threads={threads!r}.")
    paths, parts, groups = image_folder.paths, image_folder.parts, image_folder.groups
    use: CacheUse | None = None
    if cache is None or cache is False:
        x, found = _load_held(paths, decoding, strict=strict, threads=threads, progress=progress, raw=raw)
    else:
        place = files.user_cache() if cache is True else Path(cache)
        x, found, use = load_cached(
            place, image_folder.root, paths, decoding, strict=strict, threads=threads, progress=progress, raw=raw
        )
    rows = np.array([row for row, one in enumerate(found) if isinstance(one, Facts)], dtype=np.int64)
    facts = [one for one in found if isinstance(one, Facts)]
    labelled = LabelledImages(
        x=x,
        y=image_folder.labels[rows],
        classes=image_folder.classes,
        paths=[paths[row] for row in rows.tolist()],
        skipped=[(path, one) for path, one in zip(paths, found, strict=True) if isinstance(one, str)],
        parts=None if parts is None else parts[rows],
        cache=use,
        digests=as_array(one.digest for one in facts),
        facts=facts,
        groups=None if groups is None else [groups[row] for row in rows.tolist()],
        passed_over=image_folder.passed_over,
    )
    check_every_class(labelled, training)
    if not raw:
        check_depths(facts, decoding)
    return labelled


def load_folder(
    path: str | os.PathLike[str],
    decoding: Decoding,
    *,
    strict: bool = False,
    threads: int | None = None,
    progress: bool = False,
    cache: bool | str | os.PathLike[str] | None = None,
) -> LabelledImages:
    """Scan a folder and load its images: :func:`load` of :func:`scan`."""
    return load(scan(path), decoding, strict=strict, threads=threads, progress=progress, cache=cache)


def _class_folders(place: Path) -> dict[str, list[Path]]:
    """Return the folders of each class in natural order; a class has several if their names differ only in form."""
    found: dict[str, list[Path]] = {}
    for path in subfolders(place):
        found.setdefault(nfc(path.name), []).append(path)
    return found


def _part_folders(root: Path) -> dict[str, Path]:
    """Return the folders of the parts, "train" first, or {} if ``root`` has no parts."""
    found: dict[str, list[Path]] = {"train": [], "validation": [], "test": []}
    for path in subfolders(root):
        if path.name.casefold() in PART_NAMES:
            found[PART_NAMES[path.name.casefold()]].append(path)
    if not found["train"] or not (found["validation"] or found["test"]):
        return {}
    for part, places in found.items():
        if len(places) > 1:
            raise ValueError(
                f"The folder {root} contains more than one folder for the {part} part: "
                f"{', '.join(path.name for path in places)}. Keep one of them."
            )
    return {part: places[0] for part, places in found.items() if places}


def _load_held(
    paths: Sequence[Path], decoding: Decoding, *, strict: bool, threads: int | None, progress: bool, raw: bool
) -> tuple[NDArray[Any], list[Facts | str]]:
    """Return the readable images, in memory, and for each path its facts or the reason why it cannot be read."""
    x = _allocate((len(paths), *decoding.shape), np.float32 if raw else np.uint8)
    found: list[Facts | str] = []
    count = 0
    with closing(read_images(paths, decoding, threads=threads, progress=progress, raw=raw)) as results:
        for result in results:
            if isinstance(result, UndecodableImage):
                if strict:
                    raise result
                found.append(result.reason)
            else:
                x[count] = result.image
                found.append(result.facts)
                count += 1
    return x[:count], found


def _allocate(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    try:
        return np.empty(shape, dtype=dtype)
    except (MemoryError, ValueError) as error:
        raise MemoryError(
            f"The images do not fit into memory. Received: {shape[0]} images of {shape[1]} x {shape[2]} x "
            f"{shape[3]} values. Choose a smaller image size."
        ) from error


def check_every_class(images: LabelledImages, training: bool = True) -> None:
    """Raise ValueError if no images are left, or, for training, if a class has no training images left."""
    first = f" The first: {images.skipped[0][0]} ({images.skipped[0][1]})." if images.skipped else ""
    if len(images.y) == 0:
        raise ValueError(f"None of the {len(images.skipped)} image files could be read.{first}")
    if not training:
        return
    trained = images.y if images.parts is None else images.y[images.parts == "train"]
    for label, count in enumerate(counts(trained, len(images.classes)).tolist()):
        if count == 0:
            raise ValueError(
                f"None of the training images of the class {images.classes[label]!r} could be read. Replace "
                f"them, or remove the class folder.{first}"
            )
