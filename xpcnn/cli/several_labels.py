"""Figures and text for models that give an image several labels, or none."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from xpcnn.cli.text import accuracy, printable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from xpcnn.model import Sequential
    from xpcnn.model.prediction import Predictions


def figures(
    targets: NDArray[Any], probabilities: NDArray[Any], thresholds: Sequence[float], class_names: Sequence[str]
) -> dict[str, Any]:
    """Return the metrics of some images; None for those of a label that no image has.

    targets, probabilities: (n, labels). accuracy: the fraction of images whose labels are all right. f1 and
    mean_average_precision: over the labels that some image has.
    """
    import numpy as np

    from xpcnn.metrics import average_precision, per_label, wilson_interval

    predicted = probabilities > np.array(thresholds)
    found, ranked = per_label(targets, predicted), average_precision(targets, probabilities)
    right, has = int((predicted == (targets > 0.5)).all(axis=1).sum()), found.support > 0
    return {
        "accuracy": right / len(targets),
        "accuracy_95": wilson_interval(right, len(targets)),
        "f1": _mean(found.f1[has]),
        "mean_average_precision": _mean(ranked[has]),
        "classes": [
            {"class": name, "count": int(n), "threshold": float(threshold)}
            | {
                key: float(value) if n else None
                for key, value in (("precision", p), ("recall", r), ("f1", f), ("average_precision", a))
            }
            for name, p, r, f, n, a, threshold in zip(class_names, *found, ranked, thresholds, strict=True)
        ],
        "count": len(targets),
    }


def calibrate(model: Sequential, x: Any, y: NDArray[Any], threads: int | None) -> dict[str, Any]:
    """Calibrate each label on images held out of training, and return what was found for metrics.json."""
    from xpcnn import recipe

    temperatures = recipe.calibrate_labels(model, x, y, threads)
    return {"temperatures": temperatures, "thresholds": model.thresholds}


def measure(model: Sequential, x: Any, y: NDArray[Any], threads: int | None, augment: str) -> dict[str, Any]:
    """Return the figures of a model for some images."""
    assert model.thresholds is not None
    assert model.class_names is not None
    return figures(y, model.predict(x, threads=threads, augment=augment), model.thresholds, model.class_names)


def _mean(values: NDArray[Any]) -> float | None:
    return float(values.mean()) if values.size else None


def table(classes: Sequence[dict[str, Any]]) -> list[str]:
    """Return a table with one line per label."""
    names = [printable(row["class"]) for row in classes]
    width = max(len("label"), *map(len, names))
    lines = [f"{'label':{width}}  images  threshold  precision  recall      f1  average precision"]
    for name, row in zip(names, classes, strict=True):
        precision, recall, f1, ranked = (
            "—" if row[key] is None else f"{row[key]:.4f}" for key in ("precision", "recall", "f1", "average_precision")
        )
        lines.append(
            f"{name:{width}}  {row['count']:6}  {row['threshold']:9.4f}  {precision:>9}  {recall:>6}  {f1:>6}  "
            f"{ranked:>17}"
        )
    return lines


def line(found: dict[str, Any]) -> str:
    """Return the figures over all labels in one line."""
    f1, ranked = ("—" if found[key] is None else f"{found[key]:.4f}" for key in ("f1", "mean_average_precision"))
    return f"macro F1 {f1}, mean average precision {ranked}, all labels right {accuracy(found)}"


def write(paths: Sequence[str], found: Predictions, class_names: Sequence[str], form: str, top_k: int) -> str:
    """Return predictions as text: a row for each image, with all labels above their thresholds.

    form: "table", "csv", "json" or "jsonl". top_k: how many labels are listed in any case, the most probable ones.
    """
    rows: list[dict[str, Any]] = []
    for path, error, labels, probabilities in zip(paths, found.errors, found.labels, found.probabilities, strict=True):
        order = [] if error else (-probabilities).argsort(kind="stable").tolist()
        each = [{"label": class_names[index], "probability": float(probabilities[index])} for index in order]
        given = None if error else [one for one in each if one["label"] in labels]
        rows.append({"path": path, "labels": given, "top": each[:top_k], "error": error})
    if form == "json":
        return json.dumps(rows, indent=2) + "\n"
    if form == "jsonl":
        return "".join(json.dumps(row) + "\n" for row in rows)
    return _as_csv(rows, found, class_names) if form == "csv" else _as_table(rows)


def _as_table(rows: list[dict[str, Any]]) -> str:
    paths = [printable(row["path"]) for row in rows]
    width = max(map(len, paths))
    lines = []
    for path, row in zip(paths, rows, strict=True):
        if row["error"]:
            lines.append(f"{path:{width}}  cannot be read: {printable(row['error'])}\n")
            continue
        given, others = (
            ", ".join(f"{one['label']} {one['probability']:.3f}" for one in some)
            for some in (row["labels"], [one for one in row["top"] if one not in row["labels"]])
        )
        answer = given or "no label"
        lines.append(f"{path:{width}}  {printable(answer)}{printable(f'  ({others})') if others else ''}\n")
    return "".join(lines)


def _as_csv(rows: list[dict[str, Any]], found: Predictions, class_names: Sequence[str]) -> str:
    from xpcnn.data.labels import SEPARATOR
    from xpcnn.files import csv_text

    lines: list[Sequence[str]] = [("path", "labels", "error", *(f"p:{name}" for name in class_names))]
    for row, probabilities in zip(rows, found.probabilities, strict=True):
        given = SEPARATOR.join(one["label"] for one in row["labels"] or ())
        each = [""] * len(class_names) if row["error"] else [f"{p:.6f}" for p in probabilities.tolist()]
        lines.append((row["path"], given, row["error"] or "", *each))
    return csv_text(lines)
