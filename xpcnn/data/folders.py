"""A folder of class folders becomes a set of labelled images."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from xpcnn.data.decode import Decoding, UndecodableImage, read_image
from xpcnn.data.labelled import LabelledImages
from xpcnn.data.listing import image_files, subfolders

_PART_OF_FOLDER = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}
_WINDOW = 512


@dataclass(frozen=True, eq=False)
class ImageFolder:
    """The image files of a folder, none of them opened yet.

    classes: the names of the class folders in natural order ("cell2" before "cell10"). paths: n files, by
    part and class, each in natural order. labels: int64 (n,), indices into ``classes``. parts: "train",
    "validation" or "test" for every file, or None where the folder has no such subfolders.
    """

    classes: tuple[str, ...]
    paths: list[Path]
    labels: NDArray[np.int64]
    parts: NDArray[np.str_] | None


def scan(folder: str | os.PathLike[str]) -> ImageFolder:
    """List the images of a folder of class folders.

    A folder has parts of its own where ``train`` stands beside ``val`` (or ``valid``, ``validation``) or
    ``test``, in any case of letters; then each of them holds the class folders, the classes are those of
    ``train``, and other folders beside the parts are passed over.

    Images are the files with the extension of an image, hidden ones too, at any depth below their class
    folder; hidden folders are passed over and links to folders are not followed below a class folder.

    Raises FileNotFoundError or NotADirectoryError for a folder that is none, and ValueError for one without
    two class folders, a class without images, or a class of the other parts that ``train`` does not have.
    """
    root = Path(folder)
    if not root.exists():
        raise FileNotFoundError(f"There is no folder {root}. Give a folder that holds one folder for each class.")
    if not root.is_dir():
        raise NotADirectoryError(f"{root} is not a folder. Give a folder that holds one folder for each class.")
    part_folders = _part_folders(root)
    class_folders = {path.name: path for path in subfolders(part_folders.get("train", root))}
    classes = tuple(class_folders)
    if len(classes) < 2:
        found = f"only one class folder, {classes[0]!r}" if classes else "no class folder"
        raise ValueError(
            f"The folder {part_folders.get('train', root)} holds {found}. Give a folder that holds two or "
            "more class folders with images in them."
        )
    paths: list[Path] = []
    labels: list[int] = []
    parts: list[str] = []
    for part, place in (part_folders or {"train": root}).items():
        for path in subfolders(place):
            if path.name not in class_folders:
                raise ValueError(
                    f"The class folder {path} has no counterpart in {part_folders['train']}. Received "
                    f"there: {', '.join(classes)}. Rename or remove the folder."
                )
            images = image_files(path)
            if not images and part == "train":
                raise ValueError(f"The class folder {path} holds no image. Put images into it or remove it.")
            paths += images
            labels += [classes.index(path.name)] * len(images)
            parts += [part] * len(images)
    return ImageFolder(classes, paths, np.array(labels, dtype=np.int64), np.array(parts) if part_folders else None)


def load(
    image_folder: ImageFolder,
    decoding: Decoding,
    *,
    strict: bool = False,
    threads: int | None = None,
    progress: bool = False,
) -> LabelledImages:
    """Decode the images of a folder on several threads into one uint8 array, in the order of ``paths``.

    Files that cannot be read are left out and listed with the reason in ``skipped``; with ``strict`` the
    first one raises. threads: how many decode; None: as many as this process may use cores. progress: a bar
    on stderr, where that is a terminal.

    Raises :class:`UndecodableImage` if ``strict``, and ValueError if a class lost all its (training) images.
    """
    if threads is not None and threads < 1:
        raise ValueError(f"One thread or more decode images. Received: threads={threads!r}.")
    paths = image_folder.paths
    x = _allocate((len(paths), decoding.channels, decoding.height, decoding.width))
    kept: list[int] = []
    skipped: list[tuple[Path, str]] = []

    def attempt(path: Path) -> NDArray[np.uint8] | UndecodableImage:
        try:
            return read_image(path, decoding)
        except UndecodableImage as error:
            return error

    with (
        ThreadPoolExecutor(threads or _usable_cores()) as pool,
        tqdm(
            total=len(paths),
            desc="Reading images",
            unit="image",
            file=sys.stderr,
            disable=None if progress else True,
        ) as bar,
    ):
        # A window at a time: decoded images wait in memory for their turn, and a folder can hold millions.
        for start in range(0, len(paths), _WINDOW):
            for row, result in enumerate(pool.map(attempt, paths[start : start + _WINDOW]), start):
                bar.update()
                if isinstance(result, UndecodableImage):
                    if strict:
                        raise result
                    skipped.append((result.path, result.reason))
                else:
                    x[len(kept)] = result
                    kept.append(row)
    rows = np.array(kept, dtype=np.int64)
    labelled = LabelledImages(
        x=x[: len(kept)],
        y=image_folder.labels[rows],
        classes=image_folder.classes,
        paths=[paths[row] for row in kept],
        skipped=skipped,
        parts=None if image_folder.parts is None else image_folder.parts[rows],
    )
    _check_every_class(labelled)
    return labelled


def load_folder(
    path: str | os.PathLike[str],
    decoding: Decoding,
    *,
    strict: bool = False,
    threads: int | None = None,
    progress: bool = False,
) -> LabelledImages:
    """Return :func:`load` of what :func:`scan` finds in a folder, and raise what they raise."""
    return load(scan(path), decoding, strict=strict, threads=threads, progress=progress)


def _part_folders(root: Path) -> dict[str, Path]:
    """Return the folders of the parts, "train" first, or nothing if ``root`` has no parts."""
    found: dict[str, list[Path]] = {"train": [], "validation": [], "test": []}
    for path in subfolders(root):
        if path.name.casefold() in _PART_OF_FOLDER:
            found[_PART_OF_FOLDER[path.name.casefold()]].append(path)
    if not found["train"] or not (found["validation"] or found["test"]):
        return {}
    for part, places in found.items():
        if len(places) > 1:
            raise ValueError(
                f"The folder {root} holds more than one folder for the {part} part. Received: "
                f"{', '.join(path.name for path in places)}. Keep one of them."
            )
    return {part: places[0] for part, places in found.items() if places}


def _allocate(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    try:
        return np.empty(shape, dtype=np.uint8)
    except (MemoryError, ValueError) as error:
        raise MemoryError(
            f"The images do not fit the memory. Received: {shape[0]} images of {shape[1]} x {shape[2]} x "
            f"{shape[3]} bytes. Choose a smaller image size."
        ) from error


def _usable_cores() -> int:
    """How many cores this process may use, which in a container can be fewer than there are."""
    affinity: Callable[[int], Any] | None = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _check_every_class(images: LabelledImages) -> None:
    """Raise ValueError if no image is left, or a class has none left to train on."""
    first = f" The first: {images.skipped[0][0]} ({images.skipped[0][1]})." if images.skipped else ""
    if len(images.y) == 0:
        raise ValueError(f"None of the {len(images.skipped)} image files could be read.{first}")
    trained = images.y if images.parts is None else images.y[images.parts == "train"]
    for label, count in enumerate(np.bincount(trained, minlength=len(images.classes)).tolist()):
        if count == 0:
            raise ValueError(
                f"None of the training images of the class {images.classes[label]!r} could be read. Replace "
                f"them, or remove the class folder.{first}"
            )
