"""Images for the examples: MNIST or the blood cells from a folder, or else the bundled digits."""

import os
import sys
from pathlib import Path

import cv2
import numpy as np

from xpcnn import data


def add_arguments(parser, epochs):
    """Add the arguments that all examples share."""
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="where the images are (default: from $XPCNN_DATA)")
    parser.add_argument("--out", type=Path, default=Path("runs"), metavar="FOLDER", help="where to save plots")
    parser.add_argument("--epochs", type=int, default=epochs, help=f"(default: {epochs})")
    parser.add_argument("--images", type=int, metavar="N", help="use only this many images, for a short run")
    parser.add_argument("--seed", type=int, default=0)


def run(main):
    """Run an example; report data that is missing or unreadable in one line."""
    try:
        main()
    except (OSError, ValueError, ImportError) as error:
        sys.exit(f"{Path(sys.argv[0]).stem}: {error}")


def blood_cells(folder, side):
    """Return grey blood cells (n, 1, side, side) as bytes, labels and class names; without a folder, digits."""
    folder = folder or _from_environment("blood")
    if folder is None:
        return digits(side)
    cells = data.load_folder(folder, data.Decoding(side, side, 1), progress=True)
    for path, reason in cells.skipped:
        print(f"skipped {path.name}: {reason}")
    return cells.x, cells.y, cells.classes


def mnist(folder):
    """Return MNIST's training images (n, 1, 28, 28) as bytes, labels and class names; without a folder, digits."""
    folder = folder or _from_environment("mnist")
    if folder is None:
        return digits(28)
    train, _ = data.load_mnist(folder)
    return train.x, train.y, train.classes


def mnist_with_test(folder):
    """Return MNIST's (images, labels) for training and for testing; without a folder, those of the digits."""
    folder = folder or _from_environment("mnist")
    if folder is None:
        x, y, _ = digits(28)
        return (x[:-300], y[:-300]), (x[-300:], y[-300:])
    train, test = data.load_mnist(folder)
    return (train.x, train.y), (test.x, test.y)


def digits(side):
    """Return the bundled digits, enlarged to the network's input size."""
    bundled = data.load_digits()
    enlarged = [cv2.resize(image[0], (side, side), interpolation=cv2.INTER_LINEAR) for image in bundled.x]
    print(f"no data folder: using the {len(enlarged):,} bundled digits, enlarged from 8x8 to {side}x{side}")
    return np.array(enlarged)[:, None], bundled.y, bundled.classes


def some(count, x, y, seed):
    """Return ``count`` of the images, a stratified sample; all of them if it is None."""
    if count is None or count >= len(y):
        return x, y
    rows = data.stratified_split(y, count / len(y), 0.0, seed).test
    return x[rows], y[rows]


def _from_environment(name):
    folder = os.environ.get("XPCNN_DATA")
    return Path(folder) / name if folder else None
