"""The images of a report: data, mistakes, explanations, filters and feature maps."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from xpcnn.data import LabelledImages, Preprocessing
from xpcnn.layers import Conv2D
from xpcnn.program.network import Network
from xpcnn.program.program import INPUT
from xpcnn.report import explanation, page, pictures
from xpcnn.report.results import Predictions, percent

Array = np.ndarray[Any, Any]

#: The most pictures of each kind.
MOST_SAMPLES, MOST_CLASSES_SAMPLED, MOST_OF_A_CLASS = 60, 20, 6
MOST_MISTAKES = 24
MOST_EXPLAINED = 4
MOST_FILTERS, MOST_MAPS, MOST_CONVOLUTIONS = 32, 16, 6


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


def samples_section(images: LabelledImages, rows: Array, classes: Sequence[str]) -> str:
    """Return the section with some training images of each class."""
    lines = []
    for label, places in samples(images.y[rows], len(classes)).items():
        cells = "".join(
            pictures.img(images.x[rows[place]], f"an image of {page.plain_name(classes[label])}") for place in places
        )
        lines.append(f'<div class="samples"><span>{page.name(classes[label])}</span>{cells}</div>')
    left = len(classes) - len(lines)
    if left > 0:
        lines.append(f'<p class="soft">… and {page.counted(left, "more class", "more classes")}.</p>')
    note = (
        "Some training images of each class, in the size and colours of the network's input; of more than three "
        "channels, the first three as red, green and blue. Look for images in the wrong folder, and whether you could "
        "distinguish the classes yourself at this size."
    )
    return page.section("A sample of the data", *lines, note=note)


def mistakes_section(images: LabelledImages, found: Predictions, classes: Sequence[str]) -> str:
    """Return the section of the worst mistakes: the most confident wrong predictions first."""
    wrong = found.wrong
    if len(wrong) == 0:
        return page.section("The worst mistakes", f"<p>There are none: the whole {found.part} part is right.</p>")
    cards = []
    for place in wrong[:MOST_MISTAKES].tolist():
        row, answer = int(found.rows[place]), int(found.answers[place])
        true = int(found.labels[place])
        alt = f"{page.plain_name(classes[true])}, predicted as {page.plain_name(classes[answer])}"
        cards.append(
            f"{pictures.img(images.x[row], alt)}"
            f'<span>{page.name(classes[true])}</span><span class="bad">predicted as {page.name(classes[answer])}, '
            f'{percent(float(found.confidence[place]))}</span><span class="soft file">{source(images, row)}</span>'
        )
    note = (
        "The wrong predictions of which the model was most confident, with the true class, the predicted class and its "
        "probability, and the file. Look for wrong labels, for two objects in one image, and for what several of them "
        "have in common."
    )
    left = len(wrong) - len(cards)
    more = f'<p class="soft">… and {page.counted(left, "more mistake")}.</p>' if left else ""
    return page.section("The worst mistakes", page.gallery(cards), more, note=note)


def source(images: LabelledImages, row: int) -> str:
    """Return the file name of an image, with its whole path in the title, or its index in the dataset."""
    if images.paths is None or images.paths[row] is None:
        return f"image {row}"
    path = os.fspath(images.paths[row])
    return f'<span title="{page.text(path[:1000])}">{page.name(os.path.basename(path), 28)}</span>'


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
    x = preprocessing.normalize(images.x[found.rows[chosen]])
    answers, labels = found.answers[chosen], found.labels[chosen]
    # one image at a time, since the outputs of all layers are kept
    for_answer = [explanation.explain(network, x[[n]], answers[[n]])[0] for n in range(len(x))]
    for_label = [explanation.explain(network, x[[n]], labels[[n]])[0] for n in range(len(x))]
    cards = []
    for place, (answer, label) in enumerate(zip(answers.tolist(), labels.tolist(), strict=True)):
        image = images.x[found.rows[chosen[place]]]
        shown = [pictures.img(image, f"an image of {page.plain_name(classes[label])}")]
        maps = {answer: for_answer[place], label: for_label[place]}
        shown += [
            pictures.img(pictures.overlay(image, weight), f"evidence for {page.plain_name(classes[which])}")
            for which, weight in maps.items()
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
        "The first picture is the image itself. In the others, bright and coloured places are the strongest evidence "
        "for the named class, and grey ones do not matter. Check whether the network looks at the object, or at the "
        f"background, a scale bar or the image's edge. {how}."
    )
    return page.section("Where the network looked", page.gallery(cards, "wide"), note=note)


def filters_section(network: Network) -> str:
    """Return the section of the first convolution's filters, or nothing without one."""
    first = next((node.layer for node in network.nodes if isinstance(node.layer, Conv2D)), None)
    if first is None:
        return ""
    weight = network.layout.views(network.parameters)[f"{first.name}.weight"]
    in_color = weight.shape[1] == 3
    most = float(np.abs(weight).max()) or 1.0
    cards = [
        pictures.img(pictures.stretched(one) if in_color else pictures.signed(one.mean(axis=0), most), f"filter {n}")
        for n, one in enumerate(weight[:MOST_FILTERS], start=1)
    ]
    how = (
        "The colours of a filter are those that it responds to most"
        if in_color
        else "A filter responds where an image is bright under red and dark under blue"
    )
    note = (
        f"The small patterns that {page.text(first.name)}, the first convolution, detects anywhere in an image. {how}. "
        "Look for edges, spots and colours; filters that look alike, or like noise, have learned nothing."
    )
    return page.section("The first filters", page.gallery(cards, "small"), _left(len(weight), MOST_FILTERS), note=note)


def maps_section(network: Network, image: Array, preprocessing: Preprocessing, what: str) -> str:
    """Return the section of the convolutions' outputs for one image, uint8 (channels, height, width)."""
    found = explanation.feature_maps(network, preprocessing.normalize(image[np.newaxis]))
    every = [(name, channels) for name, channels in found if channels.shape[1:] != (1, 1)]  # gates have one cell
    if not every:
        return ""
    shown = np.linspace(0, len(every) - 1, min(len(every), MOST_CONVOLUTIONS)).round().astype(int)
    maps = [every[number] for number in shown]
    parts = [page.gallery([pictures.img(image, f"an image of {page.plain_name(what)}")], "small")]
    for name, channels in maps:
        cards = [
            pictures.img(pictures.heat(np.maximum(one, 0)), f"channel {n} of {page.text(name)}")
            for n, one in enumerate(channels[:MOST_MAPS], start=1)
        ]
        size = f"{channels.shape[1]} by {channels.shape[2]}"
        parts.append(f"<h3>{page.text(name)} <span class='soft'>({len(channels)} channels of {size})</span></h3>")
        parts += [page.gallery(cards, "small"), _left(len(channels), MOST_MAPS)]
    which = "each convolution" if len(maps) == len(every) else f"{len(maps)} of {len(every)} convolutions"
    note = (
        f"The output of {which} for one image ({page.name(what)}), brighter where a filter responds more. See "
        "how outlines become coarser and more abstract; maps that are all black never respond to this image."
    )
    return page.section("One image on its way through the network", *parts, note=note)


def _left(count: int, most: int) -> str:
    return f'<p class="soft">… and {count - most:,} more.</p>' if count > most else ""
