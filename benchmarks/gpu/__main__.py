"""Compare xpcnn on CuPy with PyTorch on the same GPU, in one run that begins nothing after 400 seconds.

    python -m benchmarks.gpu [--only PART[,PART]] [--data FOLDER] [--json FILE]

First both sides must agree. Then they take turns, timed by device events, at the same precision; at the end stand the
targets. Parts, in the order in which they run: train, presets, start, mnist, predict, compile.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.gpu.device import Gpu

#: What is measured, the most important first.
PARTS = ("train", "presets", "start", "mnist", "predict", "compile")
#: Seconds after which nothing is begun, so that the whole run is meant to take 8 minutes.
SECONDS = 400.0


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> None:
        """Exit with the message."""
        sys.exit(f"benchmarks.gpu: {message}")


def options_of(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options; exits with one line for what cannot be."""
    parser = Parser(prog="benchmarks.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="PART[,PART]", default=",".join(PARTS), help="measure these parts alone")
    parser.add_argument(
        "--data", type=Path, default=os.environ.get("XPCNN_DATA") or None, metavar="FOLDER",
        help="contains mnist/ (default: $XPCNN_DATA); without it, that part is left out",
    )  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all figures to this file")
    options = parser.parse_args(arguments)
    options.only = options.only.split(",")
    for part in options.only:
        if part not in PARTS:
            parser.error(f"there is no part {part!r}. Parts: {', '.join(PARTS)}.")
    if options.data and not (options.data / "mnist").is_dir():
        parser.error(f"{options.data} contains no folder mnist: give the folder that does, or leave --data out.")
    if options.json and not options.json.absolute().parent.is_dir():
        parser.error(f"the folder of {options.json} does not exist: create it first.")
    return options


def main(arguments: Sequence[str] | None = None, gpu: Gpu | None = None) -> None:
    """Measure what the options ask for, and there is time for; save it, however the run ends."""
    options = options_of(arguments)
    try:
        from benchmarks.gpu import device, startup, steps
        from benchmarks.gpu.run import Run
        from benchmarks.gpu.targets import show, targets
        from benchmarks.networks import NETWORKS

        gpu = device.Gpu() if gpu is None else gpu
    except ImportError as error:
        sys.exit(f"benchmarks.gpu: {error}. It needs xpcnn, CuPy, and PyTorch built for CUDA.")
    except RuntimeError as error:  # no backend, or no GPU
        sys.exit(f"benchmarks.gpu: {error}")
    run = Run(gpu, SECONDS, options.data, options.json)
    measure = {
        "train": steps.train, "presets": steps.preset, "start": startup.start, "mnist": startup.mnist,
        "predict": steps.predict, "compile": steps.compiled,
    }  # fmt: skip
    try:
        run.results["machine"] = device.machine(gpu)
        print(" · ".join(run.results["machine"].values()))
        for name in NETWORKS:
            row = run.measure("agreement", f"agreement: {name}", lambda: {name: steps.agreement(gpu, name)})
            if row is None or not row[name] <= steps.AGREEMENT:
                sys.exit(f"benchmarks.gpu: the two sides do not agree on {name} ({row}): there is nothing to compare.")
        print("agreement: " + ", ".join(f"{n} {d:.1e}" for row in run.results["agreement"] for n, d in row.items()))
        for part in PARTS:
            if part in options.only:
                measure[part](run)
    finally:
        found = targets(run.results, NETWORKS)
        run.results["targets"] = [target._asdict() for target in found]
        run.save()
    show(found)
    for left in run.results["left_out"]:
        print(f"left out: {left}")
    print(f"\n{run.took:.0f} s in total")


if __name__ == "__main__":
    main()
