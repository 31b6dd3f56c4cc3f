"""The small sections of a report: key metrics, curves, data, task, environment."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xpcnn import metrics as metrics_
from xpcnn.data import Decoding
from xpcnn.report import curves, page, results
from xpcnn.report.results import percent
from xpcnn.report.run import PARTS, Epochs, Run, number
from xpcnn.version import __version__

#: The most epochs in the table, the last ones.
MOST_EPOCHS = 200
#: The most columns of it, and the most arguments to list.
MOST_COLUMNS, MOST_TOLD = 20, 100
#: More skipped files than this are collapsed.
FEW_SKIPPED = 10
#: The fields of args.json besides the arguments that the page shows in another place.
_NO_ARGUMENTS = ("version", "computed_by", "classes", "environment", "decoding", "copies", "several_labels")


def tiles(run: Run, epochs: Epochs, metrics: Mapping[str, Any]) -> str:
    """Return the key metrics at the top of the page; ``metrics`` are those of metrics.json, if any."""
    told = []
    for part in ("test", "validation"):
        accuracy = measured(metrics, part, "accuracy")
        if accuracy is not None:
            told.append((f"{part} accuracy{_within(accuracy, run.part(part))}", percent(accuracy)))
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
    return page.section("What to improve", *(f"<p>{page.text(line)}</p>" for line in advice)) if advice else ""


def curves_section(epochs: Epochs, best: int | None) -> str:
    """Return the section of loss and accuracy; an unknown ``best`` epoch is taken to be that of the smallest loss."""
    columns = epochs.columns
    if best is None and columns.get("val_loss"):
        best = epochs.numbers[int(np.argmin(np.nan_to_num(columns["val_loss"], nan=np.inf)))]
    drawn = []
    for name in ("loss", "accuracy", "multilabel_f1"):
        of_parts = {"training": name, "validation": f"val_{name}"}
        lines = {part: columns[column] for part, column in of_parts.items() if column in columns}
        if lines:
            drawn.append(page.figure(curves.curve(name, epochs.numbers, lines, best)))
    note = (
        "Loss measures how wrong the probabilities are, accuracy is the fraction of right predictions. In training, "
        "loss should fall and accuracy rise; if validation, which the network does not learn from, gets worse while "
        "training still gets better, the network is overfitting. Training metrics are measured during learning, with "
        "augmentation, label smoothing and dropout, so the training loss may stay above that of validation."
    )
    names = [*columns][:MOST_COLUMNS]
    rows = [
        (str(epochs.numbers[place]), *(f"{columns[name][place]:.4g}" for name in names))
        for place in range(len(epochs))[-MOST_EPOCHS:]
    ]
    table = page.table("Every epoch", ("epoch", *map(page.name, names)), rows)
    return page.section(
        "How it learned", f'<div class="pair">{"".join(drawn)}</div>', page.folded("The numbers", table), note=note
    )


def data_section(run: Run) -> str:
    """Return the section with the number of images of each class in each part."""
    rows = [
        (page.name(name), *(f"{run.counts[name, part]:,}" for part in PARTS))
        for name in run.classes[: results.MOST_LINES]
    ]
    note = (
        "The network learns from the training part; the validation part chooses the epoch, and the test part is "
        "evaluated once, at the end. Look for classes with far fewer images than others."
    )
    return page.section("The images", page.table("Images of each class", ("class", *PARTS), rows), note=note)


def task_section(run: Run, command: Sequence[str], network: str) -> str:
    """Return the section of what was requested; ``network`` is the list of its layers, if any."""
    asked = [
        (page.name(key.replace("_", " ")), page.name(value, 80))
        for key, value in run.arguments.items()
        if key not in _NO_ARGUMENTS and value is not None
    ][:MOST_TOLD]
    asked += _values(run.arguments.get("decoding"))
    note = "What was requested, and the command that repeats it: the same seed gives the same weights."
    words = (f"<span>{page.text(shlex.quote(word))}</span>" for word in command)
    again = f"<pre>{' '.join(words)}</pre>"
    return page.section("What was trained", page.facts(asked), again, network, note=note)


def _values(decoding: Any) -> list[tuple[str, str]]:
    """Return the mapping of values of more than 8 bits, if args.json has it."""
    try:
        ranges = Decoding.from_json(decoding).ranges
    except ValueError:
        return []
    if ranges is None:
        return []
    told = dict.fromkeys(f"{low:g} to {high:g}" for low, high in ranges)
    return [("values as 0 to 255", page.text(", ".join(told)))]


def skipped_section(run: Run, missing: int) -> str:
    """Return the section of the skipped files; ``missing`` images could not be read again for the report."""
    lost = ""
    if missing:
        count = page.counted(missing, "image")
        lost = f"<p>{count} of the run could not be read again for this report.</p>"
    if not run.skipped_count:
        return page.section("Skipped files", "<p>None: every image could be read.</p>", lost)
    rows = [(page.name(path, 60), page.text(reason[:300])) for path, reason in run.skipped]
    left = run.skipped_count - len(rows)
    more = f'<p class="soft">… and {left:,} more, all in skipped.csv.</p>' if left else ""
    caption = f"{page.counted(run.skipped_count, 'file')} that could not be read"
    note = "These files were skipped. A few do no harm; many from one class or one device are worth investigating."
    table = page.table(caption, ("file", "reason"), rows, texts=2)
    shown = table if len(rows) <= FEW_SKIPPED else page.folded(f"The first {len(rows)} of {caption}", table)
    return page.section("Skipped files", shown, more, lost, note=note)


def machine_section(run: Run, epochs: Epochs) -> str:
    """Return the section of the time per epoch, and the environment."""
    arguments = run.arguments
    told = []
    seconds = [value for value in epochs.columns.get("seconds", []) if value > 0]
    if seconds:
        middle = float(np.median(seconds))
        told.append(("an epoch", f"{_seconds(middle)} (median)"))
        told.append(("speed", f"{run.part('train') / middle:,.0f} training images per second"))
        told.append(("all epochs", _seconds(sum(seconds))))
    environment = arguments.get("environment")
    environment = environment if isinstance(environment, dict) else {}
    told.append(("computed by", page.name(arguments.get("computed_by"))))
    told.append(("trained with", f"xpcnn {page.name(arguments.get('version'))}"))
    told += [(page.name(key), page.name(value, 80)) for key, value in [*environment.items()][:MOST_TOLD]]
    told.append(("this report", f"{time.strftime('%Y-%m-%d %H:%M')}, xpcnn {page.text(__version__)}"))
    return page.section("Speed and environment", page.facts(told))


def measured(metrics: Mapping[str, Any], part: str, name: str) -> float | None:
    """Return a part's metric from metrics.json, None if it is missing or not a number."""
    figures = metrics.get(part)
    return number(figures.get(name)) if isinstance(figures, dict) else None


def _seconds(value: float) -> str:
    """Return a duration in words.

    >>> _seconds(0.25), _seconds(75.0), _seconds(7300.0)
    ('0.25 s', '1 min 15 s', '2 h 1 min')
    """
    if value < 60:
        return f"{value:.2g} s" if value < 10 else f"{value:.0f} s"
    minutes, seconds = divmod(round(value), 60)
    return f"{minutes} min {seconds} s" if minutes < 60 else f"{minutes // 60:,} h {minutes % 60} min"
