"""Which images train, which choose the best model, and which measure it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpcnn import draws
from xpcnn.data.whole_groups import NONE, TEST, TRAIN, VALIDATION, place_groups


@dataclass(frozen=True, eq=False)
class Split:
    """Three sets of image indices, int64, ascending, without overlap, together all images that are used."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]


def _check_fraction(name: str, fraction: float) -> None:
    if not 0 <= fraction < 1:
        raise ValueError(f"The {name} fraction is from 0 to below 1. Received: {fraction!r}.")


def _portion(count: int, fraction: float, left: int = 1) -> int:
    """How many of ``count`` images a part takes: the nearest whole number, one at least, if some are ``left``."""
    return 0 if fraction == 0 else min(max(1, round(count * fraction)), count - left)


def stratified_split(
    labels: NDArray[np.integer[Any]],
    test_fraction: float = 0.2,
    validation_fraction: float = 0.1,
    seed: int = 0,
    classes: Sequence[str] | None = None,
    groups: Sequence[str] | NDArray[Any] | None = None,
) -> Split:
    """Split images at random so that every part has the classes in the proportions of the whole.

    labels: integers (n,). test_fraction: of all images; validation_fraction: of the rest; 0 makes an empty
    part. A part takes at least one image of a class, and leaves at least one to train on: a class of two
    images gives one to the test part and none to validation. The draw of a class is keyed by (seed, label),
    so it does not depend on the other classes. classes: their names, for the error.

    groups: (n,), what every image belongs to, such as a patient. The images of a group go to one part, and the parts
    come as near to the fractions of every class as whole groups, the largest first, allow. Every class is trained; one
    whose images are all of one group is not tested. Images that are the only ones of their group are drawn as those
    without groups.

    Raises ValueError for fractions outside [0, 1) and for a class that has too few images to be split.

    >>> split = stratified_split(np.array([0, 0, 0, 0, 1, 1, 1, 1]), 0.25, 0, seed=0)
    >>> len(split.train), len(split.validation), len(split.test)
    (6, 0, 2)
    """
    _check_fraction("test", test_fraction)
    _check_fraction("validation", validation_fraction)
    if groups is None:
        part_of = np.full(len(labels), NONE, np.int64)
    elif len(groups) != len(labels):
        raise ValueError(f"Every image has one group. Received: {len(labels)} labels and {len(groups)} groups.")
    else:
        part_of = place_groups(labels, groups, test_fraction, validation_fraction, seed)
    for label in np.unique(labels).tolist():
        of_class = labels == label
        count = int(of_class.sum())
        if count < 2 and (test_fraction or validation_fraction):
            name = f"index {label}" if classes is None else repr(classes[label])
            raise ValueError(
                f"The class {name} has too few images to be split. Received: {count}, expected 2 or "
                "more. Add images, remove the class, or set both fractions to 0."
            )
        rows = np.flatnonzero(of_class & (part_of == NONE)).astype(np.int64)
        rows = draws.generator(seed, "split", label).permutation(rows)
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
    """Split images as their folders say: ``parts`` holds "train", "validation" or "test" for each (n,).

    Where no image is for validation, that part is taken from the training images, as :func:`stratified_split`
    does, with the ``groups`` that are given; where none is for the test, the test part is empty.

    Raises what :func:`stratified_split` raises.
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
