"""Cross-validation: dividing images into folds, each of which is the test part once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpcnn import random
from xpcnn.data.splits import Split, stratified_split


def stratified_folds(
    labels: NDArray[np.integer[Any]],
    folds: int,
    seed: int = 0,
    classes: Sequence[str] | None = None,
    groups: Sequence[str] | NDArray[Any] | None = None,
) -> NDArray[np.int64]:
    """Return the fold of every image, int64 (n,), from 0 on, such that every fold has the class proportions of all.

    labels: integers (n,). folds: 2 or more. seed: of the random order in which images are taken. classes: their names,
    for error messages. groups: (n,), the group that every image belongs to; all images of a group are in one fold.

    Groups are placed by size, the largest first and equal sizes in random order, each in the fold that has the fewest
    images of its classes, and of these in the one with the fewest images.

    Raises ValueError if a class has fewer images than there are folds, if there are fewer groups than folds, and if all
    images of a class come to one fold, so that it could not be trained when that fold is tested.

    >>> np.bincount(stratified_folds(np.array([0, 0, 0, 1, 1, 1]), 3)).tolist()
    [2, 2, 2]
    """
    label = np.unique(labels, return_inverse=True)[1]
    totals = np.bincount(label)

    def name(number: int) -> str:
        value = np.unique(labels)[number]
        return f"index {value}" if classes is None else repr(classes[value])

    if min(totals.tolist(), default=folds) < folds:
        least = int(totals.argmin())
        raise ValueError(
            f"The class {name(least)} has too few images for {folds} folds. Received: {totals[least]}, expected "
            f"{folds} or more. Use fewer folds, add images, or remove the class."
        )
    group = np.arange(len(label)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    sizes = np.bincount(group)
    if len(sizes) < folds:
        raise ValueError(
            f"{folds} folds need {folds} groups of images or more, of which copies of an image are one. Received: "
            f"{len(sizes)}. Use fewer folds, or smaller groups."
        )
    members = np.split(np.argsort(group, kind="stable"), np.cumsum(sizes)[:-1])
    held = np.zeros((folds, len(totals)), np.int64)
    fold_of = np.empty(len(label), np.int64)
    drawn = random.generator(seed, "folds").permutation(len(sizes))
    for rows in (members[one] for one in drawn[np.argsort(-sizes[drawn], kind="stable")].tolist()):
        kinds, counts = np.unique(label[rows], return_counts=True)
        alike = (held[:, kinds] * counts / totals[kinds] ** 2).sum(axis=1)  # every class counts the same
        chosen = np.lexsort((held.sum(axis=1), alike))[0]
        held[chosen, kinds] += counts
        fold_of[rows] = chosen
    whole = np.flatnonzero((held == totals).any(axis=0))
    if len(whole):
        raise ValueError(
            f"All images of the class {name(int(whole[0]))} come to one of {folds} folds, for lack of groups, so that "
            "there are none to train on when it is tested. Use smaller groups, add images, or remove the class."
        )
    return fold_of


def fold_split(
    fold_of: NDArray[np.int64],
    fold: int,
    labels: NDArray[np.integer[Any]],
    validation_fraction: float = 0.1,
    seed: int = 0,
    classes: Sequence[str] | None = None,
    groups: Sequence[str] | NDArray[Any] | None = None,
) -> Split:
    """Return the parts for one fold: it is the test part, and a validation part is drawn from the others.

    fold_of: of :func:`stratified_folds`. The other arguments are those of :func:`xpcnn.data.stratified_split`.

    Raises ValueError if a single image of a class is left, which can't be both trained on and validated.

    >>> labels = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    >>> split = fold_split(stratified_folds(labels, 2), 0, labels, validation_fraction=0)
    >>> len(split.train), len(split.validation), len(split.test)
    (4, 0, 4)
    """
    others = np.flatnonzero(fold_of != fold).astype(np.int64)
    present, counts = np.unique(labels[others], return_counts=True)
    if validation_fraction and counts.min(initial=2) < 2:
        scarce = present[counts.argmin()]
        name = f"index {scarce}" if classes is None else repr(classes[scarce])
        raise ValueError(
            f"A fold leaves 1 image of the class {name} to train on, and none to validate. Add images, use more folds, "
            "or set the validation fraction to 0."
        )
    left = None if groups is None else np.asarray(groups)[others]
    within = stratified_split(labels[others], 0.0, validation_fraction, seed, classes, left)
    test = np.flatnonzero(fold_of == fold).astype(np.int64)
    return Split(others[within.train], others[within.validation], test)
