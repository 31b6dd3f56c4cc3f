"""Train a classifier on a folder of images, and measure it on images kept aside."""

from __future__ import annotations

import argparse
import shlex
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xpcnn.cli import datasets, options, report, resume

if TYPE_CHECKING:
    from xpcnn.backend import ArrayModule
    from xpcnn.cli.run_directory import RunDirectory
    from xpcnn.data import LabelledImages, Split
    from xpcnn.model import Sequential
    from xpcnn.training.checkpoints import Checkpoint

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
    "test_fraction": 0.2,
    "validation_fraction": 0.1,
}
#: Arguments of the command, and of where a run is written, not of the run.
NOT_OF_THE_RUN = ("command", "debug", "out", "resume", "open")


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
    network.add_argument("--image-size", type=options.positive, metavar="N", help="side in pixels (folders: 64)")
    color = network.add_mutually_exclusive_group()
    color.add_argument("--gray", dest="color", action="store_false", default=None, help="one grey channel")
    color.add_argument("--color", dest="color", action="store_true", help="three channels (default for folders)")
    network.add_argument(
        "--augment", choices=("none", "shift", "light", "microscopy"),
        help="vary training images: shift (default), light (flips left-right, small shifts), microscopy (flips, "
        "quarter turns, contrast and brightness), none",
    )  # fmt: skip
    options.add_flag(network, "--test-augment", "measure by the mean over the ways in which --augment lays an image")
    learning = parser.add_argument_group("learning")
    learning.add_argument("--epochs", type=options.positive, metavar="N", help="default: 40")
    learning.add_argument("--batch-size", type=options.positive, metavar="N", help="default: 64")
    learning.add_argument(
        "--lr", type=options.rate, metavar="X",
        help="AdamW's highest rate, reached after 3 tenths of the steps and falling to 0 (default: 0.004)",
    )  # fmt: skip
    learning.add_argument(
        "--weight-decay", type=options.fraction, metavar="X",
        help="of all weights but those of biases and normalisation (default: 0.05)",
    )  # fmt: skip
    learning.add_argument(
        "--label-smoothing", type=options.fraction, metavar="X",
        help="part of each target that is spread over all classes (default: 0.05)",
    )  # fmt: skip
    options.add_flag(learning, "--balance", "let all classes count alike, however many images they have")
    options.add_flag(learning, "--average", "keep averages of the weights over the latest steps")
    learning.add_argument(
        "--patience", type=options.positive, metavar="N", help="stop after N epochs without a better one"
    )
    learning.add_argument("--seed", type=options.whole, metavar="N", help="default: 0")
    parts = parser.add_argument_group("parts")
    parts.add_argument(
        "--test-fraction", type=options.fraction, metavar="X",
        help="of all images, to measure the best epoch with (default: 0.2; sets with parts have their own)",
    )  # fmt: skip
    parts.add_argument(
        "--validation-fraction", type=options.fraction, metavar="X",
        help="of the rest, to choose the best epoch by (default: 0.1; 0: none, the last epoch is the best)",
    )  # fmt: skip
    options.add_flag(parts, "--strict", "stop at the first image that cannot be read")
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
    parser.add_argument("--shards", type=options.positive, metavar="N", help="pieces a batch is cut into")


def run(options_: argparse.Namespace) -> int:
    """Train, write the run's directory and print the test accuracy."""
    from xpcnn.cli.run_directory import NewRun, ResumedRun

    given = {key: value for key, value in vars(options_).items() if value is not None and key not in NOT_OF_THE_RUN}
    if options_.resume is None:
        _refuse_among_images(options_.out, given.get("data", "digits"))
        return _run(options_, NewRun(options_.out), lambda directory: (_completed(given), None))
    if options_.out is not None:
        raise argparse.ArgumentError(None, "--resume writes into the run's own directory, so --out has no meaning")

    def recalled(directory: RunDirectory) -> tuple[dict[str, Any], Checkpoint | None]:
        recorded, saved = resume.recall(directory.path, add_arguments)
        resume.refuse_other_arguments(directory.path, recorded, given)
        return _completed(recorded) | given, saved

    return _run(options_, ResumedRun(options_.resume), recalled)


