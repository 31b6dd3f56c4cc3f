"""A folder of class folders becomes a set of labelled images."""

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

from xpcnn.data.cache import CacheUse, default_folder, load_cached
from xpcnn.data.decode import UndecodableImage
from xpcnn.data.decoding import Decoding
from xpcnn.data.digests import as_array
from xpcnn.data.labelled import LabelledImages
from xpcnn.data.listing import class_files, count_endings, subfolders
from xpcnn.data.names import nfc
from xpcnn.data.picture import Facts
from xpcnn.data.ranges import check_depths
from xpcnn.data.reading import read_images

#: What the parts are called, in folders and tables.
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

    classes: the names of the class folders in natural order ("cell2" before "cell10"). paths: n files, by
    part and class, each in natural order. labels: int64 (n,), indices into ``classes``. parts: "train",
    "validation" or "test" for every file, or None where the folder has no such subfolders. root: the folder.
    groups: the name of the group of every file, such as its patient, or None. passed_over: how many files that are no
    images lie in class folders or beside them, by their ending in lower case, "" for none.
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

    A folder has parts of its own where ``train`` stands beside ``val`` (or ``valid``, ``validation``) or
    ``test``, in any case of letters; then each of them holds the class folders, the classes are those of
    ``train``, and other folders beside the parts are passed over.

    Images are the files with the extension of an image, hidden ones too, at any depth below their class
    folder; hidden folders are passed over and links to folders are not followed below a class folder. Other files are
    counted, but for those of the system, such as ``.DS_Store``.

    Names of classes are in Unicode's composed form (NFC): folders of one place that differ in that form alone, as
    between macOS and Linux, are one class. training: False where images are but measured: then one class is enough.

    Raises FileNotFoundError or NotADirectoryError for a folder that is none, and ValueError for one without
    two class folders, a class without images, or a class of the other parts that ``train`` does not have.
    """
    root = check_folder(folder, "Give a folder that holds one folder for each class.")
    part_folders = _part_folders(root)
    classes = tuple(_class_folders(part_folders.get("train", root)))
    if len(classes) < (2 if training else 1):
        found = f"only one class folder, {classes[0]!r}" if classes else "no class folder"
        raise ValueError(
            f"The folder {part_folders.get('train', root)} holds {found}. Give a folder that holds "
            f"{'two or more class folders' if training else 'class folders'} with images in them."
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
                    f"The class folder {folders[0]} has no counterpart in {part_folders['train']}. Received "
                    f"there: {', '.join(classes)}. Rename or remove the folder."
                )
            listed = [class_files(folder) for folder in folders]
            images = [image for found, _ in listed for image in found]
            if not images and part == "train":
                others = sum((others for _, others in listed), Counter())
                told = f" of a kind that is read, but {_endings(others)}" if others else ""
                raise ValueError(
                    f"The class folder {folders[0]} holds no image{told}. Put images into it or remove it."
                )
            paths += images
            labels += [classes.index(name)] * len(images)
            parts += [part] * len(images)
            passed_over += sum((others for _, others in listed), Counter())
    part_of = np.array(parts) if part_folders else None
    return ImageFolder(classes, paths, np.array(labels, dtype=np.int64), part_of, root, passed_over=passed_over)


def _endings(others: Counter[str]) -> str:
    return ", ".join(f"{count} {ending or 'without ending'}" for ending, count in others.most_common(4))


def check_folder(folder: str | os.PathLike[str], advice: str = "Give the folder of the images.") -> Path:
    """Return the path of a folder; FileNotFoundError or NotADirectoryError where there is none."""
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

    Files that cannot be read are left out and listed with the reason in ``skipped``; with ``strict`` the
    first one raises. threads: how many decode; None: as many as this process may use cores. progress: a bar
    on stderr, where that is a terminal.

    cache: the folder for a file that keeps the decoded images, so that the next time only files whose size or times
    have changed are decoded; True: the user's cache folder; None or False: no cache. With one the images stay on the
    disk: ``x`` is mapped from there, read-only, and memory does not grow with their number. raw: give values as they
    are in the files, float32, for :func:`xpcnn.data.ranges.scaled` to bring to bytes. training: as in :func:`scan`.

    Raises :class:`UndecodableImage` if ``strict``, ValueError if a class lost all its (training) images or images of 8
    bits and of more tell no common scale, and OSError where the cache cannot be written. Warns where the decoding's
    range clips many values, or leaves few of 256 levels.
    """
    if threads is not None and threads < 1:
        raise ValueError(f"One thread or more decode images. Received: threads={threads!r}.")
    paths, parts, groups = image_folder.paths, image_folder.parts, image_folder.groups
    use: CacheUse | None = None
    if cache is None or cache is False:
        x, found = _load_held(paths, decoding, strict=strict, threads=threads, progress=progress, raw=raw)
    else:
        place = default_folder() if cache is True else Path(cache)
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
    """Return :func:`load` of what :func:`scan` finds in a folder, and raise what they raise."""
    return load(scan(path), decoding, strict=strict, threads=threads, progress=progress, cache=cache)


def _class_folders(place: Path) -> dict[str, list[Path]]:
    """Return the folders of each class, in the order in which they lie there: one, or those that are called alike."""
    found: dict[str, list[Path]] = {}
    for path in subfolders(place):
        found.setdefault(nfc(path.name), []).append(path)
    return found


def _part_folders(root: Path) -> dict[str, Path]:
    """Return the folders of the parts, "train" first, or nothing if ``root`` has no parts."""
    found: dict[str, list[Path]] = {"train": [], "validation": [], "test": []}
    for path in subfolders(root):
        if path.name.casefold() in PART_NAMES:
            found[PART_NAMES[path.name.casefold()]].append(path)
    if not found["train"] or not (found["validation"] or found["test"]):
        return {}
    for part, places in found.items():
        if len(places) > 1:
            raise ValueError(
                f"The folder {root} holds more than one folder for the {part} part. Received: "
                f"{', '.join(path.name for path in places)}. Keep one of them."
            )
    return {part: places[0] for part, places in found.items() if places}


def _load_held(
    paths: Sequence[Path], decoding: Decoding, *, strict: bool, threads: int | None, progress: bool, raw: bool
) -> tuple[NDArray[Any], list[Facts | str]]:
    """Return the images that can be read, in memory, and for each path what was found, or why it cannot be read."""
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
            f"The images do not fit the memory. Received: {shape[0]} images of {shape[1]} x {shape[2]} x "
            f"{shape[3]} values. Choose a smaller image size."
        ) from error


def check_every_class(images: LabelledImages, training: bool = True) -> None:
    """Raise ValueError if no image is left, or a class has none left to train on, where that is to be done."""
    first = f" The first: {images.skipped[0][0]} ({images.skipped[0][1]})." if images.skipped else ""
    if len(images.y) == 0:
        raise ValueError(f"None of the {len(images.skipped)} image files could be read.{first}")
    if not training:
        return
    trained = images.y if images.parts is None else images.y[images.parts == "train"]
    for label, count in enumerate(np.bincount(trained, minlength=len(images.classes)).tolist()):
        if count == 0:
            raise ValueError(
                f"None of the training images of the class {images.classes[label]!r} could be read. Replace "
                f"them, or remove the class folder.{first}"
            )
