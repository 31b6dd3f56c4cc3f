"""What a model answers for images kept aside: the confusion matrix, figures of each class, how sure it was."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from xpcnn import metrics
from xpcnn.report import curves, page
from xpcnn.report.run import Run

Array = np.ndarray[Any, Any]

#: Up to so many classes the matrix says all; with more the most confused pairs are listed too.
MOST_CLASSES_AT_A_GLANCE = 20
#: A matrix of more classes is left out.
MOST_CLASSES_DRAWN = 100
#: Lines of a table at most, and pairs that are listed.
MOST_LINES = 1000
MOST_PAIRS = 15


@dataclass
class Predictions:
    """What the best model answers for a part: its name, the rows of its images, labels (n,), probabilities (n, k)."""

    part: str
    rows: Array
    labels: Array
    probabilities: Array

    @property
    def answers(self) -> Array:
        """The class with the largest probability of each image, (n,)."""
        return np.asarray(self.probabilities.argmax(axis=1))

    @property
    def confidence(self) -> Array:
        """That probability, (n,)."""
        return np.asarray(self.probabilities.max(axis=1))

    @property
    def wrong(self) -> Array:
        """The places of the wrong answers, the surest first."""
        places = np.flatnonzero(self.answers != self.labels)
        return places[np.argsort(-self.confidence[places], kind="stable")]


def percent(share: float) -> str:
    """Return a share in per cent, as precise as it is worth reading, that no line's end can cut.

    >>> percent(0.9871), percent(1.0), percent(0.00041)
    ('98.7&nbsp;%', '100&nbsp;%', '0.04&nbsp;%')
    """
    value = 100 * share
    digits = 0 if value in (0, 100) else 1 if value >= 0.1 else 2
    return f"{value:.{digits}f}&nbsp;%"


def interval(right: int, count: int) -> tuple[float, float]:
    """Return between which shares the true one lies with 95 % (Wilson, 1927), for ``right`` of ``count`` images.

    >>> [round(bound, 2) for bound in interval(9, 10)]
    [0.6, 0.98]
    """
    z = 1.96
    share, correction = right / count, z * z / count
    middle = (share + correction / 2) / (1 + correction)
    half = z * math.sqrt(share * (1 - share) / count + correction / (4 * count)) / (1 + correction)
    return max(0.0, middle - half), min(1.0, middle + half)


def confusion_section(found: Predictions, classes: Sequence[str]) -> str:
    """Return the section of the confusion matrix."""
    matrix = metrics.confusion_matrix(found.labels, found.answers, len(classes))
    count, right = len(found.labels), int(np.trace(matrix))
    low, high = interval(right, count)
    note = (
        "Each row holds the images of one class, each column what the model took them for. Right answers stand on the "
        "diagonal, in blue; look for strong red cells: there the model takes one class for another."
    )
    verdict = (
        f"<p>{right:,} of {page.counted(count, 'image')} of the {found.part} part are right, {percent(right / count)}. "
        f"On other images like these, expect between {percent(low)} and {percent(high)}.</p>"
    )
    parts = [verdict]
    if len(classes) > MOST_CLASSES_AT_A_GLANCE:
        parts.append(_pairs(matrix, classes))
    if len(classes) <= MOST_CLASSES_DRAWN:
        parts.append(_matrix(matrix, classes))
    return page.section("Which classes are confused", *parts, note=note)


def _matrix(matrix: Array, classes: Sequence[str]) -> str:
    """Return the matrix as a table: its colours are shares of the row, its numbers counts of images."""
    names = [page.name(name, 24) for name in classes]
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    lines = []
    for row, name in enumerate(names):
        total = max(1, int(matrix[row].sum()))
        cells = "".join(_cell(int(n), n / total, row == column) for column, n in enumerate(matrix[row].tolist()))
        lines.append(f'<tr><th scope="row">{name}</th>{cells}</tr>')
    tall = " tall" if len(classes) > MOST_CLASSES_AT_A_GLANCE else ""
    turned = ' class="turned"' if max(map(len, classes)) > 3 else ""
    return (
        f'<div class="scroll matrix{tall}" tabindex="0"><table{turned}><caption>Rows: true class. Columns: '
        f"answer.</caption><thead><tr><td></td>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def _cell(count: int, share: float, right: bool) -> str:
    if count == 0:
        return "<td></td>"
    # Between the two kinds of cell the colour jumps, so that dark and light writing are both easy to read.
    strong = share >= 0.5
    depth = 0.75 + 0.25 * share if strong else 0.1 + 0.4 * share
    colour = "right" if right else "wrong"
    kind = ' class="strong"' if strong else ""
    return f'<td{kind} style="background:rgba(var(--{colour}-cell),{depth:.2f})">{count}</td>'


def _pairs(matrix: Array, classes: Sequence[str]) -> str:
    wrong = matrix - np.diag(np.diagonal(matrix))
    order = np.argsort(-wrong, axis=None, kind="stable")[:MOST_PAIRS]
    rows = []
    for true, answer in zip(*np.unravel_index(order, wrong.shape), strict=True):
        if wrong[true, answer]:
            share = percent(wrong[true, answer] / matrix[true].sum())
            rows.append((page.name(classes[true]), page.name(classes[answer]), str(wrong[true, answer]), share))
    headings = ("class", "taken for", "images", "of the class")
    return page.table("The most confused pairs", headings, rows, texts=2) if rows else ""


def classes_section(found: Predictions, run: Run) -> str:
    """Return the section of precision and recall."""
    matrix = metrics.confusion_matrix(found.labels, found.answers, len(run.classes))
    figures = metrics.per_class(matrix)
    rows = []
    for name, precision, recall, f1, support in zip(run.classes, *figures, strict=True):
        rows.append((page.name(name), _bar(precision), _bar(recall), f"{f1:.2f}", f"{support:,}"))
    note = (
        "<b>Recall</b>: of the images of a class, the share that was recognised. <b>Precision</b>: of the images that "
        "were taken for a class, the share that is of it. F1 is high only if both are. Look for short bars; a class "
        "with few images can have them by chance."
    )
    headings = ("class", "precision", "recall", "F1", "images")
    caption = f"Figures of each class, on the {found.part} part"
    return page.section(
        "How well each class is recognised", page.table(caption, headings, rows[:MOST_LINES]), note=note
    )


def _bar(share: float) -> str:
    return f'{share:.2f}<span class="bar" aria-hidden="true"><i style="width:{100 * share:.0f}%"></i></span>'


def calibration_section(found: Predictions, error: float | None, temperature: float | None) -> str:
    """Return the section of how far probabilities can be trusted, with figures as far as the run has measured them."""
    told = []
    if error is not None:
        told.append(("expected calibration error", percent(error)))
    if temperature is not None:
        told.append(("temperature, found on the validation part", f"{temperature:g}"))
    note = (
        "Each bar holds the answers that were given with about the same probability; its height is the share of them "
        "that is right, the number above it how many they are. The nearer the bars are to the dotted line, the more "
        "literally a probability can be taken; the calibration error is their mean distance from it. The temperature "
        "has been set for that: above 1 the network was too sure of itself, below 1 not sure enough."
    )
    drawn = curves.reliability(found.confidence, found.answers == found.labels)
    body = f'<div class="pair">{page.figure(drawn)}{page.facts(told)}</div>'
    return page.section("How far its probabilities can be trusted", body, note=note)
