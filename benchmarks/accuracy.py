"""The accuracy of trained models: the commands of docs/results.md, each with several seeds, as a table.

    python benchmarks/accuracy.py DATA [--seeds 3] [--only blood digits …]

DATA contains the folders ``blood`` and ``mnist``. Each line is a separate process, one after another.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COMMANDS = {
    "blood cells": "{data}/blood --augment microscopy",
    "blood cells, `blood`": "{data}/blood --model blood --gray --image-size 50 --epochs 10",
    "mnist": "mnist --epochs 20",
    "digits": "digits",
}


def train(arguments: str, data: Path, seed: int) -> dict[str, float]:
    """Run one command, and return its results on the test part and its duration."""
    with tempfile.TemporaryDirectory() as place:
        out = Path(place, "run")
        line = [sys.executable, "-m", "xpcnn", "train", *arguments.format(data=data).split()]
        begun = time.perf_counter()
        subprocess.run(
            [*line, "--seed", str(seed), "--out", str(out)],
            env={**os.environ, "XPCNN_DATA": str(data)},
            stdout=subprocess.DEVNULL,
            check=True,
        )
        seconds = time.perf_counter() - begun
        metrics = json.loads((out / "metrics.json").read_text())
    return {**metrics["test"], "temperature": metrics["temperature"], "seconds": seconds}


def main() -> None:
    """Print a line per run and the mean of each command."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=[*COMMANDS], choices=COMMANDS)
    options = parser.parse_args()
    names = ("accuracy", "loss", "calibration_error", "temperature", "seconds")
    print("| command | seed | test accuracy | loss | calibration error | temperature | seconds |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name in options.only:
        runs = []
        for seed in range(options.seeds):
            runs.append(train(COMMANDS[name], options.data.resolve(), seed))
            print(line(name, seed, runs[-1]), flush=True)
        print(line(name, "mean", {key: statistics.mean(run[key] for run in runs) for key in names}), flush=True)


def line(name: str, seed: object, run: dict[str, float]) -> str:
    """Return a line of the table."""
    return (
        f"| {name} | {seed} | {run['accuracy']:.4f} | {run['loss']:.4f} | {run['calibration_error']:.4f} | "
        f"{run['temperature']:.3f} | {run['seconds']:.0f} |"
    )


if __name__ == "__main__":
    main()
