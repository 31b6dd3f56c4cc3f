"""Train a classifier on a folder of images, and evaluate it on held-out images."""

from __future__ import annotations

import argparse
import copy
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xpcnn.cli import datasets, loading, options, pictures, ranks, report, resume
from xpcnn.cli.text import accuracy, printable, warnings_in_one_line
from xpcnn.cli.train_arguments import DEFAULTS, FINE_TUNING, NOT_OF_THE_RUN
from xpcnn.cli.train_arguments import add_arguments as add_arguments  # which every command has

if TYPE_CHECKING:
    from xpcnn.backend import ArrayModule
    from xpcnn.cli.budget import Times
    from xpcnn.cli.loading import Loaded
    from xpcnn.cli.run_directory import RunDirectory
    from xpcnn.communicator import Communicator
    from xpcnn.data import Decoding, LabelledImages, Split
    from xpcnn.model import Sequential
    from xpcnn.report import Report
    from xpcnn.training.callbacks import Callback
    from xpcnn.training.checkpoints import SavedFit
    from xpcnn.training.history import History

    #: The arguments of a run, its checkpoint and its decoding, if any.
    Recalled = tuple[dict[str, Any], SavedFit | None, Decoding | None]


def run(options_: argparse.Namespace) -> int:
    """Train, write the run's directory and print the test accuracy."""
    begun: list[str] = []  # the run's directory, once claimed: a job that has lost a process resumes there
    return ranks.run_together(options_, lambda communicator: _run_new_or_resumed(options_, communicator, begun))


def _run_new_or_resumed(options_: argparse.Namespace, communicator: Communicator, begun: list[str]) -> int:
    from xpcnn.cli.run_directory import NewRun, ResumedRun

    given = {key: value for key, value in vars(options_).items() if value is not None and key not in NOT_OF_THE_RUN}
    if "minutes" in given and "epochs" in given:
        raise argparse.ArgumentError(None, "--minutes chooses the number of epochs, so omit --epochs, or --minutes")
    out = begun[0] if begun else options_.out
    resumed = options_.resume or (out if begun and Path(out, "args.json").exists() else None)
    if resumed is None:
        _refuse_among_images(options_.out, given.get("data", "digits"))
        _refuse_what_means_nothing(argparse.Namespace(**{**vars(options_), **_completed(given)}))
        started = _with_part(given)
        return _run(options_, NewRun(out), lambda directory: (_completed(started), None, None), communicator, begun)
    if options_.resume and options_.out is not None:
        raise argparse.ArgumentError(None, "--resume writes to the run's own directory, so --out has no effect")

    def recalled(directory: RunDirectory) -> Recalled:
        recorded, saved, decoding = resume.recall(directory.path)
        resume.refuse_other_arguments(directory.path, recorded, given)
        return _completed(recorded) | given, saved, decoding

    return _run(options_, ResumedRun(resumed), recalled, communicator, begun)


def _refuse_among_images(out: str | None, data: str) -> None:
    """Raise ValueError if a run's directory would be taken for one of the classes."""
    if out is not None and data not in datasets.NAMED and Path(out).resolve().is_relative_to(Path(data).resolve()):
        raise ValueError(f"The run's directory {out!r} is inside the images' folder {data!r}. Give another with --out.")


def _with_part(given: dict[str, Any]) -> dict[str, Any]:
    """Return arguments that say which part of pretrained weights is trained: by default the last layer alone."""
    if "start" not in given or "fine_tune" in given or "freeze" in given:
        return given
    from xpcnn import pretrained

    return {**given, "fine_tune": "head"} if pretrained.is_of_another_library(given["start"]) else given


def _completed(given: dict[str, Any]) -> dict[str, Any]:
    """Return arguments with defaults for those that are not given."""
    left_out = ["model", "label_smoothing", *pictures.OF_A_MODEL] if "start" in given else []  # that model has its own
    if "minutes" in given:
        left_out.append("epochs")  # timed when the images are known
    defaults = DEFAULTS | FINE_TUNING.get(given.get("fine_tune", ""), {})
    return {key: value for key, value in defaults.items() if key not in left_out} | given


