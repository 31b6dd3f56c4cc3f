"""The wrong predictions of a model, the most confident first, with a filter by class that needs no script."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence

import numpy as np

from xpcnn.data import LabelledImages
from xpcnn.report import page, pictures
from xpcnn.report.results import Predictions, percent

#: The mistakes to show of all classes, the most of each class and in total, and the most classes to filter by.
MOST_AT_FIRST, MOST_OF_A_CLASS, MOST, MOST_CLASSES = 12, 8, 48, 20


def mistakes_section(images: LabelledImages, found: Predictions, classes: Sequence[str]) -> str:
    """Return the section of the mistakes."""
    wrong = found.wrong.tolist()
    if not wrong:
        return page.section("Mistakes", f"<p>There are none: the whole {found.part} part is right.</p>")
    places = shown(found)
    cards = "".join(_card(images, found, place, classes, number) for number, place in enumerate(places))
    of_class = Counter(found.labels[wrong].tolist())
    offered = [label for label, _ in of_class.most_common(MOST_CLASSES) if label in found.labels[places]]
    filters = _filters({label: of_class[label] for label in sorted(offered)}, classes, len(wrong))
    hint = " Choose a class to see its most confident ones." if filters else ""
    left = f" There are {len(wrong):,}.{hint}" if len(wrong) > MOST_AT_FIRST else ""
    note = (
        "The wrong predictions of which the model was most confident. Look for wrong labels, for two objects in one "
        f"image, and for what several of them have in common.{left}"
    )
    return page.section("Mistakes", filters, f'<ul class="gallery">{cards}</ul>', note=note)


def shown(found: Predictions) -> list[int]:
    """Return the mistakes to show, the most confident first, but not too many of one class."""
    wrong: list[int] = found.wrong.tolist()
    chosen = wrong[:MOST_AT_FIRST]
    each = max(1, min(MOST_OF_A_CLASS, (MOST - MOST_AT_FIRST) // max(1, len(np.unique(found.labels[wrong])))))
    of_class = Counter(found.labels[chosen].tolist())
    for place in wrong[MOST_AT_FIRST:]:
        label = int(found.labels[place])
        if of_class[label] < each and len(chosen) < MOST:
            of_class[label] += 1
            chosen.append(place)
    return chosen


def _card(images: LabelledImages, found: Predictions, place: int, classes: Sequence[str], number: int) -> str:
    row, label, answer = int(found.rows[place]), int(found.labels[place]), int(found.answers[place])
    alt = f"{page.plain_name(classes[label])}, predicted as {page.plain_name(classes[answer])}"
    later = ' class="later"' if number >= MOST_AT_FIRST else ""
    return (
        f'<li data-class="{label}"{later}>{pictures.img(images.x[row], alt)}<span>{page.name(classes[label])}</span>'
        f'<span class="bad">predicted as {page.name(classes[answer])}, {percent(float(found.confidence[place]))}</span>'
        f'<span class="soft file">{source(images, row)}</span></li>'
    )


def _filters(counts: dict[int, int], classes: Sequence[str], total: int) -> str:
    """Return a choice of a true class, whose mistakes alone are then shown; nothing if there is only one."""
    if len(counts) < 2:
        return ""
    choices = [("all", "all", total), *((str(label), page.name(classes[label], 24), n) for label, n in counts.items())]
    labels = "".join(
        f'<label><input type="radio" name="mistakes" value="{value}"{" checked" if value == "all" else ""}>'
        f'{name} <span class="soft">{count:,}</span></label>'
        for value, name, count in choices
    )
    rules = "".join(
        f'section:has(input[value="{label}"]:checked) li:not([data-class="{label}"]){{display:none}}'
        for label in counts
    )
    return f'<fieldset class="filter"><legend>True class</legend>{labels}</fieldset><style>{rules}</style>'


def source(images: LabelledImages, row: int) -> str:
    """Return the file name of an image, with its whole path in the title, or its index in the dataset."""
    if images.paths is None or images.paths[row] is None:
        return f"image {row}"
    path = os.fspath(images.paths[row])
    return f'<span title="{page.text(path[:1000])}">{page.name(os.path.basename(path), 28)}</span>'
