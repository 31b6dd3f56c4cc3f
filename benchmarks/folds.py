"""The accuracy of `xpcnn train` on a small folder, as the mean of several folds, each of which tests once.

    python -m benchmarks.folds FOLDER [--folds 5] -- --from efficientnet-lite0 --fine-tune all --image-size 160

What follows ``--`` are the command's options. Each fold is a separate process, which trains on the images of the other
folds without a validation part; its time is that of the whole command.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def link(folder: Path, place: Path, fold: int, folds: int) -> None:
    """Link the images of a folder into parts, each class's every ``folds``-th image to test, in an order drawn once."""
    for kind in sorted(path for path in folder.iterdir() if path.is_dir()):
        files = sorted(kind.iterdir())
        random.Random(kind.name).shuffle(files)
        for number, file in enumerate(files):
            part = place / ("test" if number % folds == fold else "train") / kind.name
            part.mkdir(parents=True, exist_ok=True)
            (part / file.name).symlink_to(file.resolve())


def train(folder: Path, fold: int, folds: int, options: list[str]) -> dict[str, float]:
    """Train one fold; return its results on the test part and its duration."""
    with tempfile.TemporaryDirectory() as place:
        link(folder, Path(place, "images"), fold, folds)
        out = Path(place, "run")
        line = [sys.executable, "-m", "xpcnn", "train", str(Path(place, "images")), "--validation-fraction", "0"]
        begun = time.perf_counter()
        subprocess.run([*line, "--seed", str(fold), "--out", str(out), *options], stdout=subprocess.DEVNULL, check=True)
        seconds = time.perf_counter() - begun
        return {**json.loads((out / "metrics.json").read_text())["test"], "seconds": seconds}


def main() -> None:
    """Print a line per fold, and the means."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("options", nargs="*")
    given = parser.parse_args()
    results = []
    for fold in range(given.folds):
        results.append(train(given.folder, fold, given.folds, given.options))
        print(f"fold {fold + 1}: {results[-1]['accuracy']:.4f}, {results[-1]['seconds']:.0f} s", flush=True)
    accuracy, seconds = (statistics.mean(result[key] for result in results) for key in ("accuracy", "seconds"))
    print(f"mean of {given.folds}: {accuracy:.4f}, {seconds:.0f} s a fold  ({' '.join(given.options)})")


if __name__ == "__main__":
    main()