def _refuse_among_images(out: str | None, data: str) -> None:
    """Raise ValueError where a run's directory would be taken for one of the classes."""
    if out is not None and data not in datasets.NAMED and Path(out).resolve().is_relative_to(Path(data).resolve()):
        raise ValueError(f"The run's directory {out!r} lies in the images' folder {data!r}. Give --out another.")


def _completed(given: dict[str, Any]) -> dict[str, Any]:
    """Return arguments with the defaults of those that are not given."""
    left_out = ("model", "label_smoothing") if "start" in given else ()  # the model to start from has its own
    return {key: value for key, value in DEFAULTS.items() if key not in left_out} | given


def _run(
    options_: argparse.Namespace,
    claimed: RunDirectory,
    recall: Callable[[RunDirectory], tuple[dict[str, Any], Checkpoint | None]],
) -> int:
    """Make the run of a directory, from its beginning or from where it was broken off."""
    from xpcnn.cli.run_directory import about

    with claimed as directory:
        arguments, saved = recall(directory)
        if directory.metrics.exists() and (saved is None or saved.finished):
            print(f"the run is finished; its figures: {directory.metrics}")
            if options_.open:
                report.open_in_browser(directory.report)
            return 0
        options_ = argparse.Namespace(**{**vars(options_), **arguments})
        if options_.start and (options_.image_size or options_.color is not None):
            raise argparse.ArgumentError(None, "--from takes the model's image size and channels, not those given")
        if not options_.start and options_.freeze is not None:
            raise argparse.ArgumentError(None, "--freeze keeps layers of the model that --from gives")
        if options_.cache and options_.data in datasets.NAMED:
            raise argparse.ArgumentError(None, f"--cache is for a folder of images, and {options_.data} is none")
        xp = options.chosen_backend(options_)
        if saved is not None and options_.start and (directory.path / "last.safetensors").exists():
            options_.start = str(directory.path / "last.safetensors")  # the model it began with may be gone
        model, images, split = _prepare(options_, xp)
        record: dict[str, Any] = {
            "arguments": arguments | about(model),
            "images": resume.list_images(images, split, options_.data),
        }
        if saved is not None:
            resume.refuse_other_images(directory.path, saved, record["images"])
            print(f"going on with {directory.path} after step {saved.step}")
        directory.write_arguments(record["arguments"])  # first of all: a run that has them can be resumed
        if saved is None:
            directory.write_lists(images, split)
        skipped = f", {len(images.skipped)} skipped ({directory.path / 'skipped.csv'})" if images.skipped else ""
        print(
            f"{len(images.y)} images in {len(images.classes)} classes{skipped}: {len(split.train)} to train, "
            f"{len(split.validation)} to validate, {len(split.test)} to test; seed {options_.seed}",
            flush=True,
        )
        if images.cache is not None:
            print(datasets.describe_cache(images.cache), flush=True)
        return _train(options_, directory, model, images, split, record, saved)


