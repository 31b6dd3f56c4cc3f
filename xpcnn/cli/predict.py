"""Name the class of images, with probabilities."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from xpcnn.cli import options
from xpcnn.cli.text import printable

if TYPE_CHECKING:
    from xpcnn.data import Decoding, Preprocessing
    from xpcnn.model import Sequential

#: Images that are decoded before they are predicted together.
CHUNK = 64

UNCERTAIN = "uncertain"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``xpcnn predict``."""
    parser.add_argument("model", metavar="MODEL", help="a model file, such as runs/train/best.safetensors")
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="image files")
    parser.add_argument("--format", choices=("table", "csv", "json", "jsonl"), default="table", help="default: table")
    parser.add_argument("--top-k", type=options.positive, default=3, metavar="N", help="classes to list (default: 3)")
    parser.add_argument("--threshold", type=options.fraction, metavar="P", help=f"below it the label is {UNCERTAIN!r}")
    options.add_augment(parser)
    parser.add_argument("-o", "--output", metavar="FILE", help="write there instead of printing")
    parser.add_argument("--strict", action="store_true", help="exit with 1 if any image cannot be read")
    options.add_computing(parser)


def run(options_: argparse.Namespace) -> int:
    """Predict every image and print one row for each, in the order given."""
    from xpcnn.cli.models import load_for_images

    model, preprocessing, class_names = load_for_images(options_.model, options.chosen_backend(options_))
    with _output(options_.output) as write:
        rows = _rows(model, preprocessing, class_names, options_)
        write(FORMATS[options_.format](rows))
    failed = [row for row in rows if row["error"]]
    if failed:
        first = failed[0]
        print(
            f"{len(failed)} of {len(rows)} images could not be read, the first: {first['path']!r} ({first['error']})",
            file=sys.stderr,
        )
    return 1 if len(failed) == len(rows) or (options_.strict and failed) else 0


@contextmanager
def _output(name: str | None) -> Iterator[Callable[[str], object]]:
    """Give what writes the answers: to stdout, or to a file that is opened before the work, and whole or not there."""
    if name is None:
        yield lambda text: print(text, end="")
        return
    from xpcnn import files

    with files.atomic_write(name) as file:
        yield lambda text: file.write(text.encode("utf-8", errors="surrogateescape"))


def _rows(
    model: Sequential, preprocessing: Preprocessing, class_names: Sequence[str], options_: argparse.Namespace
) -> list[dict[str, Any]]:
    """Return a row for each image, in the order given; they are decoded and predicted a chunk at a time."""
    from tqdm import tqdm

    from xpcnn.cli.models import finite, images_at_once

    rows: list[dict[str, Any]] = []
    chunk = images_at_once(model, CHUNK)
    with (
        tqdm(total=len(options_.images), desc="Predicting", unit="image", disable=None, leave=False) as bar,
        finite(options_.model) as checked,
    ):
        for start in range(0, len(options_.images), chunk):
            paths = options_.images[start : start + chunk]
            images, errors = _decode(paths, preprocessing.decoding, options_.threads)
            x = None if images is None else preprocessing.normalize(images)
            probabilities = iter(() if x is None else checked(_probabilities(model, x, options_)))
            for path, error in zip(paths, errors, strict=True):
                row = {"path": path, "label": None, "probability": None, "top": [], "error": error}
                rows.append(row if error else row | _answer(next(probabilities), class_names, options_))
            bar.update(len(paths))
    return rows


def _probabilities(model: Sequential, x: Any, options_: argparse.Namespace) -> Any:
    """Return a column for each class; one output, p, tells two classes apart: 1 - p and p."""
    import numpy as np

    outputs = model.predict(x, threads=options_.threads, augment=options_.augment)
    return np.concatenate((1 - outputs, outputs), axis=1) if outputs.shape[1] == 1 else outputs


def _decode(paths: Sequence[str], decoding: Decoding, threads: int | None) -> tuple[Any, list[str | None]]:
    """Return the images that could be read, or None where there are none, and for each path None or what is wrong."""
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np

    from xpcnn.data import UndecodableImage, read_image
    from xpcnn.processors import available_threads

    def read(path: str) -> Any:
        try:
            return read_image(path, decoding)
        except UndecodableImage as error:
            return error.reason

    with ThreadPoolExecutor(threads or available_threads()) as pool:
        read_or_reason = list(pool.map(read, paths))
    images = [one for one in read_or_reason if not isinstance(one, str)]
    errors = [one if isinstance(one, str) else None for one in read_or_reason]
    return np.stack(images) if images else None, errors


def _answer(probabilities: Any, class_names: Sequence[str], options_: argparse.Namespace) -> dict[str, Any]:
    order = probabilities.argsort(kind="stable")[::-1][: options_.top_k]
    top = [{"label": class_names[index], "probability": float(probabilities[index])} for index in order]
    certain = options_.threshold is None or top[0]["probability"] >= options_.threshold
    return {
        "label": top[0]["label"] if certain else UNCERTAIN,
        "probability": top[0]["probability"],
        "top": top,
    }


def _table(rows: list[dict[str, Any]]) -> str:
    paths = [printable(row["path"]) for row in rows]
    width = max(map(len, paths))
    lines = []
    for path, row in zip(paths, rows, strict=True):
        answer = f"cannot be read: {row['error']}" if row["error"] else f"{row['label']} {row['probability']:.3f}"
        others = ", ".join(f"{one['label']} {one['probability']:.3f}" for one in row["top"][1:])
        lines.append(f"{path:{width}}  {printable(answer)}{printable(f'  ({others})') if others else ''}\n")
    return "".join(lines)


def _csv(rows: list[dict[str, Any]]) -> str:
    from xpcnn.files import csv_text

    table: list[Sequence[str]] = [("path", "label", "probability", "top", "error")]
    for row in rows:
        top = ";".join(f"{one['label']}={one['probability']:.6f}" for one in row["top"])
        probability = "" if row["error"] else f"{row['probability']:.6f}"
        table.append((row["path"], row["label"] or "", probability, top, row["error"] or ""))
    return csv_text(table)


def _json(rows: list[dict[str, Any]]) -> str:
    return json.dumps(rows, indent=2) + "\n"


def _jsonl(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


FORMATS = {"table": _table, "csv": _csv, "json": _json, "jsonl": _jsonl}
