"""The arguments of ``xpcnn train`` and their defaults."""

from __future__ import annotations

import argparse

from xpcnn.cli import datasets, options, pictures

PRESETS = (
    "small", "medium", "tiny", "lenet", "blood", "blood-unpooled", "zero-or-one", "four-small-1", "four-small-2",
    "four-small-3", "four-small-4", "full-batch", "homework", "resnet-18", "resnet-34", "resnet-50", "mobilenet-v2",
    "mobilenet-v3-small", "efficientnet-b0", "efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2",
    "squeezenet", "vgg-11", "alexnet",
)  # fmt: skip
#: The values of arguments that are not given; those are parsed as None, to tell them apart.
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
    "copies": "one-part",
}
#: Other values for pretrained weights, by what of them is trained. The features of unchanged images are computed once;
#: deeper layers take fewer and smaller steps. The rate and the epochs of "all" were measured: docs/results.md.
FINE_TUNING = {
    "head": {"augment": "none", "batch_size": 32},
    "last": {"augment": "light", "batch_size": 32, "epochs": 15, "lr": 3e-3},
    "all": {"augment": "light", "batch_size": 32, "epochs": 15, "lr": 3e-3},
}
#: The networks that --width makes wider or narrower.
SCALABLE = ("small", "medium", "tiny")
#: Arguments of the command or its output, not of the run.
TOGETHER = ("distributed", "fast_sums", "elastic")
NOT_OF_THE_RUN = ("command", "debug", "out", "resume", "open", *TOGETHER)


