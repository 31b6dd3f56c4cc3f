"""What ``xpcnn train`` does when the images are loaded and the network is built: fit, evaluate, write."""

from __future__ import annotations

import argparse
import copy
import sys
import tempfile
import time
import warnings
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from xpcnn.cli import options, report, several_labels
from xpcnn.cli.text import accuracy

if TYPE_CHECKING:
    from xpcnn.backend import ArrayModule
    from xpcnn.cli.budget import Times
    from xpcnn.cli.run_directory import RunDirectory
    from xpcnn.communicator import Communicator
    from xpcnn.data import LabelledImages, Normalized, Split
    from xpcnn.model import Sequential
    from xpcnn.report import Report
    from xpcnn.training.callbacks import Callback
    from xpcnn.training.history import History


@dataclass(frozen=True)
class Fitting:
    """A model and the images that a run fits it to.

    record: what the checkpoint keeps besides the model: the arguments, and the images.
    """

    options: argparse.Namespace
    directory: RunDirectory
    model: Sequential
    images: LabelledImages
    split: Split
    record: dict[str, Any]
    communicator: Communicator

    def compile(self, rate: float) -> None:
        """Compile the model for all steps, with a peak learning rate."""
        from xpcnn import recipe

        given = self.options
        steps = given.epochs * -(-len(self.split.train) // given.batch_size)
        kept = None if given.label_smoothing is not None else self.model.loss
        smoothing = recipe.LABEL_SMOOTHING if given.label_smoothing is None else given.label_smoothing
        recipe.compile(self.model, steps, rate, given.weight_decay, smoothing, kept)

    def run(self, resumed: bool) -> int:
        """Fit the compiled model, then evaluate it, unless a signal ends the fit; return the exit code."""
        from xpcnn.cli.signals import StopOnSignal, how_to_go_on

        signals, page = StopOnSignal(), self._page()
        history = self.fit(signals, resumed, page)
        if signals.received is not None:
            page.write_interrupted()
            print(f"stopped by {signals.name}; {how_to_go_on(self.directory)}")
            return signals.exit_code
        if history.stop_reason is not None:
            print(f"stopped early: {history.stop_reason}")
        if self.communicator.rank == 0:
            self._measure(history, page)
        return 0

    def epochs_in_minutes(self, started: float) -> int:
        """Return how many epochs fit into --minutes since ``started``, and print it. Copies of the model are timed."""
        from xpcnn import data
        from xpcnn.cli import budget
        from xpcnn.cli.run_directory import NewRun, OtherRank
        from xpcnn.training.features import fit_in_memory, views_computed_once

        network, rank = self.model.network, self.communicator.rank

        def rehearse(xp: ArrayModule, split: Split, epochs: int, to_the_end: bool) -> Times:
            timed = {"epochs": epochs, "patience": None, "open": None, "cache": False}
            first = argparse.Namespace(**{**vars(self.options), **timed})
            model, clock = copy.deepcopy(self.model).to(xp), budget.Clock()
            with tempfile.TemporaryDirectory(dir=self.directory.path if rank == 0 else None) as folder:
                path = self.communicator.broadcast(folder)
                with NewRun(path) if rank == 0 else OtherRank(path) as directory, redirect_stdout(None):
                    rehearsal = replace(self, options=first, directory=directory, model=model, split=split)
                    rehearsal.compile(budget.RATE)
                    page = rehearsal._page()
                    history = rehearsal.fit(clock, False, page)
                    model.to(network.xp)
                    fitted = time.monotonic()
                    if to_the_end and rank == 0:
                        rehearsal._measure(history, page)
                    return clock.times(time.monotonic() - fitted)

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the run itself will warn
            views = len(views_computed_once(network, data.augment(self.options.augment)))
            kept = views > 0 and fit_in_memory(network, views, len(self.split.train), len(self.split.validation))
            planned = budget.Budget(
                self.options, started, network, self.split, rehearse, self.communicator, views, kept
            )
            return planned.epochs()

    def fit(self, watch: Callback, resumed: bool, page: Report | None = None) -> History:
        """Fit the compiled model, and write its files; ``watch`` is one more callback, and so is ``page``, if given."""
        from xpcnn import recipe
        from xpcnn.training import callbacks, checkpoints

        given, directory, images, split = self.options, self.directory, self.images, self.split
        saved = None
        if resumed and self.communicator.rank == 0:  # in the precision of this run, which may be another one
            saved = checkpoints.read(directory.checkpoint).in_precision(self.model.precision)
        often = options.steps_or_minutes(given.checkpoint_every)
        validated = len(split.validation) > 0
        called: list[callbacks.Callback] = [
            callbacks.StopOnNaN(),
            *([callbacks.AveragedWeights()] if given.average else []),
            *([callbacks.KeepFeatures()] if given.cache else []),
            callbacks.CSVLog(directory.path / "history.csv"),
            callbacks.SaveLast(directory.path / "last.safetensors"),
            watch,
            callbacks.Checkpoint(directory.checkpoint, **often, record=self.record),
        ]
        if validated:
            # by the loss, since with few images many epochs have the same accuracy
            called.append(callbacks.SaveBest(directory.path / "best.safetensors", "val_loss"))
            if given.patience:
                called.append(callbacks.EarlyStopping(given.patience, "val_loss", restore_best=False))
        if page is not None:
            called.append(page)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # NumPy's on overflow: StopOnNaN says where and what to do
            warnings.showwarning = lambda message, *_, **__: say(message, given.command)
            history = self.model.fit(
                *self._samples(split.train),
                epochs=given.epochs,
                batch_size=given.batch_size,
                validation_data=self._samples(split.validation) if validated else None,
                seed=given.seed,
                callbacks=called,
                shards=given.shards,
                threads=given.threads,
                augment=given.augment,
                class_weight=recipe.balanced(images.y[split.train], len(images.classes)) if given.balance else None,
                resume=saved,
                communicator=self.communicator,
            )
        directory.finish_models(self.model, chosen=validated)
        return history

    def _page(self) -> Report:
        """Return the callback that writes the report."""
        return report.during_training(self.directory, self.record["arguments"], self.images, self.split)

    def _measure(self, history: History, page: Report) -> None:
        """Calibrate the best model, evaluate it on the held-out images, and write and print the results."""
        from xpcnn import load, metrics
        from xpcnn.cli.models import finite
        from xpcnn.report import advice

        given, split, several = self.options, self.split, self.model.thresholds is not None
        results: dict[str, Any] = {
            "epochs": history.epochs,
            "train": {name: history.history[name][-1] for name in ("loss", *(one.name for one in self.model.metrics))},
        }
        best_file = self.directory.path / "best.safetensors"
        best = load(best_file, xp=self.model.network.xp)
        kept_aside = {
            name: self._samples(rows)
            for name, rows in (("validation", split.validation), ("test", split.test))
            if len(rows)
        }
        averaged_over = given.augment if given.test_augment else "none"
        with finite(str(best_file)) as checked:
            if "validation" in kept_aside:
                results |= (
                    several_labels.calibrate(best, *kept_aside["validation"], given.threads)
                    if several
                    else {"temperature": best.calibrate(*kept_aside["validation"], threads=given.threads)}
                )
                best.save(best_file)
            best.metrics = [] if several else [*self.model.metrics, metrics.CalibrationError()]
            for name, samples in kept_aside.items():
                found = best.evaluate(*samples, threads=given.threads, augment=averaged_over)
                checked(found["loss"])
                if several:
                    results[name] = found | several_labels.measure(best, *samples, given.threads, averaged_over)
                    continue
                interval = metrics.wilson_interval(round(found["accuracy"] * len(samples[1])), len(samples[1]))
                results[name] = found | {"accuracy_95": interval}
        predictions = page.finish(results, best)
        if predictions is not None and predictions.part == "test":
            self.directory.write_predictions(self.images, predictions, digests=not given.no_digests)
        self.directory.write_metrics(results)
        if "test" in results:
            test = results["test"]
            told = several_labels.line(test) if several else f"accuracy {accuracy(test)}"
            print(f"test {told}, loss {test['loss']:.4f} ({len(split.test)} images)")
        else:
            print("the test part has no images, so the model was not evaluated")
        for line in advice.of_run(page.run, page.epochs, best.epochs):
            print(line)
        print(f"model: {best_file}")
        if given.open:
            report.open_in_browser(page.path)

    def _samples(self, rows: Any) -> tuple[Normalized, Any]:
        """Return some images, normalised as the model takes them, and their labels."""
        from xpcnn.data import Normalized

        assert self.model.preprocessing is not None
        return Normalized(self.images.x, rows, self.model.preprocessing), self.images.y[rows]


def say(message: object, command: str) -> None:
    """Print a warning of a command in one line."""
    print(f"xpcnn {command}: {message}", file=sys.stderr)
