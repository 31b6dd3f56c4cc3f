"""What DATA means on the command line: a folder of class folders, ``mnist`` or ``digits``."""

from __future__ import annotations

import unicodedata
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xpcnn.cli.text import printable

if TYPE_CHECKING:
    from xpcnn.data import Decoding, LabelledImages, Split
    from xpcnn.data.cache import CacheUse
    from xpcnn.training.communicator import Communicator

HELP = "a folder of class folders (or of train, val and test), `mnist` ($XPCNN_DATA/mnist) or `digits` (bundled)"

#: The side of the images of the sets that go by a name, in pixels; they are grey.
NAMED = {"mnist": 28, "digits": 8}


def decoding_of_named(name: str, size: int | None, color: bool | None) -> Decoding:
    """Return how the images of a set that goes by a name become: square, of ``size`` pixels or their own."""
    from xpcnn.data import Decoding

    side = size or NAMED[name]
    return Decoding(side, side, 3 if color else 1)


def load_data(
    name: str,
    decoding: Decoding,
    strict: bool,
    threads: int | None,
    cache: bool = False,
    communicator: Communicator | None = None,
    raw: bool = False,
) -> LabelledImages:
    """Load what ``name`` stands for, as a decoding says.

    cache: keep the decoded images of a folder. communicator: of the processes that share the work; each of them
    decodes the images that it needs when it needs them, or takes them from the cache of its machine. raw: give values
    as files hold them, for :func:`with_measured_range`.
    """
    from xpcnn import data

    if name not in NAMED and communicator is not None and communicator.size > 1:
        if not cache:
            return _shared(Path(name), decoding, strict, threads, communicator, raw)
        return communicator.one_first(
            lambda: data.load(data.scan(name), decoding, strict=strict, threads=threads, cache=cache, raw=raw)
        )
    if name not in NAMED:
        return data.load(data.scan(name), decoding, strict=strict, threads=threads, progress=True, cache=cache, raw=raw)
    return _fit_to(_mnist() if name == "mnist" else data.load_digits(), decoding)


def _shared(
    path: Path, decoding: Decoding, strict: bool, threads: int | None, communicator: Communicator, raw: bool
) -> LabelledImages:
    """Return a folder whose images are decoded when they are taken, after a first look that all processes share."""
    from typing import cast

    from xpcnn import data
    from xpcnn.data.folders import check_every_class

    files = [file.relative_to(path).as_posix() for file in data.scan(path).paths]
    communicator.same("files", {"count": len(files), "checksum": zlib.crc32("\0".join(files).encode(errors="replace"))})
    folder = data.Folder(path, decoding, threads, communicator.spread, raw)
    if strict and folder.skipped:
        raise data.UndecodableImage(*folder.skipped[0])
    images = data.LabelledImages(
        cast(Any, folder),
        folder.y,
        folder.classes,
        folder.paths,
        folder.skipped,
        folder.parts,
        digests=folder.digests,
        facts=folder.facts,
    )
    check_every_class(images)
    return images


def with_measured_range(images: LabelledImages, split: Split, decoding: Decoding) -> tuple[LabelledImages, Decoding]:
    """Return raw images as bytes, and their decoding with the range of values that those to train on have."""
    from dataclasses import replace

    from xpcnn import data
    from xpcnn.data.ranges import range_of, scaled

    assert images.facts is not None
    decoding = replace(decoding, range=range_of(images.facts, split.train, decoding))
    if isinstance(images.x, data.Folder):
        images.x.decoding = decoding
        return images, decoding
    return replace(images, x=scaled(images.x, decoding.range)), decoding


def refuse_mixed_depths(images: LabelledImages, decoding: Decoding) -> None:
    """Raise ValueError where images of 8 bits and of more tell no common scale, and none is given."""
    from xpcnn.data.decoding import LATEST
    from xpcnn.data.ranges import refuse_mixed

    if images.facts is not None and decoding.range is None and decoding.generation == LATEST:
        refuse_mixed(images.facts)


def describe_cache(cache: CacheUse) -> str:
    """Return in one line what a cache was good for."""
    path = printable(str(cache.path))
    why = " (those in it were of other readers, another version or scale)" if cache.is_anew else ""
    return f"{cache.reused} images from the cache ({cache.bytes / 1e6:.1f} MB, {path}), {cache.read} read anew{why}"


def _fit_to(images: LabelledImages, decoding: Decoding) -> LabelledImages:
    """Return grey images in another size, or as three equal channels, where a decoding asks for it."""
    from dataclasses import replace

    import numpy as np

    from xpcnn import data
    from xpcnn.data.digests import digest

    x = images.x
    digests = np.array([[*digest(row)] for row in x], dtype=np.uint8)
    if x.shape[2:] != (decoding.height, decoding.width):
        x = data.resize(x, decoding.height, decoding.width)
    if x.shape[1] != decoding.channels:
        x = x.repeat(decoding.channels, axis=1)
    return replace(images, x=x, digests=digests)


def _mnist() -> LabelledImages:
    """Return MNIST as one set whose parts are its own."""
    import numpy as np

    from xpcnn import data

    train, test = data.load_mnist()
    return data.LabelledImages(
        np.concatenate([train.x, test.x]),
        np.concatenate([train.y, test.y]),
        train.classes,
        parts=np.array(["train"] * len(train.y) + ["test"] * len(test.y)),
    )


def split_data(images: LabelledImages, test: float, validation: float, seed: int) -> Split:
    """Return the parts to train on, to choose by and to measure on: the set's own, or drawn class by class."""
    from xpcnn import data

    if images.parts is not None:
        return data.split_from_parts(images.parts, images.y, validation, seed, classes=images.classes)
    return data.stratified_split(images.y, test, validation, seed, classes=images.classes)


def alike(names: Sequence[str]) -> list[tuple[str, str]]:
    """Return pairs of class names that differ only in case, or in how their letters are encoded.

    >>> alike(["Cat", "cat", "dog"])
    [('Cat', 'cat')]
    """
    first: dict[str, str] = {}
    pairs = []
    for name in names:
        other = first.setdefault(unicodedata.normalize("NFKC", name.casefold()), name)
        if other != name:
            pairs.append((other, name))
    return pairs


def refuse_one_colour(images: LabelledImages, split: Split) -> None:
    """Raise ValueError where all images to train on are of one and the same colour, which tells no classes apart."""
    colour = images.x[split.train[0]][:, :1, :1]
    if all((images.x[row] == colour).all() for row in split.train.tolist()):
        raise ValueError(
            f"All {len(split.train)} images to train on are of one and the same colour, so no class can be told from "
            "another. Look at the files, and whether they are the images you meant."
        )


def match_classes(images: LabelledImages, class_names: tuple[str, ...]) -> LabelledImages:
    """Return the images with labels that count as the model's classes do, matched by name.

    Raises ValueError for a class that the model does not know.
    """
    from dataclasses import replace

    import numpy as np

    unknown = [name for name in images.classes if name not in class_names]
    if unknown:
        close = [f" Is it {known!r}?" for known, name in alike([*class_names, unknown[0]]) if name == unknown[0]]
        raise ValueError(
            f"The model does not know the class {unknown[0]!r}. It knows: {', '.join(class_names)}.{''.join(close)} "
            "Rename the class folder, or train a model on this data."
        )
    numbers = np.array([class_names.index(name) for name in images.classes], dtype=np.int64)
    return replace(images, y=numbers[images.y], classes=class_names)
