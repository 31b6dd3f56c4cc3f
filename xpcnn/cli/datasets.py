"""The meaning of DATA on the command line: a folder of class folders, ``mnist`` or ``digits``."""

from __future__ import annotations

import argparse
import unicodedata
import zlib
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from xpcnn.cli.text import printable
from xpcnn.data.names import below, nfc

if TYPE_CHECKING:
    from xpcnn.communicator import Communicator
    from xpcnn.data import Decoding, ImageFolder, LabelledImages, Split
    from xpcnn.data.cache import CacheUse

HELP = "a folder of class folders (or of train, val and test), `mnist` ($XPCNN_DATA/mnist) or `digits` (bundled)"

#: The side, in pixels, of the images of the named datasets, which are grey.
NAMED = {"mnist": 28, "digits": 8}
#: The most extensions of ignored files to list; the others are counted together.
MOST_ENDINGS = 8


def decoding_of_named(name: str, size: int | None, color: bool | None) -> Decoding:
    """Return the decoding of a named dataset: square images of ``size`` pixels, or of their own size."""
    from xpcnn.data import Decoding

    side = size or NAMED[name]
    return Decoding(side, side, 3 if color else 1)


def add_labels(parser: argparse._ActionsContainer) -> None:
    """Add --labels."""
    parser.add_argument(
        "--labels",
        metavar="CSV",
        help="a table instead of class folders, with the columns path (relative to DATA) and label, and optionally "
        "part and group; for several labels an image, labels with semicolons between them, or a column of 0 and 1 for "
        "each class, in place of label",
    )


def check_options(options_: argparse.Namespace) -> None:
    """Raise a usage error for folder options with a named dataset, and for an invalid --group-by pattern."""
    for name in ("cache", "channels", "range", "labels", "group_by"):
        if getattr(options_, name, None) and options_.data in NAMED:
            option = "--" + name.replace("_", "-")
            raise argparse.ArgumentError(None, f"{option} needs a folder of images, and {options_.data} is not one")
    group_by = getattr(options_, "group_by", None)
    if group_by:
        from xpcnn.data import groups

        try:
            groups.is_table(group_by) or groups.pattern(group_by)
        except ValueError as error:
            raise argparse.ArgumentError(None, f"--group-by {error}") from error


def load_data(
    name: str,
    decoding: Decoding,
    strict: bool,
    threads: int | None,
    cache: bool = False,
    communicator: Communicator | None = None,
    labels: str | None = None,
    group_by: str | None = None,
    raw: bool = False,
    training: bool = True,
    known: Sequence[str] = (),
) -> LabelledImages:
    """Load the dataset that ``name`` stands for, with a decoding.

    cache: keep the decoded images of a folder on disk. labels, group_by: as in :func:`find_images`. communicator: of
    the processes that share the work; each decodes the images that it needs on access, or takes them from its machine's
    cache. raw: return the values in the files, for :func:`with_measured_range`. training: False if images are only
    evaluated, by a model that knows the ``known`` classes.
    """
    from xpcnn import data

    if name in NAMED:
        return _fit_to(_mnist() if name == "mnist" else data.load_digits(), decoding)
    found = find_images(name, labels, group_by, training, known)

    def load(progress: bool) -> LabelledImages:
        return data.load(
            found, decoding, strict=strict, threads=threads, progress=progress, cache=cache, raw=raw, training=training
        )

    if communicator is None or communicator.size == 1:
        return load(progress=True)
    if not cache:
        return _shared(found, decoding, strict, threads, communicator, raw)
    return communicator.one_first(lambda: load(progress=False))


def find_images(
    folder: str,
    labels: str | None = None,
    group_by: str | None = None,
    training: bool = True,
    known: Sequence[str] = (),
) -> ImageFolder:
    """List the images of a folder by its class folders, or by a table of ``labels`` with paths relative to it.

    group_by: a pattern or a table that gives the group of each image, and takes precedence over the table of labels.
    """
    from xpcnn import data

    found = data.from_table(labels, folder, training, known) if labels else data.scan(folder, training)
    return data.grouped(found, group_by) if group_by else found


def _shared(
    found: ImageFolder, decoding: Decoding, strict: bool, threads: int | None, communicator: Communicator, raw: bool
) -> LabelledImages:
    """Return a folder whose images are decoded on access, after a first pass that all processes share."""
    from typing import cast

    from xpcnn import data
    from xpcnn.data.folders import check_every_class

    files = [below(file, found.root) for file in found.paths]
    communicator.same("files", {"count": len(files), "checksum": zlib.crc32("\0".join(files).encode(errors="replace"))})
    folder = data.Folder(found, decoding, threads, communicator.parallel_map, raw)
    if strict and folder.skipped:
        raise data.UndecodableImage(*folder.skipped[0])
    images = data.LabelledImages(
        cast(Any, folder),
        folder.y,
        folder.classes,
        folder.paths,
        folder.skipped,
        folder.parts,
        groups=folder.groups,
        passed_over=found.passed_over,
        digests=folder.digests,
        facts=folder.facts,
    )
    check_every_class(images)
    return images