def _prepare(options_: argparse.Namespace, xp: ArrayModule) -> tuple[Sequential, LabelledImages, Split]:
    """Load the images, cut them into parts and build the model."""
    from xpcnn import Sequential, data, losses, presets, recipe
    from xpcnn.cli.models import load_for_images

    if options_.start:
        model, preprocessing, classes = load_for_images(options_.start, xp)
        images = datasets.load_data(
            options_.data, preprocessing.decoding, options_.strict, options_.threads, options_.cache
        )
        images = datasets.match_classes(images, classes)
    else:
        decoding = datasets.decoding_for(options_.data, options_.image_size, options_.color)
        images = datasets.load_data(options_.data, decoding, options_.strict, options_.threads, options_.cache)
    split = datasets.split_data(images, options_.test_fraction, options_.validation_fraction, options_.seed)
    if options_.patience and len(split.validation) == 0:
        raise ValueError(
            f"--patience {options_.patience} waits for a better validation part, and no image is in it. "
            "Give a larger --validation-fraction, or no --patience."
        )
    if not options_.start:
        shape = images.x.shape[1:]
        layers = presets.get(options_.model)(shape, len(images.classes))
        model = Sequential(layers, input_shape=shape, xp=xp, seed=options_.seed)
        model.class_names = images.classes
        model.preprocessing = data.Preprocessing.measure(images.x, decoding, rows=split.train)
    if options_.freeze:
        recipe.freeze(model, options_.freeze)
    smoothed = None if options_.label_smoothing is None else losses.CrossEntropy(options_.label_smoothing)
    steps = options_.epochs * -(-len(split.train) // options_.batch_size)
    recipe.compile(model, steps, options_.lr, options_.weight_decay, loss=smoothed or model.loss)
    return model, images, split


def _train(
    options_: argparse.Namespace,
    directory: RunDirectory,
    model: Sequential,
    images: LabelledImages,
    split: Split,
    record: dict[str, Any],
    saved: Checkpoint | None,
) -> int:
    from xpcnn import load, recipe
    from xpcnn.cli.signals import StopOnSignal
    from xpcnn.data import Normalized
    from xpcnn.training import callbacks

    preprocessing = model.preprocessing
    assert preprocessing is not None

    def part(rows: object) -> Normalized:
        return Normalized(images.x, rows, preprocessing)  # type: ignore[arg-type]

    signals = StopOnSignal()
    often = options.steps_or_minutes(options_.checkpoint_every)
    validated = len(split.validation) > 0
    called: list[callbacks.Callback] = [
        callbacks.StopOnNaN(),
        *([callbacks.AveragedWeights()] if options_.average else []),
        callbacks.CSVLog(directory.path / "history.csv"),
        callbacks.SaveLast(directory.path / "last.safetensors"),
        signals,
        callbacks.Checkpoint(directory.checkpoint, **often, record=record),
    ]
    if validated:
        # by the loss, since with few images many epochs have the same accuracy
        called.append(callbacks.SaveBest(directory.path / "best.safetensors", "val_loss"))
        if options_.patience:
            called.append(callbacks.EarlyStopping(options_.patience, "val_loss", restore_best=False))
    page = report.during_training(directory, record["arguments"], images, split)
    called.append(page)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # NumPy's on overflow: StopOnNaN says where and what to do
        warnings.showwarning = _say
        history = model.fit(
            part(split.train),
            images.y[split.train],
            epochs=options_.epochs,
            batch_size=options_.batch_size,
            validation_data=(part(split.validation), images.y[split.validation]) if validated else None,
            seed=options_.seed,
            callbacks=called,
            shards=options_.shards,
            threads=options_.threads,
            augment=options_.augment,
            class_weight=recipe.balanced(images.y[split.train], len(images.classes)) if options_.balance else None,
            resume=None if saved is None else saved.path,
        )
    directory.finish_models(model, chosen=validated)
    if signals.received is not None:
        page.break_off()
        print(f"stopped by {signals.name}; to go on: xpcnn train --resume {shlex.quote(str(directory.path))}")
        return signals.exit_code
    results: dict[str, Any] = {
        "epochs": history.epochs,
        "train": {name: history.history[name][-1] for name in ("loss", "accuracy")},
    }
    best = load(directory.path / "best.safetensors", xp=model.xp)
    ways = options_.augment if options_.test_augment else "none"
    for name, rows in (("validation", split.validation), ("test", split.test)):
        if len(rows):
            results[name] = best.evaluate(part(rows), images.y[rows], threads=options_.threads, augment=ways)
    page.finish(results, best)
    directory.write_metrics(results)
    if "test" in results:
        test = results["test"]
        print(f"test accuracy {test['accuracy']:.4f}, loss {test['loss']:.4f} ({len(split.test)} images)")
    else:
        print("no image is in the test part, so the model was not measured")
    print(f"model: {directory.path / 'best.safetensors'}")
    if options_.open:
        report.open_in_browser(page.path)
    return 0


def _say(message: Warning | str, *_: Any, **__: Any) -> None:
    """Say a warning in one line, and not where in the sources it arose."""
    print(f"xpcnn train: {message}", file=sys.stderr)
