"""The pictures of a report: a sample of the data, and where the network looked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from xpcnn.data import LabelledImages, Preprocessing
from xpcnn.program.network import Network
from xpcnn.program.program import INPUT
from xpcnn.report import explanation, page, pictures
from xpcnn.report.results import Predictions

Array = np.ndarray[Any, Any]

#: The most pictures of each kind.
MOST_SAMPLES, MOST_CLASSES_SAMPLED, MOST_OF_A_CLASS = 60, 20, 6
MOST_EXPLAINED = 3


def samples(labels: Array, classes: int) -> dict[int, list[int]]:
    """Return the images to show of each class, at regular intervals: {class: indices into ``labels``, (n,)}.

    >>> samples(np.array([0, 0, 1]), 2)
    {0: [0, 1], 1: [2]}
    """
    each = min(MOST_OF_A_CLASS, max(2, MOST_SAMPLES // max(1, classes)))
    shown = {}
    for label in range(min(classes, MOST_CLASSES_SAMPLED)):
        places = np.flatnonzero(labels == label)
        indices = np.linspace(0, len(places) - 1, min(each, len(places))).astype(int)
        shown[label] = places[indices].tolist()
    return shown


def sample_gallery(images: LabelledImages, rows: Array, classes: Sequence[str]) -> str:
    """Return some training images of each class."""
    lines = []
    for label, places in samples(images.y[rows], len(classes)).items():
        cells = "".join(
            pictures.img(images.x[rows[place]], f"an image of {page.plain_name(classes[label])}") for place in places
        )
        lines.append(f'<div class="sample"><span>{page.name(classes[label])}</span>{cells}</div>')
    left = len(classes) - len(lines)
    more = f'<p class="soft">… and {page.counted(left, "more class", "more classes")}.</p>' if left > 0 else ""
    return f'<div class="samples">{"".join(lines)}</div>{more}'


def explanation_section(
    images: LabelledImages,
    found: Predictions,
    classes: Sequence[str],
    network: Network,
    preprocessing: Preprocessing,
) -> str:
    """Return the section that shows where the network looked, for some right and some wrong predictions."""
    right = np.flatnonzero(found.answers == found.labels)
    indices = np.linspace(0, len(right) - 1, min(MOST_EXPLAINED, len(right))).astype(int)
    chosen = [*found.wrong[:MOST_EXPLAINED].tolist(), *right[indices].tolist()]
    pairs = [(place, int(found.answers[place]), int(found.labels[place])) for place in chosen]
    # one image at a time, since the outputs of all layers are kept
    maps = {
        (place, label): explanation.explain(
            network, preprocessing.normalize(images.x[found.rows[[place]]]), np.array([label])
        )[0]
        for place, *both in pairs
        for label in dict.fromkeys(both)
    }
    most = max((float(one.max()) for one in maps.values()), default=0.0) or 1.0
    cards = []
    for place, answer, label in pairs:
        image = images.x[found.rows[place]]
        shown = [pictures.img(image, f"an image of {page.plain_name(classes[label])}")]
        shown += [
            pictures.img(
                pictures.overlay(image, maps[place, which] / most), f"evidence for {page.plain_name(classes[which])}"
            )
            for which in dict.fromkeys((answer, label))
        ]
        true, taken = page.name(classes[label]), page.name(classes[answer])
        words = (
            f'<span class="good">{true}, recognised</span>'
            if answer == label
            else f'<span class="bad">{true}, predicted as {taken}</span>'
            f'<span class="soft">middle: evidence for {taken}; right: for {true}</span>'
        )
        cards.append(f'<div class="maps">{"".join(shown)}</div>{words}')
    how = (
        "The maps are those of Grad-CAM: how much each place in the last convolution's output raises a class's score"
        if explanation.explained(network) != INPUT
        else "No convolution lies on every way through the network, so the maps show how much each pixel changes the "
        "score of a class"
    )
    note = (
        "Beside each image, the evidence in it for a class, on one scale for all. Check whether the network looks at "
        "the object, or at the background, a scale bar or the image's edge."
    )
    scale = pictures.scale("no evidence", "the strongest")
    return page.section("Where it looked", scale, page.gallery(cards, "wide"), note=note, more=f"{how}.")
