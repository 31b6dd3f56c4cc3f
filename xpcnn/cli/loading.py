"""Loading a run's images: their decoding, their parts, and the messages about them."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from xpcnn.cli import datasets, parts, pictures

if TYPE_CHECKING:
    from xpcnn.communicator import Communicator
    from xpcnn.data import Decoding, LabelledImages, Split


class Loaded(NamedTuple):
    """Images, decoded and split into parts.

    description: lines that describe them. notes: warnings.
    """

    images: LabelledImages
    split: Split
    decoding: Decoding
    description: list[str]
    notes: list[str]


class Read(NamedTuple):
    """Images before they are split; measures: whether they are raw, until the training part shows their range."""

    images: LabelledImages
    decoding: Decoding
    measures: bool


def load_images(
    options_: argparse.Namespace,
    communicator: Communicator,
    decoding: Decoding | None,
    class_names: Sequence[str] | None,
) -> Loaded:
    """Load the images of a run.

    decoding: that of the model to start from or of a resumed run; None: choose one by the images. class_names: of the
    model to start from, which determine the label indices, or None.
    """
    return _split(read_images(options_, communicator, decoding, class_names), options_)


def loading_once() -> Callable[..., Loaded]:
    """Return a :func:`load_images` for runs that differ in their parts alone, which reads each file once."""
    kept: dict[Any, Read] = {}

    def load(
        options_: argparse.Namespace,
        communicator: Communicator,
        decoding: Decoding | None,
        class_names: Sequence[str] | None,
    ) -> Loaded:
        names = None if class_names is None else tuple(class_names)
        if (decoding, names) in kept:
            return _split(kept[decoding, names], options_)
        kept.clear()  # the images of a resumed fold, which were read with its recorded decoding
        found = read_images(options_, communicator, decoding, names)
        kept[decoding, names] = found._replace(images=replace(found.images, cache=None))  # which is told once
        if not found.measures:
            kept[found.decoding, names] = kept[decoding, names]
        return _split(found, options_)

    return load


def read_images(
    options_: argparse.Namespace,
    communicator: Communicator,
    decoding: Decoding | None,
    class_names: Sequence[str] | None,
) -> Read:
    """Read the images of a run, before they are split; the arguments are those of :func:`load_images`."""
    measures = False
    if decoding is None and options_.data in datasets.NAMED:
        decoding = datasets.decoding_of_named(options_.data, options_.image_size, options_.color)
    elif decoding is None:
        decoding, measures = _chosen(options_, communicator)

    wanted = decoding

    def load(raw: bool) -> LabelledImages:
        return datasets.load_data(
            options_.data, wanted, options_.strict, options_.threads, options_.cache, communicator, options_.labels,
            options_.group_by, raw, known=class_names or (),
        )  # fmt: skip

    images = load(raw=measures)
    if measures and not all(one.is_deep for one in images.facts or ()):  # which the survey did not show
        measures, images = False, load(raw=False)
    if class_names is not None:
        images = datasets.match_classes(images, tuple(class_names))
    return Read(images, decoding, measures)


def _split(read: Read, options_: argparse.Namespace) -> Loaded:
    """Split images into parts, and measure their range of values on the training part, if it has yet to be."""
    images, decoding, measures = read
    split, notes = parts.split_data(
        images, options_.test_fraction, options_.validation_fraction, options_.seed, strict=bool(options_.strict),
        copies=options_.copies, fold=(options_.fold, options_.folds) if options_.folds else None,
    )  # fmt: skip
    if measures:
        images, decoding = datasets.with_measured_range(images, split, decoding)
    source = "as measured on the training images" if measures else "as given" if options_.range else "as kept"
    description = [] if images.facts is None else pictures.description(images.facts, decoding, source)
    return Loaded(images, split, decoding, description + _not_taken(images), notes + _alike(images))


def _chosen(options_: argparse.Namespace, communicator: Communicator) -> tuple[Decoding, bool]:
    """Let one process choose for all; return the decoding, and whether to measure a range."""
    chosen: Any = None
    if communicator.rank == 0:
        chosen = pictures.choose(datasets.find_images(options_.data, options_.labels).paths, options_)
    decoding, measures = communicator.broadcast(chosen)
    return decoding, measures


def _not_taken(images: LabelledImages) -> list[str]:
    """Return lines about the files that could not be read, and about those that are not images."""
    lines = []
    if images.skipped:
        path, reason = images.skipped[0]
        lines.append(f"skipped files, the first: {path} ({reason})")
    if images.passed_over:
        lines.append(datasets.describe_passed_over(images.passed_over))
    return lines


def _alike(images: LabelledImages) -> list[str]:
    return [
        f"the classes {name!r} and {other!r} differ only in spelling; if they are one class, put them in one folder"
        for name, other in datasets.alike(images.classes)
    ]