def _run(
    options_: argparse.Namespace,
    claimed: RunDirectory,
    recall: Callable[[RunDirectory], Recalled],
    communicator: Communicator,
    begun: list[str],
) -> int:
    """Carry out the run of a directory, from its start or from where it was interrupted."""
    from xpcnn.cli.run_directory import OtherRank, about
    from xpcnn.cli.signals import noting_how_to_go_on
    from xpcnn.training import distributed

    started = time.monotonic()
    if communicator.rank:
        claimed = OtherRank(communicator.broadcast(None))
    with claimed as directory, noting_how_to_go_on(directory):
        if communicator.rank == 0:
            communicator.broadcast(str(directory.path))
        begun[:] = [str(directory.path)]
        arguments, saved, decoding = recall(directory) if communicator.rank == 0 else ({}, None, None)
        finished = directory.metrics.exists() and (saved is None or saved.finished)
        arguments, resumed, finished, decoding = communicator.broadcast(
            (arguments, saved is not None, finished, decoding)
        )
        if finished:
            print(f"the run is finished; its metrics: {directory.metrics}")
            if options_.open and communicator.rank == 0:
                report.open_in_browser(directory.report)
            return 0
        options_ = argparse.Namespace(**{**vars(options_), **arguments})
        _refuse_what_means_nothing(options_)
        xp = options.chosen_backend(options_)
        weights = _weights(options_.start, saved) if communicator.rank == 0 else None
        if resumed and options_.start and (directory.path / "last.safetensors").exists():
            options_.start = str(directory.path / "last.safetensors")  # the model it started from may be gone
        distributed.use_own_device(xp, communicator)
        with warnings_in_one_line("train", quiet=communicator.rank > 0):
            model, loaded = _prepare(options_, xp, communicator, decoding)
        images, split = loaded.images, loaded.split
        if decoding is None and not options_.start:
            arguments |= pictures.arguments_of(loaded.decoding)
        listed = resume.list_images(images, split, options_.data, communicator)
        if saved is not None:
            resume.refuse_other_images(directory.path, saved, listed)
            print(f"resuming {directory.path} after step {saved.step}")
        skipped = f", {len(images.skipped)} skipped ({directory.path / 'skipped.csv'})" if images.skipped else ""
        print(
            f"{len(images.y)} images in {len(images.classes)} classes{skipped}: {len(split.train)} to train, "
            f"{len(split.validation)} to validate, {len(split.test)} to test; seed {options_.seed}",
            flush=True,
        )
        for line in loaded.description:
            print(printable(line), flush=True)
        for note in loaded.notes if communicator.rank == 0 else []:
            _say(printable(note))
        if images.cache is not None:
            print(datasets.describe_cache(images.cache), flush=True)
        if options_.epochs is None:
            record = {"arguments": arguments | about(model, 1, weights), "images": listed}
            options_.epochs = _epochs_in(options_, started, directory, model, loaded, record, communicator)
            arguments["epochs"] = options_.epochs
        _compile(options_, model, options_.epochs, len(split.train), options_.lr)
        described = arguments | about(model, options_.epochs * len(split.train), weights)
        directory.write_arguments(described)  # first: a run with them can be resumed
        if options_.start and not resumed and communicator.rank == 0:
            model.save(directory.path / "last.safetensors")  # to resume from before the first epoch has ended
        directory.write_lists(images, split)  # again on resuming: paths are relative to the working directory
        record = {"arguments": described, "images": listed}
        return _train(options_, directory, model, images, split, record, resumed, communicator)


def _weights(start: str | None, saved: SavedFit | None) -> dict[str, str] | None:
    """Return what identifies the weights to start from, if any; those of a resumed run as they were recorded."""
    from xpcnn import pretrained

    if saved is not None:
        recorded: dict[str, str] | None = saved.record["arguments"].get("weights")
        return recorded
    return pretrained.origin(start) if start else None


def _refuse_what_means_nothing(options_: argparse.Namespace) -> None:
    """Raise a usage error for contradictory arguments."""
    decoding = [name for name in pictures.OF_A_MODEL if name != "image_size"]
    if options_.start and any(getattr(options_, name) is not None for name in decoding):
        raise argparse.ArgumentError(None, "--from sets the channels, the range and the resizing; omit the given ones")
    for option, value in (("--freeze", options_.freeze), ("--fine-tune", options_.fine_tune)):
        if value is not None and not options_.start:
            raise argparse.ArgumentError(None, f"{option} needs --from, whose model's layers it keeps")
    datasets.check_options(options_)