def add_arguments(parser: argparse.ArgumentParser, tunes: bool = False) -> None:
    """Add the arguments of ``xpcnn train``, or those of them that ``xpcnn tune`` has, where they are of all trials."""
    command = "tune" if tunes else "train"
    parser.add_argument("data", nargs="?", metavar="DATA", help=f"{datasets.HELP}; default: digits")
    datasets.add_labels(parser)
    parser.add_argument(
        "--out", metavar="DIR", help=f"the run's directory (default: runs/{command}, runs/{command}-2, …)"
    )
    options.add_flag(
        parser,
        "--cache",
        "keep a folder's decoded images on disk, and what frozen layers make of them, so that the next run starts at "
        "once",
    )
    network = parser.add_argument_group("network and images")
    start = network.add_mutually_exclusive_group()
    start.add_argument(
        "--model", choices=PRESETS, metavar="NAME", help=f"the network (default: small), one of: {', '.join(PRESETS)}"
    )
    start.add_argument(
        "--from", dest="start", metavar="NAME|FILE",
        help="start from pretrained weights: a name that `xpcnn weights` lists, hf:owner/name on the Hugging Face hub, "
        "a PyTorch state dict, or a model file; other classes get a new last layer",
    )  # fmt: skip
    network.add_argument(
        "--width", type=options.rate, metavar="X",
        help=f"times as many filters, in the networks {', '.join(SCALABLE)} (default: 1)",
    )  # fmt: skip
    unchanged = network.add_mutually_exclusive_group()
    unchanged.add_argument(
        "--freeze", type=options.whole, metavar="N", help="with --from: keep the first N layers with weights unchanged"
    )
    unchanged.add_argument(
        "--fine-tune", choices=[*FINE_TUNING], metavar="PART",
        help="with --from: train head, the last layer (default, except for a model file); last, the last third of the "
        "layers; or all; batch normalisation stays as it is, and deeper layers take at most 0.3 of the rate. Other "
        "defaults: batches of 32; for head no augmentation, for others light augmentation, 15 epochs, a rate of 0.003",
    )  # fmt: skip
    pictures.add_arguments(network)
    network.add_argument(
        "--augment", choices=("none", "shift", "light", "microscopy", "flip", "dihedral"),
        help="augment training images: shift (default), light (horizontal flips, small shifts), microscopy (flips, "
        "rotations by 90 degrees, contrast and brightness), flip (horizontal flips alone), dihedral (flips and "
        "rotations alone), none",
    )  # fmt: skip
    options.add_flag(network, "--test-augment", "evaluate with predictions averaged over the flips of --augment")
    learning = parser.add_argument_group("learning")
    learning.add_argument(
        "--epochs", type=options.positive, metavar="N",
        help="of each trial (default: as many as let 16 of them fit into the minutes)" if tunes
        else f"default: {DEFAULTS['epochs']}; without --from, for few images more, up to 120, to make 480 steps",
    )  # fmt: skip
    learning.add_argument(
        "--minutes", type=options.rate, metavar="M",
        help="the time for all trials" if tunes
        else "in place of --epochs: train for the epochs that, timed at the beginning, fit into M minutes",
    )  # fmt: skip
    learning.add_argument("--batch-size", type=options.positive, metavar="N", help=f"default: {DEFAULTS['batch_size']}")
    learning.add_argument(
        "--lr", type=options.rate, metavar="X",
        help=f"AdamW's peak rate, reached after 3 tenths of the steps, then falling to 0 (default: {DEFAULTS['lr']})",
    )  # fmt: skip
    learning.add_argument(
        "--weight-decay", type=options.fraction, metavar="X",
        help=f"for all weights except biases and normalisation (default: {DEFAULTS['weight_decay']})",
    )  # fmt: skip
    learning.add_argument(
        "--label-smoothing", type=options.fraction, metavar="X",
        help=f"fraction of each target to distribute over all classes (default: {DEFAULTS['label_smoothing']})",
    )  # fmt: skip
    options.add_flag(learning, "--balance", "give all classes the same weight, however many images they have")
    options.add_flag(learning, "--average", "keep averages of the weights over the latest steps")
    learning.add_argument(
        "--patience", type=options.positive, metavar="N", help="stop after N epochs without improvement"
    )
    learning.add_argument("--seed", type=options.whole, metavar="N", help=f"default: {DEFAULTS['seed']}")
    learning.add_argument("--shards", type=options.positive, metavar="N", help="shards to divide a batch into")
    parts = parser.add_argument_group("parts")
    parts.add_argument(
        "--test-fraction", type=options.fraction, metavar="X",
        help=f"fraction of all images to test the best epoch on (default: {DEFAULTS['test_fraction']}; datasets with "
        "parts keep their own)",
    )  # fmt: skip
    parts.add_argument(
        "--validation-fraction", type=options.fraction, metavar="X",
        help=f"fraction of the rest to choose the best epoch by (default: {DEFAULTS['validation_fraction']}; 0: none, "
        "the last epoch is the best)",
    )  # fmt: skip
    if not tunes:
        parts.add_argument(
            "--folds", type=options.several, metavar="K",
            help="in place of --test-fraction: cross-validation, K runs that each test on another K-th of the images",
        )  # fmt: skip
        parts.add_argument("--fold", type=options.positive, help=argparse.SUPPRESS)  # of one of these runs
    parts.add_argument(
        "--group-by", metavar="PATTERN|CSV",
        help="keep images that belong together, such as those of a patient, in one part: a regular expression whose "
        "parentheses capture the group in a path below DATA, or a table with the columns path and group",
    )  # fmt: skip
    # Version 0.1.0 left copies anywhere, so its runs keep them there when they are resumed.
    parts.add_argument("--copies", choices=("one-part", "anywhere"), help=argparse.SUPPRESS)
    options.add_flag(
        parts,
        "--strict",
        "stop at an image that cannot be read, and at an image or group in two parts or classes",
    )
    options.add_flag(parser, "--no-digests", "store no digests of images, by which evaluate and compare know them")
    options.add_flag(parser, "--no-plots", "omit plots and images from the report")
    if not tunes:
        options.add_flag(parser, "--open", "open the report in the browser at the end")
    safety = parser.add_argument_group("interrupted runs")
    safety.add_argument(
        "--checkpoint-every", type=options.interval, metavar="N|Nm",
        help="also write the checkpoint every N steps or minutes (default: after each epoch)",
    )  # fmt: skip
    safety.add_argument(
        "--resume", metavar="RUN", help="resume a run, given its directory, as if it had never been interrupted"
    )
    options.add_computing(parser).add_argument(
        "--precision", choices=("float32", "tf32", "bfloat16", "float16"),
        help="what products and convolutions on a GPU compute in (default: $XPCNN_PRECISION, else float32); changed on "
        "resuming, the bits differ",
    )  # fmt: skip
    if tunes:
        parser.set_defaults(**dict.fromkeys(("folds", "fold", "open", *TOGETHER)))
    else:
        _add_together(parser)


def _add_together(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of a run on several processes."""
    together = parser.add_argument_group("several processes")
    options.add_flag(
        together,
        "--distributed",
        "train on all processes that mpiexec has started: mpiexec -n 4 xpcnn …",
    )
    options.add_flag(together, "--fast-sums", "with --distributed: let MPI add gradients in any order, not bit for bit")
    options.add_flag(
        together, "--elastic", "with --distributed: when a process is lost, continue without it from the last "
        "checkpoint, on a fault-tolerant MPI (mpiexec --with-ft ulfm)"
    )  # fmt: skip
