"""What the filters of a network respond to: where in one image, and which parts of many images most."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from xpcnn.data import LabelledImages, Preprocessing
from xpcnn.program.network import Network
from xpcnn.report import explanation, page, pictures

Array = np.ndarray[Any, Any]

#: The convolutions and filters to show, and the parts of images of each.
MOST_CONVOLUTIONS, MOST_FILTERS, MOST_PARTS = 3, 7, 3
#: The images to search for these parts; each takes a forward pass, of which a large network makes few in a second.
MOST_SEARCHED = 8


def filters_section(
    network: Network, images: LabelledImages, rows: Array, preprocessing: Preprocessing, what: str
) -> str:
    """Return the section, or nothing without a convolution.

    rows: the images to show, the first as an example; it is of the class ``what``.
    """
    rows = searched(rows)
    # one image at a time, since the outputs of all layers are kept
    first, *others = ([*_maps(network, preprocessing.normalize(images.x[[row]]))] for row in rows)
    if not first:
        return ""
    image = pictures.img(images.x[rows[0]], f"an image of {page.plain_name(what)}")
    parts = []
    for number, (name, maps) in enumerate(first):
        every = [maps, *(other[number][1] for other in others)]
        filters = np.argsort(-maps.max(axis=(1, 2)), kind="stable")[:MOST_FILTERS]
        most = float(maps.max())
        cards = [f"{image}<span>the image</span>"]
        for filter_ in filters.tolist():
            response = pictures.img(
                pictures.heat(maps[filter_], most), f"response of filter {filter_ + 1} of {page.text(name)}"
            )
            strongest = np.argsort([-one[filter_].max() for one in every], kind="stable")[:MOST_PARTS]
            seen = "".join(
                pictures.img(part(images.x[rows[place]], every[place][filter_]), "a part of an image it responds to")
                for place in strongest.tolist()
            )
            cards.append(f'{response}<div class="maps">{seen}</div><span>filter {filter_ + 1}</span>')
        size = f"{len(filters)} of {len(maps)} filters, {maps.shape[1]} by {maps.shape[2]}"
        parts.append(f"<h3>{page.text(name)} <span class='soft'>({size})</span></h3>{page.strip(cards)}")
    note = (
        f"Where filters of {page.counted(len(first), 'convolution')} respond to one image ({page.name(what)}), and "
        f"below each the parts of {page.counted(len(rows), 'image')} to which it responds most. The first convolution "
        "finds edges and colours, later ones larger and more specific structures."
    )
    scale = pictures.scale("no response", "the strongest in the row")
    return page.section("Filters", scale, *parts, note=note)


def searched(rows: Array) -> Array:
    """Return the images to search, some of these, evenly spaced."""
    found: Array = rows[np.linspace(0, len(rows) - 1, min(MOST_SEARCHED, len(rows))).astype(int)]
    return found


def _maps(network: Network, x: Array) -> list[tuple[str, Array]]:
    """Return the outputs of the first, the last and convolutions between them, those that have more than one place."""
    every = [one for one in explanation.feature_maps(network, x) if one[1].shape[1:] != (1, 1)]
    shown = np.linspace(0, len(every) - 1, min(len(every), MOST_CONVOLUTIONS)).round().astype(int)
    return [every[number] for number in shown]


def part(image: Array, response: Array) -> Array:
    """Return the square part of an image, (channels, height, width), around the strongest place of a map of it.

    It has a quarter of the image's shorter side, or four places of the map if these are larger.
    """
    _, height, width = image.shape
    rows, columns = response.shape
    least = min(height, width)
    side = min(least, math.ceil(max(least / 4, 4 * height / rows, 4 * width / columns)))
    row, column = np.unravel_index(response.argmax(), response.shape)
    top = _start((row + 0.5) * height / rows, side, height)
    left = _start((column + 0.5) * width / columns, side, width)
    return image[:, top : top + side, left : left + side]


def _start(middle: float, side: int, length: int) -> int:
    """Return where a piece around ``middle`` starts that lies within a length."""
    return min(max(0, round(middle - side / 2)), length - side)
