"""The small sections of a report: key metrics, advice, curves, images, skipped files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xpcnn import metrics as metrics_
from xpcnn.report import curves, page, results
from xpcnn.report.results import percent
from xpcnn.report.run import PARTS, Epochs, Run, number

#: What the metric multilabel_f1 is called on the page.
F1 = "macro F1"
#: The most epochs in the table, the last ones.
MOST_EPOCHS = 200
#: The most columns of it.
MOST_COLUMNS = 20
#: More skipped files than this are collapsed.
FEW_SKIPPED = 10


def tiles(run: Run, epochs: Epochs, metrics: Mapping[str, Any]) -> str:
    """Return the key metrics at the top of the page; ``metrics`` are those of metrics.json, if any."""
    told = []
    for part in ("test", "validation"):
        f1, accuracy = measured(metrics, part, "f1"), measured(metrics, part, "accuracy")
        if run.several_labels and f1 is not None:
            told.append((f"{part} {F1}", f"{f1:.3f}"))
        if accuracy is not None:
            what = f"{part} images with all labels right" if run.several_labels else f"{part} accuracy"
            told.append((f"{what}{_within(accuracy, run.part(part))}", percent(accuracy)))
    if not told and epochs.columns.get("val_multilabel_f1"):
        told.append((f"validation {F1}", f"{epochs.columns['val_multilabel_f1'][-1]:.3f}"))
    if not told and epochs.columns.get("val_accuracy"):
        accuracy = epochs.columns["val_accuracy"][-1]
        told.append((f"validation accuracy{_within(accuracy, run.part('validation'))}", percent(accuracy)))
    total = run.total
    by_class = [sum(run.counts[name, part] for part in PARTS) for name in run.classes]
    told.append((f"images in {page.counted(len(run.classes), 'class', 'classes')}", f"{total:,}"))
    if total and not run.several_labels:
        told.append(("by always predicting the largest class", percent(max(by_class) / total)))
    return page.tiles(told)


def _within(accuracy: float, count: int) -> str:
    """Return the 95 % interval of an accuracy that was measured on ``count`` images, if it can be one of them."""
    if not count or not 0 <= accuracy <= 1:
        return ""
    low, high = metrics_.wilson_interval(round(accuracy * count), count)
    return f" (95&nbsp;%: {percent(low)} to {percent(high)})"


def advice_section(advice: Sequence[str]) -> str:
    """Return the section of what to do about the run, empty if nothing."""
    lines = "".join(f"<p>{page.text(line)}</p>" for line in advice)
    return page.section("Advice", f'<div class="advice">{lines}</div>') if advice else ""


def curves_section(epochs: Epochs, best: int | None) -> str:
    """Return the section of loss and accuracy; an unknown ``best`` epoch is taken to be that of the smallest loss."""
    columns = epochs.columns
    if best is None and columns.get("val_loss"):
        best = epochs.numbers[int(np.argmin(np.nan_to_num(columns["val_loss"], nan=np.inf)))]
    figures, several = [], "multilabel_f1" in columns
    for name in ("loss", "multilabel_f1" if several else "accuracy"):
        of_parts = {"training": name, "validation": f"val_{name}"}
        lines = {part: columns[column] for part, column in of_parts.items() if column in columns}
        if lines:
            figures.append(page.figure(curves.curve(name.replace("multilabel_f1", F1), epochs.numbers, lines, best)))
    note = (
        f"Loss should fall and {F1 if several else 'accuracy'} rise. If validation, which the network does not learn "
        "from, gets worse while training still gets better, the network is overfitting."
    )
    measure = (
        f"{F1} is the mean of all labels' F1, of labels with a probability above 0.5"
        if several
        else "accuracy is the fraction of right predictions"
    )
    more = (
        f"Loss measures how wrong the probabilities are, {measure}. Training metrics are measured during learning, "
        "with augmentation, label smoothing and dropout, so the training loss may stay above that of validation."
    )
    names = [*columns][:MOST_COLUMNS]
    rows = [
        (str(epochs.numbers[place]), *(f"{columns[name][place]:.4g}" for name in names))
        for place in range(len(epochs))[-MOST_EPOCHS:]
    ]
    table = page.table("Every epoch", ("epoch", *map(page.name, names)), rows)
    drawn = f'<div class="pair">{"".join(figures)}</div>'
    return page.section("Learning curves", drawn, page.folded("The numbers", table), note=note, more=more)


def images_section(run: Run, samples: str) -> str:
    """Return the section of the images: ``samples`` of them, and the number of each class in each part."""
    rows = [
        (page.name(name), *(f"{run.counts[name, part]:,}" for part in PARTS))
        for name in run.classes[: results.MOST_LINES]
    ]
    note = (
        "Some training images of each class, in the size and colours of the network's input. Look for images in the "
        "wrong folder, and whether you could distinguish the classes yourself at this size."
    )
    more = (
        "The network learns from the training part; the validation part chooses the epoch, and the test part is "
        "evaluated once, at the end. Of images of more than three channels, the first three are shown as red, green "
        "and blue."
    )
    table = page.table("Images of each class", ("class", *PARTS), rows)
    counts = page.folded(f"The number of images of each class{_extremes(run)}", table)
    return page.section("Images", samples, counts, note=note if samples else "", more=more)


def _extremes(run: Run) -> str:
    """Return how many images the smallest and the largest class have."""
    totals = {name: sum(run.counts[name, part] for part in PARTS) for name in run.classes}
    if not totals or not any(totals.values()):
        return ""
    least, most = min(totals, key=totals.__getitem__), max(totals, key=totals.__getitem__)
    if totals[least] == totals[most]:
        return f": {totals[least]:,} each"
    return f": from {totals[least]:,} ({page.name(least)}) to {totals[most]:,} ({page.name(most)})"


def skipped_section(run: Run, missing: int) -> str:
    """Return the section of the skipped files, if any; ``missing`` images could not be read again for the report."""
    count = page.counted(missing, "image")
    lost = f"<p>{count} of the run could not be read again for this report.</p>" if missing else ""
    if not run.skipped_count:
        return page.section("Skipped files", lost) if lost else ""
    rows = [(page.name(path, 60), page.text(reason[:300])) for path, reason in run.skipped]
    left = run.skipped_count - len(rows)
    more = f'<p class="soft">… and {left:,} more, all in skipped.csv.</p>' if left else ""
    caption = f"{page.counted(run.skipped_count, 'file')} that could not be read"
    note = "These files were skipped. A few do no harm; many from one class or one device are worth investigating."
    table = page.table(caption, ("file", "reason"), rows, texts=2)
    shown = table if len(rows) <= FEW_SKIPPED else page.folded(f"The first {len(rows)} of {caption}", table)
    return page.section("Skipped files", shown, more, lost, note=note)


def measured(metrics: Mapping[str, Any], part: str, name: str) -> float | None:
    """Return a part's metric from metrics.json, None if it is missing or not a number."""
    figures = metrics.get(part)
    return number(figures.get(name)) if isinstance(figures, dict) else None
