"""Splitting images into parts: train, validation (to choose the best model) and test (to measure it)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpcnn import random
from xpcnn.data.whole_groups import NONE, TEST, TRAIN, VALIDATION, place_groups


@dataclass(frozen=True, eq=False)
class Split:
    """Three disjoint sets of image indices, int64, ascending, which together are all images used."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]


def _check_fraction(name: str, fraction: float) -> None:
    if not 0 <= fraction < 1:
        raise ValueError(f"The {name} fraction must be from 0 to below 1. Received: {fraction!r}.")


def _portion(count: int, fraction: float, left: int = 1) -> int:
    """Return how many of ``count`` images a part takes: rounded, at least one, but leaving ``left``."""
    return 0 if fraction == 0 else min(max(1, round(count * fraction)), count - left)


def stratified_split(
    labels: NDArray[np.integer[Any]],
    test_fraction: float = 0.2,
    validation_fraction: float = 0.1,
    seed: int = 0,
    classes: Sequence[str] | None = None,
    groups: Sequence[str] | NDArray[Any] | None = None,
) -> Split:
    """Split images at random so that every part has the class proportions of the whole.

    labels: integers (n,). test_fraction: of all images; validation_fraction: of the rest; 0 makes an empty part. A part
    takes at least one image of a class and leaves at least one to train on: a class of two images gives one to the test
    part and none to validation. The draw of a class is keyed by (seed, label), so it does not depend on the other
    classes. classes: their names, for the error message.

    groups: (n,), the group that every image belongs to, such as a patient. All images of a group go to one part, and
    the parts come as close to the fractions of every class as placing whole groups, the largest first, allows. Every
    class has training images; a class with a single group is not tested. Images that are alone in their group are drawn
    like those without groups.

    Raises ValueError for fractions outside [0, 1) and for a class with too few images to split.

    >>> split = stratified_split(np.array([0, 0, 0, 0, 1, 1, 1, 1]), 0.25, 0, seed=0)
    >>> len(split.train), len(split.validation), len(split.test)
    (6, 0, 2)
    """
    _check_fraction("test", test_fraction)
    _check_fraction("validation", validation_fraction)
    if groups is None:
        part_of = np.full(len(labels), NONE, np.int64)
    elif len(groups) != len(labels):
        raise ValueError(f"groups must name one group per label: {len(labels)} labels, {len(groups)} groups received.")
    else:
        part_of = place_groups(labels, groups, test_fraction, validation_fraction, seed)
    for label in np.unique(labels).tolist():
        of_class = labels == label
        count = int(of_class.sum())
        if count < 2 and (test_fraction or validation_fraction):
            name = f"index {label}" if classes is None else repr(classes[label])
            raise ValueError(
                f"The class {name} has too few images to split. Received: {count}, expected 2 or "
                "more. Add images, remove the class, or set both fractions to 0."
            )
        rows = np.flatnonzero(of_class & (part_of == NONE)).astype(np.int64)
        rows = random.generator(seed, "split", label).permutation(rows)
        train, validation, test = (int((part_of[of_class] == part).sum()) for part in (TRAIN, VALIDATION, TEST))
        free = len(rows) if train else max(0, len(rows) - 1)
        wanted = _portion(count, test_fraction, left=2 if validation_fraction and count > 2 else 1)
        tested = min(max(0, wanted - test), free)
        wanted = _portion(count - test - tested, validation_fraction)
        validated = min(max(0, wanted - validation), free - tested)
        cuts = [len(rows) - tested - validated, len(rows) - tested]
        for part, piece in zip((TRAIN, VALIDATION, TEST), np.split(rows, cuts), strict=True):
            part_of[piece] = part
    return Split(*(np.flatnonzero(part_of == part).astype(np.int64) for part in (TRAIN, VALIDATION, TEST)))


def split_from_parts(
    parts: NDArray[np.str_],
    labels: NDArray[np.integer[Any]],
    validation_fraction: float = 0.1,
    seed: int = 0,
    classes: Sequence[str] | None = None,
    groups: Sequence[str] | NDArray[Any] | None = None,
) -> Split:
    """Split images by their folders: ``parts`` (n,) holds "train", "validation" or "test" for each.

    Without validation images, that part is drawn from the training images, like :func:`stratified_split` with the given
    ``groups``; without test images, the test part is empty.

    Raises the errors of :func:`stratified_split`.
    """
    train, validation, test = (
        np.flatnonzero(parts == name).astype(np.int64) for name in ("train", "validation", "test")
    )
    if len(validation) == 0:
        within = stratified_split(
            labels[train],
            0.0,
            validation_fraction,
            seed,
            classes,
            None if groups is None else np.asarray(groups)[train],
        )
        train, validation = train[within.train], train[within.validation]
    return Split(train, validation, test)
