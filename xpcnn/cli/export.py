"""Write a model as an ONNX file."""

from __future__ import annotations

import argparse
from pathlib import Path

from xpcnn.cli.text import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``xpcnn export``."""
    parser.add_argument("model", metavar="MODEL", help="a model file, such as runs/train/best.safetensors")
    parser.add_argument("file", metavar="FILE.onnx", help="the file to write; an existing one is replaced")


def run(options: argparse.Namespace) -> int:
    """Write the file and describe its inputs and outputs."""
    if Path(options.file).suffix.lower() != ".onnx":  # a model file given twice would be overwritten
        raise argparse.ArgumentError(None, f"the output file must end in .onnx, received {options.file!r}")
    from xpcnn import load
    from xpcnn.formats import onnx

    model = load(options.model, xp="numpy")
    onnx.export(model, options.file)
    size, count = ("x".join(map(str, shape)) for shape in (model.network.input_shape, model.network.output_shape))
    values = "normalised as in training"
    if model.preprocessing is not None:
        deep = model.preprocessing.decoding.range is not None
        values = "values as in the files" if deep else "values from 0 to 255"
    probabilities = "probability" if count == "1" else "probabilities"
    print(f"{printable(options.file)}: takes images of {size}, {values}, gives {count} {probabilities}")
    return 0
