"""Which images train, which choose the best model, and which measure it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpcnn import draws


@dataclass(frozen=True, eq=False)
class Split:
    """Three sets of image indices, int64, ascending, without overlap, together all images."""

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
) -> Split:
    """Split images at random so that every part has the classes in the proportions of the whole.

    labels: integers (n,). test_fraction: of all images; validation_fraction: of the rest; 0 makes an empty
    part. A part takes at least one image of a class, and leaves at least one to train on: a class of two
    images gives one to the test part and none to validation. The draw of a class is keyed by (seed, label),
    so it does not depend on the other classes. classes: their names, for the error.

    Raises ValueError for fractions outside [0, 1) and for a class that has too few images to be split.

    >>> split = stratified_split(np.array([0, 0, 0, 0, 1, 1, 1, 1]), 0.25, 0, seed=0)
    >>> len(split.train), len(split.validation), len(split.test)
    (6, 0, 2)
    """
    _check_fraction("test", test_fraction)
    _check_fraction("validation", validation_fraction)
    parts: tuple[list[NDArray[np.int64]], ...] = ([], [], [])
    for label in np.unique(labels).tolist():
        rows = np.flatnonzero(labels == label).astype(np.int64)
        if len(rows) < 2 and (test_fraction or validation_fraction):
            name = f"index {label}" if classes is None else repr(classes[label])
            raise ValueError(
                f"The class {name} has too few images to be split. Received: {len(rows)}, expected 2 or "
                "more. Add images, remove the class, or set both fractions to 0."
            )
        rows = draws.generator(seed, "split", label).permutation(rows)
        tested = _portion(len(rows), test_fraction, left=2 if validation_fraction and len(rows) > 2 else 1)
        validated = _portion(len(rows) - tested, validation_fraction)
        for part, piece in zip(
            parts, np.split(rows, [len(rows) - tested - validated, len(rows) - tested]), strict=True
        ):
            part.append(piece)
    return Split(*(np.sort(np.concatenate([np.empty(0, np.int64), *part])) for part in parts))


def split_from_parts(
    parts: NDArray[np.str_],
    labels: NDArray[np.integer[Any]],
    validation_fraction: float = 0.1,
    seed: int = 0,
    classes: Sequence[str] | None = None,
) -> Split:
    """Split images as their folders say: ``parts`` holds "train", "validation" or "test" for each (n,).

    Where no image is for validation, that part is taken from the training images, as :func:`stratified_split`
    does; where none is for the test, the test part is empty.

    Raises what :func:`stratified_split` raises.
    """
    train, validation, test = (
        np.flatnonzero(parts == name).astype(np.int64) for name in ("train", "validation", "test")
    )
    if len(validation) == 0:
        within = stratified_split(labels[train], 0.0, validation_fraction, seed, classes)
        train, validation = train[within.train], train[within.validation]
    return Split(train, validation, test)
