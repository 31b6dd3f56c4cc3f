"""The model's predictions for held-out images: the confusion matrix, metrics of each class, and calibration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from xpcnn import metrics
from xpcnn.report import curves, page
from xpcnn.report.run import Run

Array = np.ndarray[Any, Any]

#: Up to this many classes the matrix suffices; with more, the most confused pairs are listed too.
MOST_CLASSES_AT_A_GLANCE = 20
#: A matrix with more classes is left out.
MOST_CLASSES_DRAWN = 100
#: The most lines of a table, and the most pairs to list.
MOST_LINES = 1000
MOST_PAIRS = 15


@dataclass
class Predictions:
    """The best model's predictions for a part: its name, the rows of its images, labels (n,), probabilities (n, k).

    thresholds: of each label, if an image may have several; labels are then (n, k) of 0 and 1.
    """

    part: str
    rows: Array
    labels: Array
    probabilities: Array
    thresholds: tuple[float, ...] | None = None

    @property
    def answers(self) -> Array:
        """The most probable class of each image, (n,), or the labels above their thresholds, bool (n, k)."""
        if self.thresholds is not None:
            return np.asarray(self.probabilities > np.array(self.thresholds))
        return np.asarray(self.probabilities.argmax(axis=1))

    @property
    def confidence(self) -> Array:
        """That probability, (n,)."""
        return np.asarray(self.probabilities.max(axis=1))

    @property
    def wrong(self) -> Array:
        """The indices of the wrong predictions, the most confident first."""
        places = np.flatnonzero(self.answers != self.labels)
        return places[np.argsort(-self.confidence[places], kind="stable")]


def percent(share: float) -> str:
    """Return a fraction in per cent with sensible precision and a non-breaking space.

    >>> percent(0.9871), percent(1.0), percent(0.00041)
    ('98.7&nbsp;%', '100&nbsp;%', '0.04&nbsp;%')
    """
    value = 100 * share
    digits = 0 if value in (0, 100) else 1 if value >= 0.1 else 2
    return f"{value:.{digits}f}&nbsp;%"


def classes_section(found: Predictions, run: Run) -> str:
    """Return the section of the confusion matrix, and of precision and recall."""
    classes = run.classes
    matrix = metrics.confusion_matrix(found.labels, found.answers, len(classes))
    count, right = len(found.labels), int(np.trace(matrix))
    low, high = metrics.wilson_interval(right, count)
    verdict = (
        f"<p>{right:,} of {page.counted(count, 'image')} of the {found.part} part are right, {percent(right / count)}. "
        f"On other images like these, expect between {percent(low)} and {percent(high)}.{_most(matrix, classes)}</p>"
    )
    more = (
        "Each row of the matrix holds the images of one class, each column the class predicted for them. Right "
        "predictions are on the diagonal, in blue; look for strong red cells, where the model confuses one class with "
        "another. <b>Recall</b>: the fraction of a class's images that were recognised. <b>Precision</b>: the fraction "
        "of the images predicted as a class that belong to it. F1 is high only if both are. In a class with few images "
        "they can be chance, and then the range that recall is in, with a confidence of 95 %, is wide."
    )
    parts = [_pairs(matrix, classes)] if len(classes) > MOST_CLASSES_AT_A_GLANCE else []
    if len(classes) <= MOST_CLASSES_DRAWN:
        parts.append(_matrix(matrix, classes))
    parts.append(_table(matrix, classes, found.part))
    return page.section("Classes", verdict, f'<div class="beside">{"".join(parts)}</div>', more=more)


def _most(matrix: Array, classes: Sequence[str]) -> str:
    """Return a sentence on the two classes that are confused most often, if any are."""
    wrong = matrix - np.diag(np.diagonal(matrix))
    true, answer = map(int, np.unravel_index(wrong.argmax(), wrong.shape))
    if not (count := int(wrong[true, answer])):
        return ""
    share = percent(count / matrix[true].sum())
    return (
        f" The most frequent confusion: {page.name(classes[true])}, predicted as {page.name(classes[answer])} "
        f"({page.counted(count, 'image')}, {share} of the class)."
    )


def _matrix(matrix: Array, classes: Sequence[str]) -> str:
    """Return the matrix as a table, with fractions of the row as colours and image counts as numbers."""
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
    # The colour jumps between the two kinds of cell, so that dark and light text are both legible.
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
    headings = ("class", "predicted as", "images", "of the class")
    return page.table("The most confused pairs", headings, rows, texts=2) if rows else ""


def _table(matrix: Array, classes: Sequence[str], part: str) -> str:
    """Return the table of precision and recall."""
    figures = metrics.per_class(matrix)
    rows = []
    for name, precision, recall, f1, support, right in zip(classes, *figures, matrix.diagonal(), strict=True):
        low, high = metrics.wilson_interval(right, support)
        range_ = f"{low:.2f} to {high:.2f}"
        rows.append((page.name(name), _bar(precision), _bar(recall), range_, f"{f1:.2f}", f"{support:,}"))
    headings = ("class", "precision", "recall", "recall, 95&nbsp;%", "F1", "images")
    return page.table(f"Metrics of each class, on the {part} part", headings, rows[:MOST_LINES])


def labels_section(found: Predictions, run: Run) -> str:
    """Return the section of each label, of images that may have several."""
    assert found.thresholds is not None
    figures = metrics.per_label(found.labels, found.answers)
    ranked = metrics.average_precision(found.labels, found.probabilities)
    rows = [
        (page.name(name), _bar(p), _bar(r), f"{f1:.2f}", "—" if np.isnan(a) else f"{a:.2f}", f"{t:.3f}", f"{n:,}")
        for name, p, r, f1, n, a, t in zip(run.classes, *figures, ranked, found.thresholds, strict=True)
    ]
    right = int((found.answers == (found.labels > 0.5)).all(axis=1).sum())
    verdict = (
        f"<p>All labels are right for {right:,} of {page.counted(len(found.labels), 'image')} of the {found.part} "
        f"part, {percent(right / len(found.labels))}.</p>"
    )
    note = (
        "A label is given to an image if its probability is above the label's threshold, which has the highest F1 on "
        "the validation part. <b>Recall</b>: the fraction of the images with a label that were given it. "
        "<b>Precision</b>: the fraction of the images given a label that have it. Average precision is that of all "
        "thresholds. Look for short bars; for a label with few images they can be chance."
    )
    headings = ("label", "precision", "recall", "F1", "average precision", "threshold", "images")
    caption = f"Metrics of each label, on the {found.part} part"
    return page.section(
        "How well each label is recognised", verdict, page.table(caption, headings, rows[:MOST_LINES]), note=note
    )


def _bar(share: float) -> str:
    return f'{share:.2f}<span class="bar" aria-hidden="true"><i style="width:{100 * share:.0f}%"></i></span>'


def calibration_section(found: Predictions, error: float | None, temperature: float | None) -> str:
    """Return the section of how reliable the probabilities are, with the metrics that the run has measured."""
    told = []
    if error is not None:
        told.append(f"calibration error {percent(error)}")
    if temperature is not None:
        told.append(f"temperature {temperature:g}")
    note = "The closer the bars are to the dotted line, the more literally you can take a probability."
    more = (
        "Each bar stands for the predictions of about the same probability; its height is the fraction of them that is "
        "right, and the number above it is how many they are. The expected calibration error is the mean distance of "
        "the bars from the dotted line. The temperature fits the probabilities to the validation part: above 1 the "
        "network was overconfident, below 1 underconfident."
    )
    drawn = curves.reliability(found.confidence, found.answers == found.labels)
    body = f'<div class="pair">{page.figure(drawn, ", ".join(told))}</div>'
    return page.section("Calibration", body, note=note, more=more)
