"""The comparison of runs: one self-contained HTML page in the style of their reports."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from xpcnn.data.names import nfc
from xpcnn.report import curves, page
from xpcnn.report.paired import SIGNIFICANT, Finished, Pair
from xpcnn.report.results import MOST_LINES, percent
from xpcnn.version import __version__

#: The most runs whose lines can be told apart.
MOST_RUNS = 8
#: Longer names of runs are shortened in tables.
MOST_CHARACTERS = 24
#: The most settings to list.
MOST_SETTINGS = 100
#: The fields of args.json that are not compared.
_NO_SETTINGS = ("classes",)


def write_up(runs: list[Finished], pairs: list[Pair]) -> str:
    """Return the page that compares 2 to 8 runs of the same classes; pairs: as :func:`~xpcnn.report.paired.pairs`."""
    title = f"Comparison of {len(runs)} runs"
    status = f"{time.strftime('%Y-%m-%d %H:%M')}, xpcnn {page.text(__version__)}."
    reached = [labels_section(runs)] if runs[0].run.several_labels else [accuracy_section(runs)]
    body = [*reached, pairs_section(runs, pairs), curves_section(runs), settings_section(runs)]
    return page.page(title, status, "finished", "".join(body))


def accuracy_section(runs: list[Finished]) -> str:
    """Return the section of what each run reached."""
    rows = []
    for place, one in enumerate(runs, 1):
        interval = one.interval()
        between = "—" if interval is None else f"{percent(interval[0])} to {percent(interval[1])}"
        test, loss, validation = (
            one.figure(*which) for which in (("test", "accuracy"), ("test", "loss"), ("validation", "accuracy"))
        )
        rows.append(
            (
                _label(place, one),
                *(("—" if test is None else percent(test)), between, f"{one.run.part('test'):,}"),
                "—" if validation is None else percent(validation),
                "—" if loss is None else f"{loss:.4f}",
            )
        )
    headings = ("run", "test accuracy", "95&nbsp;%", "test images", "validation accuracy", "test loss")
    note = (
        "On other images like those of the test part, expect an accuracy within the range, with a confidence of 95 %. "
        "Validation accuracy is too optimistic, since it was used to choose the best epoch."
    )
    return page.section("How accurate they are", page.table("Metrics of each run", headings, rows), note=note)


def labels_section(runs: list[Finished]) -> str:
    """Return the section of what each run reached, over all labels and of each, if an image may have several."""
    rows = []
    for place, one in enumerate(runs, 1):
        f1, right, ranked, loss = (
            one.figure("test", name) for name in ("f1", "accuracy", "mean_average_precision", "loss")
        )
        interval = one.f1_interval()
        rows.append(
            (
                _label(place, one),
                *(_plain(f1), "—" if interval is None else f"{interval[0]:.2f} to {interval[1]:.2f}"),
                *(_plain(ranked), "—" if right is None else percent(right), f"{one.run.part('test'):,}"),
                "—" if loss is None else f"{loss:.4f}",
            )
        )
    headings = (
        "run",
        "macro F1",
        "95&nbsp;%",
        "mean average precision",
        "all labels right",
        "test images",
        "test loss",
    )
    every = [one.f1_of_labels() for one in runs]
    of_labels = [(page.name(name), *(_plain(found.get(nfc(name))) for found in every)) for name in runs[0].run.classes][
        :MOST_LINES
    ]
    note = (
        "F1 is the harmonic mean of precision and recall; macro F1 is its mean over the labels. On other images like "
        "those of the test part, expect it within the range, with a confidence of about 95 %, by the bootstrap. "
        "With few mistakes, or few images of a label, it is too narrow, and without any mistake there is none."
    )
    return page.section(
        "How well they recognise labels",
        page.table("Metrics of each run", headings, rows),
        page.table(
            "Test F1 of each label", ("label", *(_label(place, one) for place, one in enumerate(runs, 1))), of_labels
        ),
        note=note,
    )


def _plain(value: float | None) -> str:
    return "—" if value is None else f"{value:.2f}"


def pairs_section(runs: list[Finished], pairs: list[Pair]) -> str:
    """Return the section of which run is better on the test images that two of them share."""
    labels = {one.name: _label(place, one) for place, one in enumerate(runs, 1)}
    rows = [
        (
            f"{labels[pair.first.name]}<br>{labels[pair.second.name]}",
            '<span class="soft">may be chance</span>' if pair.better is None else labels[pair.better.name],
            page.text(p_value(pair.p)),
            *(f"{count:,}" for count in (pair.shared, pair.both, pair.only_first, pair.only_second)),
        )
        for pair in pairs
        if pair.shared
    ]
    headings = ("two runs", "better", "p", "shared images", "both right", "first alone", "second alone")
    right = "An image is right if all of its labels are. " if runs[0].run.several_labels else ""
    note = right + (
        "Only images that were in the test part of both runs are compared, those with the same content. If both models "
        "were equally good, numbers of images that only one gets right would differ at least as much with probability "
        f"p, by McNemar's exact test; below {SIGNIFICANT}, the difference counts. Of twenty comparisons of equally "
        "good models, about one has such a p by chance: trust a difference that you looked for, not the smallest of "
        "many."
    )
    table = page.table("Every two runs", headings, rows, texts=2) if rows else ""
    left = "".join(f"<p>{page.text(line)}</p>" for line in unpaired(pairs))
    return page.section("Which is better", table, left, note=note)


def unpaired(pairs: list[Pair]) -> Iterator[str]:
    """Yield one line for each run without predictions, and for every two that share no images."""
    told = set()
    for pair in pairs:
        without = [one for one in (pair.first, pair.second) if one.predictions is None]
        for one in without:
            if one.name not in told:
                told.add(one.name)
                why = "it has no predictions.csv. Train it again" if one.run.part("test") else "no images were held out"
                yield f"{one.name} has no test predictions to compare: {why}."
        if not without and not pair.shared:
            yield f"{pair.first.name} and {pair.second.name} share no test images; compare their ranges."


def curves_section(runs: list[Finished]) -> str:
    """Return the section of loss and accuracy, or macro F1, by epoch."""
    drawn = []
    for part, prefix in (("validation", "val_"), ("training", "")):
        for name in ("loss", "multilabel_f1" if runs[0].run.several_labels else "accuracy"):
            lines = {
                f"run run-{place}": (one.epochs.numbers, one.epochs.columns[prefix + name])
                for place, one in enumerate(runs, 1)
                if one.epochs.columns.get(prefix + name)
            }
            if lines:
                drawn.append(page.figure(curves.compared(f"{part} {name.replace('multilabel_f1', 'macro F1')}", lines)))
    legend = "".join(f"<li>{_label(place, one, page.MOST_CHARACTERS)}</li>" for place, one in enumerate(runs, 1))
    note = (
        "Validation metrics can be compared if the validation parts are alike. Training metrics are measured with each "
        "run's own augmentation, label smoothing and dropout."
    )
    return page.section(
        "How they learned", f'<ul class="legend">{legend}</ul><div class="pair">{"".join(drawn)}</div>', note=note
    )


def settings_section(runs: list[Finished]) -> str:
    """Return the section of the settings that are not the same in all runs."""
    every = [dict(_settings(one.run.arguments)) for one in runs]
    names = dict.fromkeys(name for settings in every for name in settings)
    rows = [
        (page.name(name), *(page.name(settings.get(name, "—")) for settings in every))
        for name in names
        if len({settings.get(name) for settings in every}) > 1
    ][:MOST_SETTINGS]
    if not rows:
        return page.section("Which settings differ", "<p>None: all settings are the same.</p>")
    headings = ("setting", *(_label(place, one) for place, one in enumerate(runs, 1)))
    table = page.table("Settings that are not the same in all runs", headings, rows, texts=len(headings))
    return page.section("Which settings differ", table)


def _settings(arguments: dict[str, Any], within: str = "") -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each setting, those of an object one by one."""
    for key, value in arguments.items():
        name = within + key.replace("_", " ")
        if isinstance(value, dict) and not within:
            yield from _settings(value, f"{name}: ")
        elif value is not None and key not in _NO_SETTINGS:
            yield name, str(value)


def p_value(p: float) -> str:
    """Return a p-value with sensible precision.

    >>> p_value(0.02148), p_value(1.0), p_value(1e-9)
    ('0.021', '1', '<0.0001')
    """
    return f"{p:.2g}" if p >= 1e-4 else "<0.0001"


def _label(place: int, one: Finished, most: int = MOST_CHARACTERS) -> str:
    """Return the name of a run behind a piece of its line, by which runs with long names can be told apart."""
    line = f'<line class="run run-{place}" x1="0" x2="28" y1="4" y2="4"/>'
    swatch = f'<svg class="swatch" viewBox="0 0 28 8" aria-hidden="true">{line}</svg>'
    return f'<span class="label">{swatch}{page.name(one.name, most)}</span>'
