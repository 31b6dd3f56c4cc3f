"""Train a classifier on a folder of images, and evaluate it on held-out images."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xpcnn.cli import building, datasets, loading, options, pictures, ranks, report, resume
from xpcnn.cli.fitting import Fitting, say
from xpcnn.cli.text import printable, warnings_in_one_line
from xpcnn.cli.train_arguments import DEFAULTS, FINE_TUNING, NOT_OF_THE_RUN, SCALABLE
from xpcnn.cli.train_arguments import add_arguments as add_arguments  # which every command has

if TYPE_CHECKING:
    from xpcnn.cli.loading import Loaded
    from xpcnn.cli.run_directory import RunDirectory
    from xpcnn.communicator import Communicator
    from xpcnn.data import Decoding
    from xpcnn.training.checkpoints import SavedFit

    #: The arguments of a run, its checkpoint and its decoding, if any.
    Recalled = tuple[dict[str, Any], SavedFit | None, Decoding | None]


def run(options_: argparse.Namespace) -> int:
    """Train, write the run's directory and print the test accuracy."""
    _refuse_with_folds(options_)
    begun: list[str] = []  # the run's directory, once claimed: a job that has lost a process resumes there
    return ranks.run_together(options_, lambda communicator: _run_new_or_resumed(options_, communicator, begun))


def _run_new_or_resumed(options_: argparse.Namespace, communicator: Communicator, begun: list[str]) -> int:
    from xpcnn.cli import folds
    from xpcnn.cli.run_directory import NewRun, ResumedRun

    given = {key: value for key, value in vars(options_).items() if value is not None and key not in NOT_OF_THE_RUN}
    if "minutes" in given and "epochs" in given:
        raise argparse.ArgumentError(None, "--minutes chooses the number of epochs, so omit --epochs, or --minutes")
    out = begun[0] if begun else options_.out
    resumed = options_.resume or (out if begun and Path(out, "args.json").exists() else None)
    if resumed is None:
        refuse_among_images(options_.out, given.get("data", "digits"))
        refuse_what_means_nothing(argparse.Namespace(**{**vars(options_), **completed(given)}))
        started = completed(with_part(given))
        if folds.are_in(given):
            from xpcnn.precision import asked_precision

            started = {"precision": asked_precision(), **started}  # of all folds, whenever they are resumed
            return _run_folds(options_, NewRun(out), lambda directory: started, given, communicator)
        return carry_out(options_, NewRun(out), lambda directory: (started, None, None), communicator, begun)
    if options_.resume and options_.out is not None:
        raise argparse.ArgumentError(None, "--resume writes to the run's own directory, so --out has no effect")

    if folds.are_resumed(resumed):
        return _run_folds(
            options_, ResumedRun(resumed), lambda directory: recalled(directory, given)[0], given, communicator
        )
    return carry_out(options_, ResumedRun(resumed), lambda directory: recalled(directory, given), communicator, begun)


def recalled(directory: RunDirectory, given: dict[str, Any]) -> Recalled:
    """Return what an interrupted run has recorded; raises ValueError if it was started with other arguments."""
    recorded, saved, decoding = resume.recall(directory.path)
    resume.refuse_other_arguments(directory.path, recorded, given)
    return completed(recorded) | given, saved, decoding


def _run_folds(
    options_: argparse.Namespace,
    claimed: RunDirectory,
    recall: Callable[[RunDirectory], dict[str, Any]],
    given: dict[str, Any],
    communicator: Communicator,
) -> int:
    """Carry out the runs of all folds, each from its start or from where it was interrupted."""
    from xpcnn.cli import folds
    from xpcnn.cli.run_directory import NewRun

    load = loading.loading_once()

    def run_fold(directory: RunDirectory, arguments: dict[str, Any]) -> int:
        def recall_fold(directory: RunDirectory) -> Recalled:
            if isinstance(directory, NewRun):
                return arguments, None, None
            return recalled(directory, {key: arguments[key] for key in {*given, "folds", "fold"}})

        return carry_out(options_, directory, recall_fold, communicator, [], load=load)

    return folds.run(claimed, recall, run_fold)


