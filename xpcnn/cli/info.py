"""Describe a model, or this machine."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from xpcnn.cli import pictures
from xpcnn.cli.text import printable

if TYPE_CHECKING:
    from xpcnn.backend import ArrayModule


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``xpcnn info``."""
    parser.add_argument("model", nargs="?", metavar="MODEL", help="a model file; without one, describe the machine")


def run(options_: argparse.Namespace) -> int:
    """Print the description of the model or the machine."""
    lines = _machine() if options_.model is None else _card(options_.model)
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        first, *others = map(printable, value.splitlines())
        print(f"{name:{width}}  {first}")
        for line in others:
            print(f"{'':{width}}  {line}")
    return 0


def _machine() -> list[tuple[str, str]]:
    import platform

    import numpy
    from threadpoolctl import threadpool_info

    from xpcnn.backend import BackendError, choose, probe_cupy
    from xpcnn.data.versions import extra_readers
    from xpcnn.processors import available_threads
    from xpcnn.version import __version__

    blas = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    try:
        choice = choose()
        backend = f"{choice.xp.__name__}: {choice.reason}"
        precision = _precision(choice.xp)
    except BackendError as error:
        backend, precision = str(error), "unknown"
    return [
        ("xpcnn", __version__),
        ("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        ("numpy", numpy.__version__),
        ("opencv", _opencv()),
        *((name, version or "not installed") for name, version in extra_readers().items()),
        ("cupy", "\n".join(part for part in probe_cupy()[1:] if part)),
        ("numba", _numba()),
        ("XPCNN_BACKEND", os.environ.get("XPCNN_BACKEND", "not set, so auto")),
        ("backend", backend),
        ("precision", precision),
        (
            "blas",
            "; ".join(f"{b['internal_api']} {b['version']}, {b['num_threads']} threads" for b in blas) or "unknown",
        ),
        ("threads", str(available_threads())),
    ]


def _precision(xp: ArrayModule) -> str:
    from xpcnn.backend import BackendError
    from xpcnn.precision import in_precision, precision_of

    try:
        return precision_of(in_precision(xp))
    except BackendError as error:
        return str(error)


def _numba() -> str:
    from xpcnn.backend import probe_numba

    xp, seen, advice = probe_numba()
    if xp is None:
        return f"{seen}\n{advice}"
    from xpcnn.ops.cpu.cache import folder
    from xpcnn.ops.cpu.compiler import VECTOR_BYTES

    return f"{seen}: {VECTOR_BYTES * 8} bits a vector, kept in {folder() or 'this process alone'}"


def _opencv() -> str:
    from xpcnn.data.opencv import load_opencv

    try:
        return str(load_opencv().__version__)
    except ImportError as error:
        return str(error)


def _card(path: str) -> list[tuple[str, str]]:
    import numpy as np

    from xpcnn import load
    from xpcnn.model.summary import summary_table

    model = load(path, xp=np)
    lines = [("model", printable(path)), ("bytes", f"{os.path.getsize(path):,}"), ("epochs", str(model.epochs))]
    if model.class_names is not None:
        lines.append(("classes", printable(", ".join(model.class_names))))
    if model.preprocessing is not None:
        decoding = model.preprocessing.decoding
        lines.append(
            ("images", f"{decoding.width}x{decoding.height}, {pictures.colours(decoding)}, {decoding.resizing}")
        )
        if decoding.range is not None:
            lines.append(("values", f"{pictures.range_in_words(decoding)} become 0 to 255"))
        if decoding.page != 0:
            lines.append(("page", f"{decoding.page} of stacks"))
        if model.preprocessing.per_image:
            lines.append(("normalised", "each image by its own mean and standard deviation"))
        else:
            lines.append(("mean", ", ".join(f"{value:.2f}" for value in model.preprocessing.mean)))
            lines.append(("std", ", ".join(f"{value:.2f}" for value in model.preprocessing.std)))
    if model.digests is not None:
        lines.append(("made with", f"{len(model.digests):,} images, of which it holds digests of 8 bytes"))
    if model.thresholds is not None:
        lines.append(("thresholds", ", ".join(f"{threshold:.4f}" for threshold in model.thresholds)))
    if model.temperature != 1:
        lines.append(("temperature", f"{model.temperature:g}"))
    if model.optimizer is not None and model.loss is not None:
        lines.append(("trained with", f"{model.optimizer!r}, {model.loss!r}"))
    lines.append(("layers", summary_table(model.network)))
    return lines
