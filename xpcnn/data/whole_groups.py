"""Assigning whole groups of images to parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpcnn import random

#: The parts by number, and the number of an image not yet assigned.
TRAIN, VALIDATION, TEST, NONE = 0, 1, 2, -1


def place_groups(
    labels: NDArray[np.integer[Any]],
    groups: Sequence[str] | NDArray[Any],
    test_fraction: float,
    validation_fraction: float,
    seed: int,
) -> NDArray[np.int64]:
    """Return the part of every image whose group has at least two images, ``NONE`` for images that are alone.

    Groups are placed by size, the largest first and equal sizes in random order. Each goes to the part with the
    smallest fraction of its target that still has space for it, else to the one that lacks most; so parts get large
    and small groups alike, and every class counts the same. The last group of a class that has no training images yet,
    or else no test images, goes where it is needed.
    """
    group = np.unique(np.asarray(groups), return_inverse=True)[1]
    label = np.unique(labels, return_inverse=True)[1]
    alone = np.bincount(group)[group] == 1
    number = np.unique(group[~alone], return_inverse=True)[1]
    classes = int(label.max(initial=-1)) + 1
    counts = np.zeros((int(number.max(initial=-1)) + 1, classes), np.int32)
    np.add.at(counts, (number, label[~alone]), 1)
    totals = np.bincount(label, minlength=classes)
    rest = 1 - test_fraction
    fractions = np.array([rest * (1 - validation_fraction), rest * validation_fraction, test_fraction])
    lacking = np.outer(fractions, np.ones(classes))
    held = np.zeros((3, classes), bool)  # which part has images of which class
    to_come = (counts > 0).sum(axis=0) + np.bincount(label[alone], minlength=classes)
    part_of = np.full(len(counts), NONE, np.int64)
    drawn = random.generator(seed, "groups").permutation(len(counts))
    for turn, one in enumerate(drawn[np.argsort(-counts[drawn].sum(axis=1), kind="stable")].tolist(), start=1):
        share = counts[one] / totals
        last = to_come[share > 0] == 1
        untrained, untested = ~held[TRAIN, share > 0], ~held[TEST, share > 0]
        if (last & untrained).any():
            part = TRAIN
        elif test_fraction and (last & untested).any():
            part = TEST
        elif validation_fraction and not held[VALIDATION].any() and turn == len(counts) > 2 and not alone.any():
            part = VALIDATION
        else:
            part = _neediest((lacking * share).sum(axis=1), fractions, (share * share).sum())
        part_of[one] = part
        lacking[part] -= share
        held[part] |= share > 0
        to_come -= share > 0
    placed = np.full(len(labels), NONE, np.int64)
    placed[~alone] = part_of[number]
    return placed


def _neediest(lacks: NDArray[np.float64], fractions: NDArray[np.float64], size: float) -> int:
    """Return the part to place a group in: the one that lacks most of its fraction and has space, else lacks most."""
    wanted = fractions > 0
    fits = wanted & (lacks >= size * (1 - 1e-9))  # allows for rounding
    if fits.any():
        return int(np.argmax(np.where(fits, lacks / np.where(wanted, fractions, 1), -np.inf)))
    return int(np.argmax(np.where(wanted, lacks, -np.inf)))
