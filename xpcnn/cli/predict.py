"""Predict the class of images, with probabilities."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from xpcnn.cli import options, several_labels, sorting, sources
from xpcnn.cli.text import printable

UNCERTAIN = "uncertain"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``xpcnn predict``."""
    parser.add_argument("model", metavar="MODEL", help="a model file, such as runs/train/best.safetensors")
    parser.add_argument(
        "images",
        metavar="IMAGE",
        nargs="+",
        help="image files, folders, @FILE with one name per line, - for names on stdin",
    )
    options.add_flag(parser, "--recursive", "include the subfolders of folders")
    parser.add_argument("--format", choices=("table", "csv", "json", "jsonl"), default="table", help="default: table")
    parser.add_argument("--top-k", type=options.positive, default=3, metavar="N", help="classes to list (default: 3)")
    parser.add_argument(
        "--threshold", type=options.fraction, metavar="P",
        help=f"below it, the label is {UNCERTAIN!r}; of a model that gives several labels: above it, a label is given "
        "(default: the model's threshold for each)",
    )  # fmt: skip
    options.add_augment(parser)
    parser.add_argument("-o", "--output", metavar="FILE", help="write to this file instead of stdout")
    parser.add_argument("--copy-to", metavar="DIR", help="copy each image into a folder of DIR named by its label")
    parser.add_argument("--strict", action="store_true", help="exit with 1 if any image cannot be read")
    options.add_computing(parser)


def run(options_: argparse.Namespace) -> int:
    """Predict every image and print one row for each, in the given order."""
    from xpcnn.cli.models import finite, load_for_images
    from xpcnn.data.listing import EXTENSIONS

    if options_.output is not None and Path(options_.output).suffix.lower() in (*EXTENSIONS, ".safetensors"):
        # as if its value was forgotten, so that the first image would be overwritten
        raise argparse.ArgumentError(
            None, f"-o needs the file for the predictions, and {options_.output!r} is an image or a model"
        )
    model, _, class_names = load_for_images(options_.model, options.chosen_backend(options_))
    if options_.copy_to is not None and Path(options_.copy_to).exists() and not Path(options_.copy_to).is_dir():
        raise ValueError(f"--copy-to needs a folder, and {options_.copy_to!r} is a file. Give another.")
    if model.thresholds is None and options_.threshold is not None and UNCERTAIN in class_names:
        raise ValueError(
            f"{options_.model!r} has a class {UNCERTAIN!r}, which is also the label below --threshold. Omit it, and "
            "compare the probabilities in the table."
        )
    if model.thresholds is not None and options_.copy_to is not None:
        raise ValueError(f"--copy-to needs one label an image, and {options_.model!r} gives several. Omit --copy-to.")
    if model.thresholds is not None and options_.threshold is not None:
        model.thresholds = (options_.threshold,) * len(model.thresholds)
    paths = sources.find(options_.images, bool(options_.recursive))
    folders = sorting.folder_names([*class_names, UNCERTAIN]) if options_.copy_to else {}
    with _output(options_.output) as write:
        with finite(options_.model) as checked:
            found = model.predict_images(paths, options_.threads, options_.augment, progress=True)
            readable = [row for row, error in enumerate(found.errors) if error is None]
            checked(found.probabilities[readable])
        if model.thresholds is not None:
            write(several_labels.write(paths, found, class_names, options_.format, options_.top_k))
            return _failed(paths, found.errors, options_.strict)
        rows = [
            {"path": path, "label": None, "probability": None, "top": [], "error": error, "guess": None}
            | ({} if error else _answer(probabilities, class_names, options_))
            for path, error, probabilities in zip(paths, found.errors, found.probabilities, strict=True)
        ]
        write(FORMATS[options_.format](rows, class_names))
    if options_.copy_to:
        copied = sorting.copy(
            [(row["path"], row["label"]) for row in rows if not row["error"]], options_.copy_to, folders
        )
        print(f"xpcnn predict: {copied} images copied to {printable(options_.copy_to)}", file=sys.stderr)
    return _failed(paths, found.errors, options_.strict)


def _failed(paths: Sequence[str], errors: Sequence[str | None], strict: bool) -> int:
    """Report the images that could not be read, and return the exit code."""
    failed = [(path, error) for path, error in zip(paths, errors, strict=True) if error]
    if failed:
        path, error = failed[0]
        print(f"{len(failed)} of {len(paths)} images could not be read, the first: {path!r} ({error})", file=sys.stderr)
    return 1 if len(failed) == len(paths) or (strict and failed) else 0


@contextmanager
def _output(name: str | None) -> Iterator[Callable[[str], object]]:
    """Give a function that writes the output to stdout, or atomically to a file that is opened before the work."""
    if name is None:
        yield lambda text: print(text, end="")
        return
    from xpcnn import files

    with files.atomic_write(name) as file:
        yield lambda text: file.write(text.encode("utf-8", errors="surrogateescape"))


def _answer(probabilities: Any, class_names: Sequence[str], options_: argparse.Namespace) -> dict[str, Any]:
    order = (-probabilities).argsort(kind="stable")
    top = [
        {"label": class_names[index], "probability": float(probabilities[index])} for index in order[: options_.top_k]
    ]
    guess, probability = top[0]["label"], top[0]["probability"]
    certain = options_.threshold is None or probability >= options_.threshold
    return {
        "label": guess if certain else UNCERTAIN,
        "guess": guess,
        "probability": probability,
        "top": top,
        "probabilities": probabilities.tolist(),
    }


def _table(rows: list[dict[str, Any]], class_names: Sequence[str]) -> str:
    paths = [printable(row["path"]) for row in rows]
    width = max(map(len, paths))
    lines = []
    for path, row in zip(paths, rows, strict=True):
        if row["error"]:
            answer, others = f"cannot be read: {row['error']}", []
        elif row["label"] == row["guess"]:
            answer, others = f"{row['label']} {row['probability']:.3f}", row["top"][1:]
        else:
            answer, others = row["label"], row["top"]
        told = ", ".join(f"{one['label']} {one['probability']:.3f}" for one in others)
        lines.append(f"{path:{width}}  {printable(answer)}{printable(f'  ({told})') if told else ''}\n")
    return "".join(lines)


def _csv(rows: list[dict[str, Any]], class_names: Sequence[str]) -> str:
    from xpcnn.files import csv_text

    classes = [f"p:{name}" for name in class_names]
    table: list[Sequence[str]] = [("path", "label", "probability", "top", "error", "guess", *classes)]
    for row in rows:
        if row["error"]:
            table.append((row["path"], "", "", "", row["error"], "", *([""] * len(classes))))
            continue
        top = ";".join(f"{one['label']}={one['probability']:.6f}" for one in row["top"])
        each = (f"{probability:.6f}" for probability in row["probabilities"])
        table.append((row["path"], row["label"], f"{row['probability']:.6f}", top, "", row["guess"], *each))
    return csv_text(table)


def _json(rows: list[dict[str, Any]], class_names: Sequence[str]) -> str:
    return json.dumps([_plain(row) for row in rows], indent=2) + "\n"


def _jsonl(rows: list[dict[str, Any]], class_names: Sequence[str]) -> str:
    return "".join(json.dumps(_plain(row)) + "\n" for row in rows)


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != "probabilities"}


FORMATS = {"table": _table, "csv": _csv, "json": _json, "jsonl": _jsonl}
