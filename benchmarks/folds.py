"""The accuracy of `xpcnn train` on a small folder, as the mean of several folds, each of which tests once.

    python -m benchmarks.folds [--folds 5] FOLDER -- --from efficientnet-lite0 --fine-tune all --image-size 160

What follows ``--`` are the command's options. Each fold trains on the images of the others without a validation part;
its time is its share of the whole command's.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main() -> None:
    """Print the accuracy of each fold, the mean, and the time."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("options", nargs="*")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        out = Path(place, "run")
        line = [sys.executable, "-m", "xpcnn", "train", given.folder, "--folds", str(given.folds), "--out", str(out)]
        begun = time.perf_counter()
        subprocess.run([*line, "--validation-fraction", "0", *given.options], stdout=subprocess.DEVNULL, check=True)
        seconds = (time.perf_counter() - begun) / given.folds
        found = json.loads((out / "folds.json").read_text())
    for fold, accuracy in enumerate(found["accuracies"], start=1):
        print(f"fold {fold}: {accuracy:.4f}")
    print(f"mean of {given.folds}: {found['mean_accuracy']:.4f}, {seconds:.0f} s a fold  ({' '.join(given.options)})")


if __name__ == "__main__":
    main()