def refuse_among_images(out: str | None, data: str) -> None:
    """Raise ValueError if a run's directory would be taken for one of the classes."""
    if out is not None and data not in datasets.NAMED and Path(out).resolve().is_relative_to(Path(data).resolve()):
        raise ValueError(f"The run's directory {out!r} is inside the images' folder {data!r}. Give another with --out.")


def with_part(given: dict[str, Any]) -> dict[str, Any]:
    """Return arguments that say which part of pretrained weights is trained: by default the last layer alone."""
    if "start" not in given or "fine_tune" in given or "freeze" in given:
        return given
    from xpcnn import pretrained

    return {**given, "fine_tune": "head"} if pretrained.is_of_another_library(given["start"]) else given


def completed(given: dict[str, Any]) -> dict[str, Any]:
    """Return arguments with defaults for those that are not given."""
    left_out = ["model", "label_smoothing", *pictures.OF_A_MODEL] if "start" in given else []  # that model has its own
    if "minutes" in given or "start" not in given:
        left_out.append("epochs")  # these depend on the images
    if "folds" in given:
        left_out.append("test_fraction")
    defaults = DEFAULTS | FINE_TUNING.get(given.get("fine_tune", ""), {})
    return {key: value for key, value in defaults.items() if key not in left_out} | given


def carry_out(
    options_: argparse.Namespace,
    claimed: RunDirectory,
    recall: Callable[[RunDirectory], Recalled],
    communicator: Communicator,
    begun: list[str],
    work: Callable[[Fitting, bool], int] = Fitting.run,
    quiet: bool = False,
    load: Callable[..., Loaded] = loading.load_images,
) -> int:
    """Carry out the run of a directory, from its start or from where it was interrupted; ``work`` does the rest.

    recall: returns what the run has recorded. begun: gets the directory, once it is claimed. work: takes the compiled
    fitting, and whether it is resumed, and returns the exit code. quiet: print no notes. load: loads the
    images, given what :func:`xpcnn.cli.loading.load_images` takes.
    """
    from xpcnn import recipe
    from xpcnn.cli import folds
    from xpcnn.cli.run_directory import OtherRank, about
    from xpcnn.cli.signals import noting_how_to_go_on
    from xpcnn.precision import precision_of
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
        built = None if saved is None else saved.layers  # the preset may have changed since
        arguments, built, finished, decoding = communicator.broadcast((arguments, built, finished, decoding))
        resumed = built is not None
        if finished:
            print(f"the run is finished; its metrics: {directory.metrics}")
            if options_.open and communicator.rank == 0:
                report.open_in_browser(directory.report)
            return 0
        options_ = argparse.Namespace(**{**vars(options_), **arguments})
        refuse_what_means_nothing(options_)
        xp = options.chosen_backend(options_)
        arguments["precision"] = precision_of(xp)
        weights = _weights(options_.start, saved) if communicator.rank == 0 else None
        if resumed and options_.start and (directory.path / "last.safetensors").exists():
            options_.start = str(directory.path / "last.safetensors")  # the model it started from may be gone
        distributed.use_own_device(xp, communicator)
        quiet = quiet or communicator.rank > 0
        with warnings_in_one_line(options_.command, quiet=quiet):
            model, loaded = building.build(options_, xp, communicator, decoding, built, load)
        images, split = loaded.images, loaded.split
        if decoding is None and not options_.start:
            arguments |= pictures.arguments_of(loaded.decoding)
        listed = resume.list_images(images, split, options_.data, communicator)
        if directory.whole is not None:
            folds.refuse_other_images(directory, directory.whole, listed, loaded.decoding.to_json())
        if saved is not None:
            resume.refuse_other_images(directory.path, saved, listed)
            print(f"resuming {directory.path} after step {saved.step}")
            if saved.precision != precision_of(xp):
                say(
                    f"the run was computed in {saved.precision} and goes on in {precision_of(xp)}: its results are not "
                    "bit-identical to those of an uninterrupted run",
                    options_.command,
                )
        if options_.epochs is None and not options_.minutes:
            options_.epochs = recipe.epochs_for(len(split.train), options_.batch_size)

        def recorded() -> Fitting:
            """Record the arguments, since a run with them can be resumed, and return what carries them out."""
            known = {} if options_.epochs is None else {"epochs": options_.epochs}
            described = arguments | known | about(model, (options_.epochs or 1) * len(split.train), weights)
            directory.write_arguments(described)
            record = {"arguments": described, "images": listed}
            return Fitting(options_, directory, model, images, split, record, communicator)

        fitting = recorded()
        directory.write_lists(images, split)  # again on resuming: paths are relative to the working directory
        skipped = f", {len(images.skipped)} skipped ({directory.skipped})" if images.skipped else ""
        print(
            f"{len(images.y)} images in {len(images.classes)} classes{skipped}: {len(split.train)} to train, "
            f"{len(split.validation)} to validate, {len(split.test)} to test; seed {options_.seed}",
            flush=True,
        )
        for line in loaded.description:
            print(printable(line), flush=True)
        for note in [] if quiet else loaded.notes:
            say(printable(note), options_.command)
        if images.cache is not None:
            print(datasets.describe_cache(images.cache), flush=True)
        if options_.epochs is None:
            options_.epochs = fitting.epochs_in_minutes(started)
            fitting = recorded()
        fitting.compile(options_.lr)
        if options_.start and not resumed and communicator.rank == 0:
            model.save(directory.path / "last.safetensors")  # to resume from before the first epoch has ended
        return work(fitting, resumed)


