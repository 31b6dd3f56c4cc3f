"""The trials of ``xpcnn tune``: each an ordinary run, and the best of them is evaluated on the test part."""

from __future__ import annotations

import argparse
import shlex
import shutil
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xpcnn import files, metrics
from xpcnn.cli import loading, report, search_plan, several_labels, study, train
from xpcnn.cli.fitting import Fitting
from xpcnn.cli.loading import Loaded
from xpcnn.cli.run_directory import NewRun, ResumedRun, RunDirectory
from xpcnn.cli.signals import StopOnSignal, how_to_go_on
from xpcnn.cli.study import Study
from xpcnn.cli.text import accuracy, printable
from xpcnn.communicator import ALONE, Communicator
from xpcnn.data import Decoding
from xpcnn.report import run as files_of_runs
from xpcnn.report import tuning
from xpcnn.report.page import counted
from xpcnn.report.tuning import Tried
from xpcnn.training.fit import Fit

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial, Trial

    from xpcnn.training.history import History

PAGE = "tune.html"
#: Why a trial at too high a rate was stopped.
DIVERGED = "its loss became infinite"


class Watch(StopOnSignal):
    """Tells the study of each epoch of a trial, and stops one that is worse than others, or that time runs out for."""

    def __init__(self, trial: Trial, search: Study, is_late: Callable[[], bool]) -> None:
        super().__init__()
        self._trial, self._study, self._is_late = trial, search, is_late
        self._reported = {*search.reported(trial)}  # before the process was killed
        self._spent = float(trial.user_attrs.get("seconds", 0.0))
        self._begun = time.monotonic()

    def on_epoch_end(self, fit: Fit) -> None:
        """Report the score, and the time."""
        if fit.epoch not in self._reported:
            self._trial.report(self._study.judge(fit.history.history, -1)[1], fit.epoch)
        self._trial.set_user_attr("seconds", self._spent + time.monotonic() - self._begun)
        self._study.note_time()
        if fit.epoch == fit.epochs or fit.stop_reason is not None:
            return
        why = "worse than others" if self._trial.should_prune() else "the time is up" if self._is_late() else None
        if why is not None:
            self._trial.set_user_attr("stopped", f"{why} after epoch {fit.epoch} of {fit.epochs}")
            fit.stop(why)