def _prepare(
    options_: argparse.Namespace, xp: ArrayModule, communicator: Communicator, decoding: Decoding | None
) -> tuple[Sequential, Loaded]:
    """Load the images and build the model, not compiled. decoding: that of a resumed run, else None."""
    import numpy as np

    from xpcnn import Sequential, data, presets, recipe
    from xpcnn.data.digests import with_digests

    if options_.start:
        model, loaded = _pretrained(options_, xp, communicator)
    else:
        loaded = loading.load_images(options_, communicator, decoding, None)
    images, split = loaded.images, loaded.split
    if options_.patience and len(split.validation) == 0:
        raise ValueError(
            f"--patience {options_.patience} needs validation images, and there are none. "
            "Use a larger --validation-fraction, or omit --patience."
        )
    datasets.refuse_one_colour(images, split)
    if not options_.start:
        shape = images.x.shape[1:]
        layers = presets.get(options_.model)(shape, len(images.classes))
        model = Sequential(layers, input_shape=shape, xp=xp, seed=options_.seed)
        model.class_names = images.classes
        model.preprocessing = data.Preprocessing.measure(
            images.x, loaded.decoding, rows=split.train, parallel_map=communicator.parallel_map
        )
    if options_.freeze:
        recipe.freeze(model, options_.freeze)
    if options_.fine_tune:
        recipe.fine_tune(model, options_.fine_tune)
    if options_.no_digests or images.digests is None:
        model.digests = None
    else:
        model.digests = with_digests(model.digests, images.digests[np.concatenate((split.train, split.validation))])
    return model, loaded


