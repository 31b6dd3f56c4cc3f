"""The report of a run: one page that needs nothing else, written while it goes on and in full at its end."""

from __future__ import annotations

import shlex
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from xpcnn import __version__, files, model_file
from xpcnn.report import curves, galleries, page, results
from xpcnn.report.results import Predictions, percent
from xpcnn.report.run import PARTS, Epochs, Run, number
from xpcnn.summary import summary_table
from xpcnn.training.callbacks import Callback

if TYPE_CHECKING:
    from xpcnn.data import LabelledImages, Split
    from xpcnn.model import Sequential
    from xpcnn.training.loop import Fit

NAME = "report.html"
#: Epochs in the table at most, the last ones.
MOST_EPOCHS = 200
#: Columns of it at most, and arguments that are told.
MOST_COLUMNS, MOST_TOLD = 20, 100
#: Images that are predicted together, where one does not take too much memory.
MOST_AT_ONCE = 256
#: What writing may take of a run's time: where epochs take but a moment, it is not after each of them.
SHARE_OF_TIME = 0.03
#: More skipped files are folded away.
FEW_SKIPPED = 10
#: What args.json says beside the arguments.
_NO_ARGUMENTS = ("version", "computed_by", "classes", "environment")

#: What the images of a part are for.
_USES = {"train": "images to train", "validation": "to choose the best epoch", "test": "to measure it"}


@dataclass
class Shown:
    """The images of a run, as far as they are there: which are in which part, and how many could not be found."""

    images: LabelledImages
    split: Split
    missing: int = 0


