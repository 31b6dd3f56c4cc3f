"""What ``xpcnn train`` takes on the command line, and what it takes where nothing is given."""

from __future__ import annotations

import argparse

from xpcnn.cli import datasets, options, pictures

PRESETS = (
    "small", "tiny", "lenet", "blood", "blood-unpooled", "zero-or-one", "four-small-1", "four-small-2", "four-small-3",
    "four-small-4", "full-batch", "homework",
)  # fmt: skip
#: What is taken for an argument that is not given: the arguments themselves are None then, so that it can be told.
DEFAULTS = {
    "data": "digits",
    "model": "small",
    "augment": "shift",
    "epochs": 40,
    "batch_size": 64,
    "lr": 4e-3,
    "weight_decay": 0.05,
    "label_smoothing": 0.05,
    "seed": 0,
    "resize": "stretch",
    "page": "0",
    "test_fraction": 0.2,
    "validation_fraction": 0.1,
}
#: Arguments of the command, and of where a run is written, not of the run.
NOT_OF_THE_RUN = ("command", "debug", "out", "resume", "open", "distributed", "fast_sums", "elastic")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``xpcnn train``."""
    parser.add_argument("data", nargs="?", metavar="DATA", help=f"{datasets.HELP}; default: digits")
    parser.add_argument("--out", metavar="DIR", help="the run's directory (default: runs/train, runs/train-2, …)")
    options.add_flag(parser, "--cache", "keep a folder's decoded images on disk, so that the next run starts at once")
    network = parser.add_argument_group("network and images")
    start = network.add_mutually_exclusive_group()
    start.add_argument(
        "--model", choices=PRESETS, metavar="NAME", help=f"the network (default: small), one of: {', '.join(PRESETS)}"
    )
    start.add_argument(
        "--from", dest="start", metavar="MODEL",
        help="go on from a model file: its network, weights, image size and channels",
    )  # fmt: skip
    network.add_argument(
        "--freeze", type=options.whole, metavar="N", help="with --from: the first N layers that have weights stay"
    )
    pictures.add_arguments(network)
    network.add_argument(
        "--augment", choices=("none", "shift", "light", "microscopy"),
        help="vary training images: shift (default), light (flips left-right, small shifts), microscopy (flips, "
        "quarter turns, contrast and brightness), none",
    )  # fmt: skip
    options.add_flag(network, "--test-augment", "measure by the mean over the ways in which --augment lays an image")
    learning = parser.add_argument_group("learning")
    learning.add_argument("--epochs", type=options.positive, metavar="N", help=f"default: {DEFAULTS['epochs']}")
    learning.add_argument("--batch-size", type=options.positive, metavar="N", help=f"default: {DEFAULTS['batch_size']}")
    learning.add_argument(
        "--lr", type=options.rate, metavar="X",
        help=f"AdamW's highest rate, reached after 3 tenths of the steps and falling to 0 (default: {DEFAULTS['lr']})",
    )  # fmt: skip
    learning.add_argument(
        "--weight-decay", type=options.fraction, metavar="X",
        help=f"of all weights but those of biases and normalisation (default: {DEFAULTS['weight_decay']})",
    )  # fmt: skip
    learning.add_argument(
        "--label-smoothing", type=options.fraction, metavar="X",
        help=f"part of each target that is spread over all classes (default: {DEFAULTS['label_smoothing']})",
    )  # fmt: skip
    options.add_flag(learning, "--balance", "let all classes count alike, however many images they have")
    options.add_flag(learning, "--average", "keep averages of the weights over the latest steps")
    learning.add_argument(
        "--patience", type=options.positive, metavar="N", help="stop after N epochs without a better one"
    )
    learning.add_argument("--seed", type=options.whole, metavar="N", help=f"default: {DEFAULTS['seed']}")
    learning.add_argument("--shards", type=options.positive, metavar="N", help="pieces a batch is cut into")
    parts = parser.add_argument_group("parts")
    parts.add_argument(
        "--test-fraction", type=options.fraction, metavar="X",
        help=f"of all images, to measure the best epoch with (default: {DEFAULTS['test_fraction']}; sets with parts "
        "have their own)",
    )  # fmt: skip
    parts.add_argument(
        "--validation-fraction", type=options.fraction, metavar="X",
        help=f"of the rest, to choose the best epoch by (default: {DEFAULTS['validation_fraction']}; 0: none, the last "
        "epoch is the best)",
    )  # fmt: skip
    options.add_flag(parts, "--strict", "stop at the first image that cannot be read")
    options.add_flag(parser, "--no-digests", "keep no digests of the images in the model, by which evaluate knows them")
    options.add_flag(parser, "--no-plots", "write no pictures into the report")
    options.add_flag(parser, "--open", "show the report in the browser at the end")
    safety = parser.add_argument_group("runs that are broken off")
    safety.add_argument(
        "--checkpoint-every", type=options.interval, metavar="N|Nm",
        help="write the checkpoint every N steps or minutes too (default: after each epoch)",
    )  # fmt: skip
    safety.add_argument(
        "--resume", metavar="RUN", help="go on with a run, given its directory, as if it had never been broken off"
    )
    options.add_computing(parser)
    together = parser.add_argument_group("several processes")
    options.add_flag(
        together,
        "--distributed",
        "train together with all that mpiexec has started: mpiexec -n 4 xpcnn …",
    )
    options.add_flag(together, "--fast-sums", "with --distributed: let MPI add gradients in any order, not bit for bit")
    options.add_flag(
        together, "--elastic", "with --distributed: go on from the last checkpoint without a process that is lost, on "
        "an MPI that lives on (mpiexec --with-ft ulfm)"
    )  # fmt: skip
