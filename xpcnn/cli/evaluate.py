"""Measure a model on labelled images."""

from __future__ import annotations

import argparse
import json
from typing import Any

from xpcnn.cli import datasets, options
from xpcnn.cli.text import printable, warnings_in_one_line

#: Images that are predicted together.
BATCH = 256


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``xpcnn evaluate``."""
    parser.add_argument("model", metavar="MODEL", help="a model file, such as runs/train/best.safetensors")
    parser.add_argument("data", metavar="DATA", help=f"{datasets.HELP}; of a set with parts, its test part")
    datasets.add_labels(parser)
    parser.add_argument("--format", choices=("text", "json"), default="text", help="default: text")
    options.add_augment(parser)
    parser.add_argument("--strict", action="store_true", help="stop at the first image that cannot be read")
    options.add_computing(parser)


def run(options_: argparse.Namespace) -> int:
    """Measure and print."""
    import numpy as np

    from xpcnn.cli.models import finite, images_at_once, load_for_images
    from xpcnn.data import Normalized
    from xpcnn.metrics import CalibrationError, ConfusionMatrix, per_class

    model, preprocessing, class_names = load_for_images(options_.model, options.chosen_backend(options_))
    datasets.check_options(options_.data, labels=options_.labels)
    with warnings_in_one_line("evaluate"):
        images = datasets.load_data(
            options_.data, preprocessing.decoding, options_.strict, options_.threads, labels=options_.labels
        )
    images = datasets.match_classes(images, class_names)
    rows = np.arange(len(images.y)) if images.parts is None else np.flatnonzero(images.parts == "test")
    if len(rows) == 0:
        raise ValueError(f"{options_.data!r} has parts, but no test part. Give one folder of class folders.")
    x, y = Normalized(images.x, rows, preprocessing), images.y[rows]
    model.metrics = [ConfusionMatrix(), CalibrationError()]
    with finite(options_.model) as checked:
        measured = model.evaluate(
            x, y, images_at_once(model, BATCH), threads=options_.threads, augment=options_.augment
        )
        checked(measured["loss"])
    figures = per_class(measured["confusion_matrix"])
    results = {
        "accuracy": float(np.trace(measured["confusion_matrix"]) / len(y)),
        "loss": measured["loss"],
        "calibration_error": measured["calibration_error"],
        "classes": [
            {"class": name, "count": int(n), "precision": float(p), "recall": float(r), "f1": float(f)}
            for name, p, r, f, n in zip(class_names, *figures, strict=True)
        ],
        "count": len(y),
        "skipped": len(images.skipped),
        "passed_over": images.passed_over,
    }
    print(json.dumps(results) if options_.format == "json" else _text(results))
    return 0


def _text(results: dict[str, Any]) -> str:
    """Return a table with one line a class, and the figures of the whole below it."""
    names = [printable(row["class"]) for row in results["classes"]]
    width = max(len("class"), *map(len, names))
    lines = [f"{'class':{width}}  images  precision  recall      f1"]
    for name, row in zip(names, results["classes"], strict=True):
        figures = f"{row['count']:6}  {row['precision']:9.4f}  {row['recall']:6.4f}  {row['f1']:6.4f}"
        lines.append(f"{name:{width}}  {figures}")
    skipped = f", {results['skipped']} skipped" if results["skipped"] else ""
    lines.append(
        f"accuracy {results['accuracy']:.4f}, loss {results['loss']:.4f}, calibration error "
        f"{results['calibration_error']:.4f} ({results['count']} images{skipped})"
    )
    if results["passed_over"]:
        lines.append(datasets.describe_passed_over(results["passed_over"]))
    return "\n".join(lines)