def _compile(options_: argparse.Namespace, model: Sequential, epochs: int, images: int, rate: float) -> None:
    """Compile a model for so many epochs of so many images, with a peak learning rate."""
    from xpcnn import losses, recipe

    smoothed = None if options_.label_smoothing is None else losses.CrossEntropy(options_.label_smoothing)
    steps = epochs * -(-images // options_.batch_size)
    recipe.compile(model, steps, rate, options_.weight_decay, loss=smoothed or model.loss)


def _epochs_in(
    options_: argparse.Namespace,
    started: float,
    directory: RunDirectory,
    model: Sequential,
    loaded: Loaded,
    record: dict[str, Any],
    communicator: Communicator,
) -> int:
    """Return how many epochs fit into --minutes since ``started``, and print it. Their times are those of copies."""
    from xpcnn.cli import budget
    from xpcnn.cli.run_directory import NewRun, OtherRank

    first = argparse.Namespace(
        **{**vars(options_), "epochs": budget.TIMED, "patience": None, "open": None, "cache": False}
    )

    def rehearse(xp: ArrayModule, split: Split, to_the_end: bool) -> Times:
        trained, clock = copy.deepcopy(model).to(xp), budget.Clock()
        _compile(first, trained, first.epochs, len(split.train), budget.RATE)
        with tempfile.TemporaryDirectory(dir=directory.path if communicator.rank == 0 else None) as folder:
            path = communicator.broadcast(folder)
            with NewRun(path) if communicator.rank == 0 else OtherRank(path) as own, redirect_stdout(None):
                history, page = _fit(first, own, trained, loaded.images, split, record, communicator, clock)
                trained.to(model.network.xp)
                fitted = time.monotonic()
                if to_the_end and communicator.rank == 0:
                    _measure(first, own, trained, loaded.images, split, history, page)
                return clock.times(time.monotonic() - fitted)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the run itself will warn
        return budget.Budget(options_, started, model.network, loaded.split, rehearse, communicator).epochs()


def _pretrained(options_: argparse.Namespace, xp: ArrayModule, communicator: Communicator) -> tuple[Sequential, Loaded]:
    """Load pretrained weights, and the images as they take them; classes that they do not know get a new last layer."""
    from dataclasses import replace

    from xpcnn import pretrained
    from xpcnn.cli.models import load_for_images

    if pretrained.is_of_another_library(options_.start):
        weights = pretrained.read(options_.start, options_.image_size)
        loaded = loading.load_images(options_, communicator, weights.preprocessing.decoding, None)
        classes = loaded.images.classes
        return weights.model(classes, len(classes), xp, options_.seed), loaded
    model, preprocessing, names = load_for_images(str(pretrained.find(options_.start)), xp)
    decoding = preprocessing.decoding
    if options_.image_size is not None:
        decoding = replace(decoding, height=options_.image_size, width=options_.image_size)
    replaces = datasets.has_other_classes(options_, names)
    loaded = loading.load_images(options_, communicator, decoding, None if replaces else names)
    if replaces:
        loaded.notes.append(f"{options_.start} has other classes, so its last layer is replaced by a new one")
    if replaces or decoding != preprocessing.decoding:
        classes = loaded.images.classes
        model = pretrained.adapted(model, classes, len(classes), options_.image_size, options_.seed)
    return model, loaded


def _train(
    options_: argparse.Namespace,
    directory: RunDirectory,
    model: Sequential,
    images: LabelledImages,
    split: Split,
    record: dict[str, Any],
    resumed: bool,
    communicator: Communicator,
) -> int:
    """Fit the model, then evaluate it, unless a signal ends the fit."""
    from xpcnn.cli.signals import StopOnSignal, how_to_go_on

    signals = StopOnSignal()
    history, page = _fit(options_, directory, model, images, split, record, communicator, signals, resumed)
    if signals.received is not None:
        page.write_interrupted()
        print(f"stopped by {signals.name}; {how_to_go_on(directory)}")
        return signals.exit_code
    if history.stop_reason is not None:
        print(f"stopped early: {history.stop_reason}")
    if communicator.rank == 0:
        _measure(options_, directory, model, images, split, history, page)
    return 0


def _fit(
    options_: argparse.Namespace,
    directory: RunDirectory,
    model: Sequential,
    images: LabelledImages,
    split: Split,
    record: dict[str, Any],
    communicator: Communicator,
    watch: Callback,
    resumed: bool = False,
) -> tuple[History, Report]:
    """Fit the model, and write its files; ``watch`` is one more callback. Return the history and the report."""
    from xpcnn import recipe
    from xpcnn.data import Normalized
    from xpcnn.training import callbacks

    preprocessing = model.preprocessing
    assert preprocessing is not None

    def part(rows: object) -> Normalized:
        return Normalized(images.x, rows, preprocessing)  # type: ignore[arg-type]

    often = options.steps_or_minutes(options_.checkpoint_every)
    validated = len(split.validation) > 0
    called: list[callbacks.Callback] = [
        callbacks.StopOnNaN(),
        *([callbacks.AveragedWeights()] if options_.average else []),
        *([callbacks.KeepFeatures()] if options_.cache else []),
        callbacks.CSVLog(directory.path / "history.csv"),
        callbacks.SaveLast(directory.path / "last.safetensors"),
        watch,
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
            resume=directory.checkpoint if resumed else None,
            communicator=communicator,
        )
    directory.finish_models(model, chosen=validated)
    return history, page


def _measure(
    options_: argparse.Namespace,
    directory: RunDirectory,
    model: Sequential,
    images: LabelledImages,
    split: Split,
    history: History,
    page: Report,
) -> None:
    """Calibrate the best model, evaluate it on the held-out images, and write and print the results."""
    from xpcnn import load, metrics
    from xpcnn.cli.models import finite
    from xpcnn.data import Normalized
    from xpcnn.report import advice

    results: dict[str, Any] = {
        "epochs": history.epochs,
        "train": {name: history.history[name][-1] for name in ("loss", "accuracy")},
    }
    best_file = directory.path / "best.safetensors"
    best, preprocessing = load(best_file, xp=model.network.xp), model.preprocessing
    assert preprocessing is not None
    kept_aside = {
        name: (Normalized(images.x, rows, preprocessing), images.y[rows])
        for name, rows in (("validation", split.validation), ("test", split.test))
        if len(rows)
    }
    averaged_over = options_.augment if options_.test_augment else "none"
    with finite(str(best_file)) as checked:
        if "validation" in kept_aside:
            results["temperature"] = best.calibrate(*kept_aside["validation"], threads=options_.threads)
            best.save(best_file)
        best.metrics = [*model.metrics, metrics.CalibrationError()]
        for name, samples in kept_aside.items():
            found = best.evaluate(*samples, threads=options_.threads, augment=averaged_over)
            checked(found["loss"])
            count = len(samples[1])
            results[name] = found | {"accuracy_95": metrics.wilson_interval(round(found["accuracy"] * count), count)}
    predictions = page.finish(results, best)
    if predictions is not None and predictions.part == "test":
        directory.write_predictions(images, predictions, digests=not options_.no_digests)
    directory.write_metrics(results)
    if "test" in results:
        test = results["test"]
        print(f"test accuracy {accuracy(test)}, loss {test['loss']:.4f} ({len(split.test)} images)")
    else:
        print("the test part has no images, so the model was not evaluated")
    for line in advice.of_run(page.run, page.epochs, best.epochs):
        print(line)
    print(f"model: {best_file}")
    if options_.open:
        report.open_in_browser(page.path)


def _say(message: object, *_: Any, **__: Any) -> None:
    """Print a warning in one line without its source location."""
    print(f"xpcnn train: {message}", file=sys.stderr)