def _weights(start: str | None, saved: SavedFit | None) -> dict[str, str] | None:
    """Return what identifies the weights to start from, if any; those of a resumed run as they were recorded."""
    from xpcnn import pretrained

    if saved is not None:
        recorded: dict[str, str] | None = saved.record["arguments"].get("weights")
        return recorded
    return pretrained.origin(start) if start else None


def _refuse_with_folds(options_: argparse.Namespace) -> None:
    """Raise a usage error for arguments that a run of several folds does not have."""
    from xpcnn.cli import folds

    single = [f"--{name}" for name in ("distributed", "open") if getattr(options_, name)]
    if single and (folds.are_resumed(options_.resume) if options_.resume else folds.are_in(vars(options_))):
        raise argparse.ArgumentError(None, f"{single[0]} is for a single run, and --folds makes several; omit one")


def refuse_what_means_nothing(options_: argparse.Namespace) -> None:
    """Raise a usage error for contradictory arguments."""
    decoding = [name for name in pictures.OF_A_MODEL if name != "image_size"]
    if options_.start and any(getattr(options_, name) is not None for name in decoding):
        raise argparse.ArgumentError(None, "--from sets the channels, the range and the resizing; omit the given ones")
    for option, value in (("--freeze", options_.freeze), ("--fine-tune", options_.fine_tune)):
        if value is not None and not options_.start:
            raise argparse.ArgumentError(None, f"{option} needs --from, whose model's layers it keeps")
    if options_.width is not None and options_.model not in SCALABLE:
        network = "--from" if options_.start else f"--model {options_.model}"
        raise argparse.ArgumentError(None, f"--width is for {', '.join(SCALABLE)}; omit it, or {network}")
    if options_.fold is not None and options_.fold > (options_.folds or 0):
        raise argparse.ArgumentError(None, f"--fold {options_.fold} needs --folds {max(2, options_.fold)} or more")
    if options_.folds and options_.test_fraction is not None:
        raise argparse.ArgumentError(None, "--folds tests every image once, so omit --test-fraction, or --folds")
    datasets.check_options(options_)
