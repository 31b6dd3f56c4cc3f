"""The images of a run: how they are decoded, which part each is in, and what is to be said of them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from xpcnn.cli import datasets, parts, pictures

if TYPE_CHECKING:
    from xpcnn.communicator import Communicator
    from xpcnn.data import Decoding, LabelledImages, Split


class Loaded(NamedTuple):
    """Images, decoded and cut into parts.

    told: lines that say what they are and what was made of them. notes: lines that warn.
    """

    images: LabelledImages
    split: Split
    decoding: Decoding
    told: list[str]
    notes: list[str]


def load_images(
    options_: argparse.Namespace,
    communicator: Communicator,
    decoding: Decoding | None,
    class_names: Sequence[str] | None,
) -> Loaded:
    """Load the images that a run was asked for.

    decoding: that of the model to start from or of a run that is resumed; None: it is chosen from the images.
    class_names: of the model to start from, by which labels count, or None.
    """
    measures = False
    if decoding is None and options_.data in datasets.NAMED:
        decoding = datasets.decoding_of_named(options_.data, options_.image_size, options_.color)
    elif decoding is None:
        decoding, measures = _chosen(options_, communicator)

    wanted = decoding

    def load(raw: bool) -> LabelledImages:
        return datasets.load_data(
            options_.data, wanted, options_.strict, options_.threads, options_.cache, communicator, options_.labels,
            options_.group_by, raw,
        )  # fmt: skip

    images = load(raw=measures)
    if measures and not all(one.is_deep for one in images.facts or ()):  # as the first look did not show
        measures, images = False, load(raw=False)
    if class_names is not None:
        images = datasets.match_classes(images, tuple(class_names))
    split, notes = parts.split_data(
        images, options_.test_fraction, options_.validation_fraction, options_.seed, strict=bool(options_.strict),
        copies=options_.copies,
    )  # fmt: skip
    if measures:
        images, decoding = datasets.with_measured_range(images, split, decoding)
    source = "as measured on the training images" if measures else "as given" if options_.range else "as kept"
    told = [] if images.facts is None else pictures.told(images.facts, decoding, source)
    return Loaded(images, split, decoding, told + _not_taken(images), notes + _alike(images))


def _chosen(options_: argparse.Namespace, communicator: Communicator) -> tuple[Decoding, bool]:
    """Return what one process chooses for all, and whether a range is to be measured."""
    chosen: Any = None
    if communicator.rank == 0:
        chosen = pictures.choose(datasets.find_images(options_.data, options_.labels).paths, options_)
    decoding, measures = communicator.hand_down(chosen)
    return decoding, measures


def _not_taken(images: LabelledImages) -> list[str]:
    """Return lines on the files that could not be read, and on those that are no images."""
    lines = []
    if images.skipped:
        path, reason = images.skipped[0]
        lines.append(f"skipped, the first: {path} ({reason})")
    if images.passed_over:
        lines.append(datasets.describe_passed_over(images.passed_over))
    return lines


def _alike(images: LabelledImages) -> list[str]:
    return [
        f"the classes {name!r} and {other!r} differ in writing alone; if they are one, put them in one folder"
        for name, other in datasets.alike(images.classes)
    ]
