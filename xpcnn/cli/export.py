"""Write a model as an ONNX file or as a web page."""

from __future__ import annotations

import argparse
from pathlib import Path

from xpcnn.cli.text import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``xpcnn export``."""
    parser.add_argument("model", metavar="MODEL", help="a model file, such as runs/train/best.safetensors")
    parser.add_argument("file", metavar="FILE.onnx|FILE.html", help="the file to write; an existing one is replaced")


def run(options: argparse.Namespace) -> int:
    """Write the file and describe what it takes and gives."""
    describe = _FORMATS.get(Path(options.file).suffix.lower())
    if describe is None:  # a model file given twice would be overwritten
        raise argparse.ArgumentError(None, f"the output file must end in .onnx or .html, received {options.file!r}")
    print(f"{printable(options.file)}: {describe(options.model, options.file)}")
    return 0


def _onnx(source: str, path: str) -> str:
    import numpy as np

    from xpcnn import load
    from xpcnn.formats import onnx

    model = load(source, xp=np)
    onnx.export(model, path)
    size, count = ("x".join(map(str, shape)) for shape in (model.network.input_shape, model.network.output_shape))
    values = "normalised as in training"
    if model.preprocessing is not None:
        deep = model.preprocessing.decoding.range is not None
        values = "values as in the files" if deep else "values from 0 to 255"
    probabilities = "probability" if count == "1" else "probabilities"
    return f"takes images of {size}, {values}, gives {count} {probabilities}"


def _html(source: str, path: str) -> str:
    import numpy as np

    from xpcnn import load
    from xpcnn.formats import html

    model = load(source, xp=np)
    html.export(model, path)
    count, size = max(2, model.network.output_shape[0]), Path(path).stat().st_size
    return f"a page of {size / 1e6:.1f} MB that sorts pictures into {count} classes, in any browser, offline"


#: By the ending of the file, the function that writes it and returns its description.
_FORMATS = {".onnx": _onnx, ".html": _html}
