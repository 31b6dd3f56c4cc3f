"""The report of a run: one self-contained HTML page, updated during training and completed at the end."""

from __future__ import annotations

import shlex
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from xpcnn import files
from xpcnn.data import labels
from xpcnn.model.summary import summary_table
from xpcnn.program import memory_bound
from xpcnn.report import advice, filters, galleries, mistakes, page, results, sections, settings
from xpcnn.report.results import Predictions
from xpcnn.report.run import Epochs, Run, number
from xpcnn.training.callbacks import Callback

if TYPE_CHECKING:
    from xpcnn.data import LabelledImages, Split
    from xpcnn.model import Sequential
    from xpcnn.training.fit import Fit

NAME = "report.html"
#: Images to predict together, unless that takes too much memory.
MOST_AT_ONCE = 256
#: The largest fraction of a run's time to spend on writing: the page is not written after every short epoch.
SHARE_OF_TIME = 0.03

#: The purposes of the parts.
_USES = {"train": "training images", "validation": "to choose the best epoch", "test": "to evaluate it"}


@dataclass
class Shown:
    """The images of a run that still exist: which are in which part, and how many could not be found."""

    images: LabelledImages
    split: Split
    missing: int = 0


class Report(Callback):
    """Writes ``report.html`` into a run's directory: a short one after epochs, the complete one by :meth:`finish`.

    shown: the images, None if they are gone. command: repeats the run. epochs: those of a finished run; a fit provides
    its own. Raises OSError if the file cannot be written.
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
        """Write what is known so far, unless that would take more than its share of the time."""
        self._note(fit)
        begun = time.monotonic()
        if begun < self._next:
            return
        status = (
            f"<b>Running</b>: epoch {fit.epoch} of {fit.epochs} is done. Reload this page to see more. "
            f"If the run was interrupted, this resumes it: {self._resume()}"
        )
        self._write("running", status, [sections.curves_section(self.epochs, None), *self._beside()], {})
        ended = time.monotonic()
        self._next = ended + (ended - begun) / SHARE_OF_TIME

    def on_fit_end(self, fit: Fit) -> None:
        """Note the epochs, also if a resumed fit has none left."""
        self._note(fit)

    def _note(self, fit: Fit) -> None:
        self.epochs = Epochs.of_history(fit.history.history, fit.epoch - fit.history.epochs + 1)

    def write_interrupted(self) -> None:
        """Write what is known of an interrupted run, and how to resume it; nothing before its first epoch."""
        if not len(self.epochs):
            return
        status = f"<b>Interrupted</b> after epoch {self.epochs.numbers[-1]}. This resumes it: {self._resume()}"
        self._write("broken", status, [sections.curves_section(self.epochs, None), *self._beside()], {})

    def finish(self, metrics: Mapping[str, Any], best: Sequential) -> Predictions | None:
        """Write the complete report of a finished run, and return its predictions, None without images.

        metrics: the content of metrics.json. best: the best model, which is moved to the host.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # NumPy's on overflow, which the page reports
            return self._finish(metrics, best)

    def _finish(self, metrics: Mapping[str, Any], best: Sequential) -> Predictions | None:
        found = self._predict(best)
        best.to(np)
        status = f"<b>Finished</b> after {page.counted(len(self.epochs), 'epoch')}."
        layers = "\n".join(map(page.text, summary_table(best.network).splitlines()))
        network = page.folded("All layers", f'<pre class="table" tabindex="0">{layers}</pre>')
        calibration, *answers = self._of_predictions(found, metrics, best)
        advised = sections.advice_section(advice.of_run(self.run, self.epochs, best.epochs))
        learned = page.columns(sections.curves_section(self.epochs, best.epochs), calibration)
        body = [advised, learned, *answers, self._inside(best, found), *self._beside(network)]
        self._write("finished", status, body, metrics)
        return found

    def _write(self, state: str, status: str, body: list[str], metrics: Mapping[str, Any]) -> None:
        run = self.run
        parts = ", ".join(f"{run.part(part):,} {use}" for part, use in _USES.items() if run.part(part))
        status += f"<br>{page.name(run.arguments.get('data'))}: {parts}."
        title = f"Report of {page.plain_name(self.run.folder.resolve().name)}"
        tiles = sections.tiles(run, self.epochs, metrics)
        files.write_text(self.path, page.page(title, status, state, tiles + "".join(body)))

    def _resume(self) -> str:
        return f"<code>xpcnn train --resume {page.text(shlex.quote(str(self.run.folder)))}</code>"

    def _predict(self, best: Sequential) -> Predictions | None:
        """Return the model's predictions for the test part, or for the validation part if that is empty."""
        if self.shown is None or best.preprocessing is None:
            return None
        from xpcnn.data import Normalized

        images, split = self.shown.images, self.shown.split
        part, rows = ("test", split.test) if len(split.test) else ("validation", split.validation)
        if not len(rows):
            return None
        at_once = memory_bound.images_at_once(best.network, MOST_AT_ONCE)
        arguments = self.run.arguments
        augment = str(arguments.get("augment")) if arguments.get("test_augment") else "none"
        outputs = best.predict(Normalized(images.x, rows, best.preprocessing), at_once, augment=augment)
        if outputs.shape[1] == 1:
            outputs = np.concatenate((1 - outputs, outputs), axis=1)
        return Predictions(part, rows, images.y[rows], outputs, best.thresholds)

    def _of_predictions(self, found: Predictions | None, metrics: Mapping[str, Any], best: Sequential) -> list[str]:
        """Return the sections of the predictions, first that of their calibration; it is empty without predictions."""
        if self.shown is None:
            gone = "The images are no longer in their place, so the model's predictions for them can't be shown."
            return ["", page.section("Predictions", f"<p>{gone}</p>")]
        if found is None:
            return ["", page.section("Predictions", "<p>No images were held out to evaluate the model on.</p>")]
        if not np.isfinite(found.probabilities).all():
            return ["", page.section("Predictions", "<p>NaN or infinite: the model's weights are too large.</p>")]
        optimistic = (
            '<p class="note">The test part has no images, so these metrics are those of the validation part. They are '
            "too optimistic, since it was used to choose the best epoch.</p>"
            if found.part == "validation"
            else ""
        )
        if found.thresholds is not None:
            return ["", optimistic, results.labels_section(found, self.run)]
        classes, images = self.run.classes, self.shown.images
        error = sections.measured(metrics, found.part, "calibration_error")
        parts = [
            results.calibration_section(found, error, number(metrics.get("temperature"))),
            optimistic,
            results.classes_section(found, self.run),
        ]
        if self._pictures and best.preprocessing is not None:
            parts.append(mistakes.mistakes_section(images, found, classes))
            parts.append(
                galleries.explanation_section(images, found, classes, best.network, best.preprocessing)
            )  # fmt: skip
        return parts

    def _inside(self, best: Sequential, found: Predictions | None) -> str:
        if not self._pictures or self.shown is None or best.preprocessing is None:
            return ""
        images, split, classes = self.shown.images, self.shown.split, self.run.classes
        if found is not None:
            rows = found.rows
        elif self.run.several_labels:
            rows = np.concatenate((split.train, split.validation))
        else:
            of_class = galleries.samples(images.y[split.train], len(classes))
            rows = split.train[[place for places in of_class.values() for place in places]]
        what = labels.text(images.y[rows[0]], classes) or "no label"
        return filters.filters_section(best.network, images, rows, best.preprocessing, what)

    def _beside(self, network: str = "") -> list[str]:
        run, missing = self.run, self.shown.missing if self.shown is not None else 0
        return [
            sections.images_section(run, self._samples()),
            sections.skipped_section(run, missing),
            settings.settings_section(run, self.epochs, self.command, network),
        ]

    def _samples(self) -> str:
        """Return samples of the data, which stay the same during the run."""
        if self.shown is None or not self._pictures or self.run.several_labels:
            return ""
        if self._sample is None:
            self._sample = galleries.sample_gallery(self.shown.images, self.shown.split.train, self.run.classes)
        return self._sample