class Search:
    """The trials in a run's directory; ``given`` are the arguments of the run, which all trials share."""

    def __init__(self, options_: argparse.Namespace, whole: RunDirectory, given: dict[str, Any]) -> None:
        self._whole = whole
        self._options = argparse.Namespace(**{**vars(options_), "minutes": None})
        self._loaded: dict[int, Loaded] = {}
        self._seconds = search_plan.seconds(given)
        self._shared = search_plan.shared(given)
        path = whole.path / study.NAME
        if not path.exists():
            search_plan.prepare(whole, given, partial(self._carry_out, quiet=False))
        self._study = Study(path, train.completed(self._shared)["seed"])
        plan = self._study.plan
        told = "; ".join(tuning.in_words([one]) for one in plan["space"].items())
        print(f"trials of {counted(plan['epochs'], 'epoch')}, which vary {told}", flush=True)

    def run(self) -> int:
        """Carry out trials until the time is up, then evaluate the best; return 0, or the exit code of a signal."""
        with self._study.naming_file():
            while not self._is_over():
                code = self._try(*self._study.next())
                self._remove_all_but_the_best()
                self._write_page()
                if code:
                    return code
            return self._finish()

    def _finish(self) -> int:
        """Evaluate the best trial, on the test part too, and print what it is and how to repeat it."""
        best, count = self._study.best(), len(self._study.ended())
        if best is None:
            raise ValueError(
                f"None of {count} trials was completed, since their losses became infinite. Start a new run, with a "
                "smaller --lr."
            )
        path = self._path(best.number)
        directory = ResumedRun(str(path))
        directory.whole = self._whole
        with redirect_stdout(None):
            code = self._carry_out(directory, lambda directory: train.recalled(directory, {}))
        if code:
            print(how_to_go_on(self._whole))
            return code
        self._write_page()
        found, command = files_of_runs.read_metrics(path) or {}, self._command(path)
        tried = _tried(best)
        print(f"the best of {count} is trial {tried.number}, {printable(tuning.in_words(tried.settings.items()))}")
        if "test" in found:
            told = several_labels.line(found["test"]) if self._of_labels else f"accuracy {accuracy(found['test'])}"
            print(f"test {told}, loss {found['test']['loss']:.4f}")
        else:
            print("the test part has no images, so the best model was not evaluated")
        print(f"model: {path / 'best.safetensors'}")
        print(f"all trials: {self._whole.path / PAGE}")
        print(f"to repeat the best one:\n{shlex.join(command)}")
        return 0

    def _is_over(self) -> bool:
        """Whether every combination was tried, or the time does not suffice for a trial like those before."""
        if self._study.is_interrupted():
            return False
        took = [float(one.user_attrs["seconds"]) for one in self._study.complete()]
        typical = sum(took) / len(took) if took else 0.0
        late = self._study.seconds + typical > self._seconds
        return self._study.is_exhausted() or (late and bool(self._study.ended()))

    def _try(self, trial: Trial, settings: dict[str, Any]) -> int:
        """Train with some settings and tell the study what came of it; return 0, or the exit code of a signal."""
        path, histories, signals = self._path(trial.number), [], []
        arguments = train.completed(self._shared | {"epochs": self._study.plan["epochs"]}) | settings
        is_begun = (path / "args.json").is_file()
        directory: RunDirectory = ResumedRun(str(path)) if is_begun else NewRun(str(path))
        directory.whole = self._whole

        def recall(directory: RunDirectory) -> train.Recalled:
            return train.recalled(directory, arguments) if is_begun else (arguments, None, None)

        def work(fitting: Fitting, resumed: bool) -> int:
            self._refuse_other_images(fitting)
            watch = Watch(trial, self._study, self._is_late)
            histories.append(fitting.fit(watch, resumed))
            signals.append(watch.name)
            return watch.exit_code

        label = f"trial {trial.number + 1}: {printable(tuning.in_words(settings.items()))}"
        if "stopped" not in trial.user_attrs:  # else the process ended before the study was told
            try:
                with redirect_stdout(None):
                    code = self._carry_out(directory, recall, work)
            except FloatingPointError:  # at too high a rate
                trial.report(0.0, self._study.plan["epochs"])
                trial.set_user_attr("stopped", DIVERGED)
            else:
                if code:
                    print(f"stopped by {signals[0]}; {how_to_go_on(self._whole)}")
                    return code
                if "stopped" not in trial.user_attrs:
                    self._judge(trial, histories[0])
        if "stopped" in trial.user_attrs:
            self._study.tell(trial, None)
            print(f"{label}: stopped, {trial.user_attrs['stopped']}", flush=True)
        else:
            self._study.tell(trial, trial.user_attrs["score"])
            known = trial.user_attrs
            told = f"macro F1 {known['f1']:.4f}" if self._of_labels else f"accuracy {accuracy(known)}"
            print(f"{label}: validation {told}", flush=True)
        return 0

    def _judge(self, trial: Trial, history: History) -> None:
        """Note the score of the epoch whose model a run keeps, and what it is made of."""
        losses, images = history.history["val_loss"], self._study.plan["validation"]
        if np.isnan(losses).all():
            trial.set_user_attr("stopped", DIVERGED)
            return
        epoch = int(np.nanargmin(losses))
        reached, score = self._study.judge(history.history, epoch)
        trial.set_user_attr("f1" if self._of_labels else "accuracy", reached)
        if not self._of_labels:
            trial.set_user_attr("accuracy_95", metrics.wilson_interval(round(reached * images), images))
        trial.set_user_attr("epoch", epoch + 1)
        trial.set_user_attr("score", score)

    @property
    def _of_labels(self) -> bool:
        """Whether trials are judged by macro F1, since an image may have several labels."""
        return self._study.metric != "accuracy"

    def _carry_out(
        self,
        directory: RunDirectory,
        recall: Callable[[RunDirectory], train.Recalled],
        work: Callable[[Fitting, bool], int] = Fitting.run,
        quiet: bool = True,
    ) -> int:
        """Carry out a run, on images that a run before has loaded, if they are of the same size."""

        def load(
            options_: argparse.Namespace, communicator: Communicator, decoding: Decoding | None, names: Any
        ) -> Loaded:
            size = options_.image_size if decoding is None else decoding.height
            if size in self._loaded:
                return self._loaded[size]
            loaded = loading.load_images(options_, communicator, decoding, names)
            self._loaded[loaded.decoding.height] = loaded
            return loaded

        return train.carry_out(self._options, directory, recall, ALONE, [], work, quiet, load)

    def _is_late(self) -> bool:
        """Whether the time is up, and a trial was completed in it."""
        return self._study.seconds > self._seconds and bool(self._study.complete())

    def _refuse_other_images(self, fitting: Fitting) -> None:
        if search_plan.fingerprint(fitting) != self._study.plan["images"]:
            raise ValueError(
                f"The images are not those that the run {str(self._whole.path)!r} began with. Restore them to resume "
                "it, or start a new run, without --resume."
            )

    def _path(self, number: int) -> Path:
        return self._whole.path / f"trial-{number + 1}"

    def _remove_all_but_the_best(self) -> None:
        """Remove the directories of trials that are over, which their commands would make again."""
        best = self._study.best()
        for one in self._study.ended():
            if best is None or one.number != best.number:
                shutil.rmtree(self._path(one.number), ignore_errors=True)

    def _command(self, path: Path) -> list[str]:
        """Return the words of the command that repeats a trial."""
        return report.repeat(files_of_runs.read_run(path).arguments)

    def _write_page(self) -> None:
        """Write what is known of all trials."""
        best = self._study.best()
        page = tuning.write_up(
            [_tried(one) for one in self._study.ended()],
            None if best is None else best.number + 1,
            plan=self._study.plan,
            folder=self._whole.path,
            command=[] if best is None else self._command(self._path(best.number)),
            metrics={} if best is None else files_of_runs.read_metrics(self._path(best.number)) or {},
        )
        files.write_text(self._whole.path / PAGE, page)


def _tried(one: FrozenTrial) -> Tried:
    """Return what the page shows of a trial."""
    known = one.user_attrs
    return Tried(
        one.number + 1, known["settings"], known.get("accuracy", known.get("f1")), known.get("accuracy_95"),
        known.get("epoch"), known.get("seconds"), known.get("stopped"),
    )  # fmt: skip