def with_measured_range(images: LabelledImages, split: Split, decoding: Decoding) -> tuple[LabelledImages, Decoding]:
    """Return raw images as bytes, and their decoding with the range of values of the training images."""
    from dataclasses import replace

    from xpcnn import data
    from xpcnn.data.ranges import range_of, scaled

    assert images.facts is not None
    ranges = range_of(images.facts, split.train, decoding)
    decoding = replace(decoding, range=ranges)
    if isinstance(images.x, data.Folder):
        images.x.decoding = decoding
        return images, decoding
    return replace(images, x=scaled(images.x, ranges)), decoding


def describe_cache(cache: CacheUse) -> str:
    """Describe in one line how a cache was used."""
    path = printable(str(cache.path))
    why = " (the cached ones were damaged, or of another version, reader or range)" if cache.is_anew else ""
    return f"{cache.reused} images from the cache ({cache.bytes / 1e6:.1f} MB, {path}), {cache.read} decoded{why}"


def describe_passed_over(endings: Counter[str]) -> str:
    """Describe in one line how many files were not images, by extension, the most frequent first.

    >>> describe_passed_over(Counter({".txt": 3, ".heic": 12, "": 2}))
    'not images: 12 .heic, 3 .txt, 2 without extension'
    """
    ranked = sorted(endings.items(), key=lambda item: (-item[1], item[0]))
    listed = [f"{count} {printable(ending) or 'without extension'}" for ending, count in ranked[:MOST_ENDINGS]]
    others = sum(count for _, count in ranked[MOST_ENDINGS:])
    return f"not images: {', '.join([*listed, *([f'{others} others'] if others else [])])}"


def _fit_to(images: LabelledImages, decoding: Decoding) -> LabelledImages:
    """Return grey images resized, or with three equal channels, as a decoding requires."""
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
    """Return MNIST as one dataset with parts of its own."""
    import numpy as np

    from xpcnn import data

    train, test = data.load_mnist()
    return data.LabelledImages(
        np.concatenate([train.x, test.x]),
        np.concatenate([train.y, test.y]),
        train.classes,
        parts=np.array(["train"] * len(train.y) + ["test"] * len(test.y)),
    )


def alike(names: Sequence[str]) -> list[tuple[str, str]]:
    """Return pairs of class names that differ only in case or Unicode form.

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
    """Raise ValueError if all training images have one and the same colour, so that classes can't be distinguished."""
    colour = images.x[split.train[0]][:, :1, :1]
    if all((images.x[row] == colour).all() for row in split.train.tolist()):
        raise ValueError(
            f"All {len(split.train)} training images have one and the same colour, so the classes can't be "
            "distinguished. Check that the files are the images you meant, and --range, if you gave it."
        )


def has_other_classes(options_: argparse.Namespace, class_names: Sequence[str]) -> bool:
    """Whether a dataset has a class that a model does not know, and that is not one of its own written otherwise."""
    known = [nfc(name) for name in class_names]
    digits = [str(digit) for digit in range(10)]
    classes = digits if options_.data in NAMED else find_images(options_.data, options_.labels).classes
    unknown = [name for name in classes if nfc(name) not in known]
    return bool(unknown) and not any(name in unknown for _, name in alike([*class_names, *unknown]))


def match_classes(images: LabelledImages, class_names: tuple[str, ...]) -> LabelledImages:
    """Return the images with the model's label indices, matching classes by name in Unicode's composed form.

    Raises ValueError for a class that the model does not know.
    """
    from dataclasses import replace

    import numpy as np

    from xpcnn.data.labels import are_several

    known = [nfc(name) for name in class_names]
    unknown = [name for name in images.classes if nfc(name) not in known]
    if unknown:
        close = [f" Did you mean {like!r}?" for like, name in alike([*class_names, unknown[0]]) if name == unknown[0]]
        raise ValueError(
            f"The model does not know the class {unknown[0]!r}. It knows: {', '.join(class_names)}.{''.join(close)} "
            "Rename the class folder, or train a model on this data."
        )
    numbers = np.array([known.index(nfc(name)) for name in images.classes], dtype=np.int64)
    if not are_several(images.y):
        return replace(images, y=numbers[images.y], classes=class_names)
    y = np.zeros((len(images.y), len(class_names)), np.int64)
    y[:, numbers] = images.y
    return replace(images, y=y, classes=class_names)
