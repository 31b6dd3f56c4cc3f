"""Evaluate a model on labelled images."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from xpcnn.cli import datasets, options, several_labels
from xpcnn.cli.text import accuracy, bounds, printable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from xpcnn.data import LabelledImages
    from xpcnn.model import Sequential


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``xpcnn evaluate``."""
    parser.add_argument("model", metavar="MODEL", help="a model file, such as runs/train/best.safetensors")
    parser.add_argument("data", metavar="DATA", help=f"{datasets.HELP}; of a dataset with parts, its test part")
    datasets.add_labels(parser)
    parser.add_argument("--format", choices=("text", "json"), default="text", help="default: text")
    options.add_augment(parser)
    parser.add_argument("--strict", action="store_true", help="stop at the first image that cannot be read")
    options.add_computing(parser)


def run(options_: argparse.Namespace) -> int:
    """Evaluate the model and print the results."""
    import numpy as np

    from xpcnn.cli.models import load_for_images
    from xpcnn.data.labels import are_several
    from xpcnn.data.left_out import left_out

    model, preprocessing, class_names = load_for_images(options_.model, options.chosen_backend(options_))
    datasets.check_options(options_)
    images = datasets.load_data(
        options_.data, preprocessing.decoding, options_.strict, options_.threads, labels=options_.labels,
        training=False, known=class_names,
    )  # fmt: skip
    if are_several(images.y) != (model.thresholds is not None):
        gives, has = ("several labels", "one label each") if model.thresholds else ("one class", "several labels")
        raise ValueError(
            f"{options_.model!r} gives an image {gives}, and the images of {options_.data!r} have {has}. "
            "Give a table with --labels that has what the model gives."
        )
    for line in left_out(images.facts or (), preprocessing.decoding):
        print(f"xpcnn evaluate: {line}", file=sys.stderr)
    images = datasets.match_classes(images, class_names)
    rows = np.arange(len(images.y)) if images.parts is None else np.flatnonzero(images.parts == "test")
    if len(rows) == 0:
        raise ValueError(f"{options_.data!r} has parts, but no test part. Give a folder of class folders.")
    results: dict[str, Any] = {
        **_figures(model, images, rows, class_names, options_),
        "skipped": len(images.skipped),
        "passed_over": images.passed_over,
        "seen": None,
        "unseen": None,
    }
    if model.digests is not None and images.digests is not None:
        seen = _are_seen(model, images, rows)
        results["seen"] = int(seen.sum())
        if seen.any() and not seen.all():
            results["unseen"] = _figures(model, images, rows[~seen], class_names, options_)
        if seen.any():
            print(_warning(results), file=sys.stderr)
    print(json.dumps(results) if options_.format == "json" else _text(results))
    return 0


def _are_seen(model: Sequential, images: LabelledImages, rows: NDArray[Any]) -> NDArray[Any]:
    """Return for each of some images whether the model was made with it."""
    from xpcnn.data.digests import are_known

    assert model.digests is not None
    assert images.digests is not None
    return are_known(images.digests[rows], model.digests)


def _figures(
    model: Sequential,
    images: LabelledImages,
    rows: NDArray[Any],
    class_names: Sequence[str],
    options_: argparse.Namespace,
) -> dict[str, Any]:
    """Return the metrics of some images; None for those of a class without images."""
    import numpy as np

    from xpcnn.cli.models import finite
    from xpcnn.data import Normalized
    from xpcnn.metrics import CalibrationError, ConfusionMatrix, per_class, wilson_interval
    from xpcnn.program.memory_bound import images_at_once

    assert model.preprocessing is not None
    x, y = Normalized(images.x, rows, model.preprocessing), images.y[rows]
    several = model.thresholds is not None
    model.metrics = [] if several else [ConfusionMatrix(), CalibrationError()]
    with finite(options_.model) as checked:
        measured = model.evaluate(
            x, y, images_at_once(model.network), threads=options_.threads, augment=options_.augment
        )
        checked(measured["loss"])
    if several:
        return measured | several_labels.measure(model, x, y, options_.threads, options_.augment)
    matrix = measured["confusion_matrix"]
    figures = per_class(matrix)
    return {
        "accuracy": float(np.trace(matrix) / len(y)),
        "accuracy_95": wilson_interval(np.trace(matrix), len(y)),
        "loss": measured["loss"],
        "calibration_error": measured["calibration_error"],
        "classes": [
            {"class": name, "count": int(n)}
            | {key: float(value) if n else None for key, value in (("precision", p), ("recall", r), ("f1", f))}
            | {"recall_95": wilson_interval(right, n) if n else None}
            for name, p, r, f, n, right in zip(class_names, *figures, matrix.diagonal(), strict=True)
        ],
        "count": len(y),
    }


def _warning(results: dict[str, Any]) -> str:
    seen, count = results["seen"], results["count"]
    rest = (
        "results without them are below too"
        if results["unseen"]
        else "so the results say nothing about other images. Use images that it has not seen"
    )
    return f"xpcnn evaluate: the model was trained or selected with {seen} of these {count} images, {rest}"


def _text(results: dict[str, Any]) -> str:
    """Return a table with one line per class, and the overall metrics below it."""
    several = "mean_average_precision" in results
    lines = several_labels.table(results["classes"]) if several else _table(results["classes"])
    skipped = f", {results['skipped']} skipped" if results["skipped"] else ""
    lines.append(_line("", results, skipped))
    if results["unseen"]:
        lines.append(_line("not seen: ", results["unseen"], ""))
    if results["passed_over"]:
        lines.append(datasets.describe_passed_over(results["passed_over"]))
    return "\n".join(lines)


def _table(classes: Sequence[dict[str, Any]]) -> list[str]:
    names = [printable(row["class"]) for row in classes]
    width = max(len("class"), *map(len, names))
    lines = [f"{'class':{width}}  images  precision  recall  {'recall, 95 %':>16}      f1"]
    for name, row in zip(names, classes, strict=True):
        precision, recall, f1 = (
            "—" if row[key] is None else f"{row[key]:.4f}" for key in ("precision", "recall", "f1")
        )
        range_ = "—" if row["recall_95"] is None else bounds(row["recall_95"])
        lines.append(f"{name:{width}}  {row['count']:6}  {precision:>9}  {recall:>6}  {range_:>16}  {f1:>6}")
    return lines


def _line(whose: str, figures: dict[str, Any], skipped: str) -> str:
    if "mean_average_precision" in figures:
        told = several_labels.line(figures)
        return f"{whose}{told}, loss {figures['loss']:.4f} ({figures['count']} images{skipped})"
    return (
        f"{whose}accuracy {accuracy(figures)}, loss {figures['loss']:.4f}, calibration error "
        f"{figures['calibration_error']:.4f} ({figures['count']} images{skipped})"
    )