class Report(Callback):
    """Writes ``report.html`` into a run's directory: a short one after epochs, all of it by :meth:`finish`.

    shown: the images, None where they are gone. command: what repeats the run. epochs: those of a run that is over; a
    fit brings its own. Raises OSError where the file cannot be written.
    """

    writes = True

    def __init__(self, run: Run, shown: Shown | None, command: Sequence[str], epochs: Epochs | None = None) -> None:
        self.run, self.shown, self.command = run, shown, command
        self.epochs = epochs or Epochs()
        self.path = run.folder / NAME
        self._pictures = not run.arguments.get("no_plots")
        self._sample: str | None = None
        self._next = 0.0

    def on_epoch_end(self, fit: Fit) -> None:
        """Write what is known by now, unless that would take more than its share of the time."""
        self._note(fit)
        begun = time.monotonic()
        if begun < self._next:
            return
        status = (
            f"<b>Running</b>: epoch {fit.epoch} of {fit.epochs} is done. Load this page again to see more. "
            f"If the run has been broken off, this goes on with it: {self._resume()}"
        )
        self._write("running", status, [self._curves(None), *self._beside()], {})
        ended = time.monotonic()
        self._next = ended + (ended - begun) / SHARE_OF_TIME

    def on_fit_end(self, fit: Fit) -> None:
        """Note the epochs, also where a fit that is resumed has none left."""
        self._note(fit)

    def _note(self, fit: Fit) -> None:
        self.epochs = Epochs.of_history(fit.history.history, fit.epoch - fit.history.epochs + 1)

    def break_off(self) -> None:
        """Write what is known of a run that was broken off, and how it goes on; nothing before its first epoch."""
        if not len(self.epochs):
            return
        status = f"<b>Broken off</b> after epoch {self.epochs.numbers[-1]}. This goes on with it: {self._resume()}"
        self._write("broken", status, [self._curves(None), *self._beside()], {})

    def finish(self, metrics: Mapping[str, Any], best: Sequential) -> None:
        """Write the whole report of a run that has come to its end.

        metrics: what metrics.json holds. best: the model, which is moved to the host.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # NumPy's on overflow, of which the page tells
            self._finish(metrics, best)

    def _finish(self, metrics: Mapping[str, Any], best: Sequential) -> None:
        found = self._predict(best)
        best.to(np)
        status = f"<b>Finished</b> after {page.counted(len(self.epochs), 'epoch')}."
        layers = "\n".join(map(page.text, summary_table(best.network).splitlines()))
        network = page.folded("All layers", f'<pre class="table" tabindex="0">{layers}</pre>')
        answers, inside = self._of_predictions(found, metrics, best), self._inside(best, found)
        body = [self._curves(best.epochs), *answers, *inside, *self._beside(network)]
        self._write("finished", status, body, metrics)

    def _write(self, state: str, status: str, body: list[str], metrics: Mapping[str, Any]) -> None:
        run = self.run
        parts = ", ".join(f"{run.part(part):,} {use}" for part, use in _USES.items() if run.part(part))
        status += f"<br>{page.name(run.arguments.get('data'))}: {parts}."
        title = f"Report of {page.plain_name(self.run.folder.resolve().name)}"
        files.write_text(self.path, page.page(title, status, state, self._tiles(metrics) + "".join(body)))

    def _resume(self) -> str:
        return f"<code>xpcnn train --resume {page.text(shlex.quote(str(self.run.folder)))}</code>"

    def _tiles(self, metrics: Mapping[str, Any]) -> str:
        told, epochs = [], self.epochs
        for part in ("test", "validation"):
            accuracy = _figure(metrics, part, "accuracy")
            if accuracy is not None:
                told.append((f"{part} accuracy", percent(accuracy)))
        if not told and epochs.columns.get("val_accuracy"):
            told.append(("validation accuracy", percent(epochs.columns["val_accuracy"][-1])))
        total = sum(self.run.counts.values())
        by_class = [sum(self.run.counts[name, part] for part in PARTS) for name in self.run.classes]
        told.append((f"images in {page.counted(len(self.run.classes), 'class', 'classes')}", f"{total:,}"))
        if total:
            told.append(("by naming the largest class always", percent(max(by_class) / total)))
        return page.tiles(told)

    def _curves(self, best: int | None) -> str:
        epochs, columns = self.epochs, self.epochs.columns
        if best is None and columns.get("val_loss"):
            best = epochs.numbers[int(np.argmin(np.nan_to_num(columns["val_loss"], nan=np.inf)))]
        drawn = []
        for name in ("loss", "accuracy"):
            of_parts = {"training": name, "validation": f"val_{name}"}
            lines = {part: columns[column] for part, column in of_parts.items() if column in columns}
            if lines:
                drawn.append(page.figure(curves.curve(name, epochs.numbers, lines, best)))
        note = (
            "Loss measures how wrong the probabilities are, accuracy is the share of right answers. Training should "
            "fall (loss) and rise (accuracy); where validation, which the network does not learn from, gets worse "
            "while training still gets better, it learns its images by heart. Training is measured as it learns, on "
            "varied images, smoothed targets and with dropout, so that its loss may stay above that of validation."
        )
        names = [*columns][:MOST_COLUMNS]
        rows = [
            (str(epochs.numbers[place]), *(f"{columns[name][place]:.4g}" for name in names))
            for place in range(len(epochs))[-MOST_EPOCHS:]
        ]
        table = page.table("Every epoch", ("epoch", *map(page.name, names)), rows)
        return page.section(
            "How it learned", f'<div class="pair">{"".join(drawn)}</div>', page.folded("The numbers", table), note=note
        )

    def _predict(self, best: Sequential) -> Predictions | None:
        """Return what the model answers for the test part, or the validation part where that is empty."""
        if self.shown is None or best.preprocessing is None:
            return None
        from xpcnn.data import Normalized

        images, split = self.shown.images, self.shown.split
        part, rows = ("test", split.test) if len(split.test) else ("validation", split.validation)
        if not len(rows):
            return None
        numbers, _ = model_file.demand(best.network)
        at_once = max(1, min(MOST_AT_ONCE, model_file.MOST_NUMBERS // numbers))
        outputs = best.predict(Normalized(images.x, rows, best.preprocessing), at_once)
        if outputs.shape[1] == 1:
            outputs = np.concatenate((1 - outputs, outputs), axis=1)
        return Predictions(part, rows, images.y[rows], outputs)

    def _of_predictions(self, found: Predictions | None, metrics: Mapping[str, Any], best: Sequential) -> list[str]:
        if self.shown is None:
            gone = "The images are no longer where they were, so what the model answers for them cannot be shown."
            return [page.section("What it answers", f"<p>{gone}</p>")]
        if found is None:
            return [page.section("What it answers", "<p>No image was kept aside to measure the model with.</p>")]
        if not np.isfinite(found.probabilities).all():
            return [page.section("What it answers", "<p>Numbers that are not finite: its weights are too large.</p>")]
        parts = []
        if found.part == "validation":
            parts.append(
                '<p class="note">No image is in the test part, so that these figures are of the validation part. The '
                "best epoch was chosen by it, so they flatter.</p>"
            )
        classes, images = self.run.classes, self.shown.images
        parts.append(results.confusion_section(found, classes))
        parts.append(results.classes_section(found, self.run))
        error = _figure(metrics, found.part, "calibration_error")
        parts.append(results.calibration_section(found, error, number(metrics.get("temperature"))))
        if self._pictures and best.preprocessing is not None:
            parts.append(galleries.mistakes_section(images, found, classes))
            parts.append(
                galleries.explanation_section(images, found, classes, best.network, best.preprocessing)
            )  # fmt: skip
        return parts

    def _inside(self, best: Sequential, found: Predictions | None) -> list[str]:
        if not self._pictures:
            return []
        parts = [galleries.filters_section(best.network)]
        if self.shown is not None and best.preprocessing is not None:
            images, split = self.shown.images, self.shown.split
            row = int((found.rows if found is not None else np.concatenate((split.train, split.validation)))[0])
            what = self.run.classes[int(images.y[row])]
            parts.append(galleries.maps_section(best.network, images.x[row], best.preprocessing, what))
        return parts

    def _beside(self, network: str = "") -> list[str]:
        return [self._data(), self._task(network), self._skipped(), self._machine()]

    def _data(self) -> str:
        run = self.run
        rows = [
            (page.name(name), *(f"{run.counts[name, part]:,}" for part in PARTS))
            for name in run.classes[: results.MOST_LINES]
        ]
        note = (
            "The network learns from the training part; the epoch is chosen by the validation part, and the test part "
            "is measured once, at the end. Look for classes with far fewer images than others."
        )
        counts = page.section("The images", page.table("Images of each class", ("class", *PARTS), rows), note=note)
        if self.shown is None or not self._pictures:
            return counts
        if self._sample is None:
            self._sample = galleries.samples_section(self.shown.images, self.shown.split.train, run.classes)
        return self._sample + counts

    def _task(self, network: str) -> str:
        arguments = self.run.arguments
        asked = [
            (page.name(key.replace("_", " ")), page.name(value, 80))
            for key, value in arguments.items()
            if key not in _NO_ARGUMENTS and value is not None
        ][:MOST_TOLD]
        note = "What was asked for, and the command that does it again: the same seed gives the same weights."
        words = (f"<span>{page.text(shlex.quote(word))}</span>" for word in self.command)
        again = f"<pre>{' '.join(words)}</pre>"
        return page.section("What was trained", page.facts(asked), again, network, note=note)

    def _skipped(self) -> str:
        run = self.run
        missing = ""
        if self.shown is not None and self.shown.missing:
            count = page.counted(self.shown.missing, "image")
            missing = f"<p>{count} of the run could not be read again for this report.</p>"
        if not run.skipped_count:
            return page.section("Skipped files", "<p>None: every image could be read.</p>", missing)
        rows = [(page.name(path, 60), page.text(reason[:300])) for path, reason in run.skipped]
        left = run.skipped_count - len(rows)
        more = f'<p class="soft">… and {left:,} more, all in skipped.csv.</p>' if left else ""
        caption = f"{page.counted(run.skipped_count, 'file')} that could not be read"
        note = "These files took no part. A few do no harm; many from one class or one device should be looked into."
        table = page.table(caption, ("file", "reason"), rows, texts=2)
        shown = table if len(rows) <= FEW_SKIPPED else page.folded(f"The first {len(rows)} of {caption}", table)
        return page.section("Skipped files", shown, more, missing, note=note)

    def _machine(self) -> str:
        arguments, epochs = self.run.arguments, self.epochs
        told = []
        seconds = [value for value in epochs.columns.get("seconds", []) if value > 0]
        if seconds:
            middle = float(np.median(seconds))
            told.append(("an epoch", f"{_seconds(middle)} (median)"))
            told.append(("speed", f"{self.run.part('train') / middle:,.0f} training images a second"))
            told.append(("all epochs", _seconds(sum(seconds))))
        environment = arguments.get("environment")
        environment = environment if isinstance(environment, dict) else {}
        told.append(("computed by", page.name(arguments.get("computed_by"))))
        told.append(("trained with", f"xpcnn {page.name(arguments.get('version'))}"))
        told += [(page.name(key), page.name(value, 80)) for key, value in [*environment.items()][:MOST_TOLD]]
        told.append(("this report", f"{time.strftime('%Y-%m-%d %H:%M')}, xpcnn {page.text(__version__)}"))
        return page.section("Speed and environment", page.facts(told))


def _figure(metrics: Mapping[str, Any], part: str, name: str) -> float | None:
    figures = metrics.get(part)
    return number(figures.get(name)) if isinstance(figures, dict) else None


def _seconds(value: float) -> str:
    """Return a time as people say it.

    >>> _seconds(0.25), _seconds(75.0), _seconds(7300.0)
    ('0.25 s', '1 min 15 s', '2 h 1 min')
    """
    if value < 60:
        return f"{value:.2g} s" if value < 10 else f"{value:.0f} s"
    minutes, seconds = divmod(round(value), 60)
    return f"{minutes} min {seconds} s" if minutes < 60 else f"{minutes // 60:,} h {minutes % 60} min"
