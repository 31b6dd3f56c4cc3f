"""Optuna's study of ``xpcnn tune``, in a file that outlives the process."""

from __future__ import annotations

import itertools
import math
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xpcnn import random
from xpcnn.extras import install_line

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial, Trial

#: The file in the run's directory.
NAME = "trials.sqlite3"
#: Trials that are drawn at random, and that none is stopped among, before results say more.
DRAWN, UNSTOPPED = 8, 4
#: The values of macro F1 that are told apart.
STEPS = 10**6
#: The fraction of the epochs that every trial is given, past the peak of the learning rate.
GIVEN = 0.4


def import_optuna() -> Any:
    """Return Optuna, which says nothing by itself; raises ImportError, with what to run, if it is missing."""
    try:
        import optuna
    except ImportError as error:
        raise ImportError(f"A search needs optuna ({error}). Run `{install_line('tune')}`.") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


class Study:
    """The trials of a run, and its plan: ``space``, what they vary; ``default``, the first; ``epochs`` of each.

    The samples of a trial depend on the seed, its number and the results before it, so that a resumed search proposes
    what it would have proposed. Raises ValueError for a file that is damaged or of something else.
    """

    def __init__(self, path: Path, seed: int) -> None:
        self.path, self._seed = path, seed
        self._optuna = import_optuna()
        with self.naming_file(KeyError, TypeError, ValueError, RuntimeError):  # of what is missing in it
            _check_file(path)
            self.study: optuna.Study = self._optuna.load_study(study_name="xpcnn", storage=_storage(self._optuna, path))
            self.plan: dict[str, Any] = self.study.user_attrs["plan"]
            self._before = float(self.study.user_attrs.get("seconds", 0.0))
            self.study.pruner = self._optuna.pruners.MedianPruner(UNSTOPPED, math.ceil(GIVEN * self.plan["epochs"]))
            # Searches from before there were others have none.
            self.metric: str = self.plan.setdefault("metric", "accuracy")
            _ = self.trials, self.plan["default"], self.plan["space"], self.plan["images"]
        self._started = time.monotonic()

    @classmethod
    def create(cls, path: Path, plan: Mapping[str, Any], seconds: float) -> None:
        """Write the file of a study whose first trial has the defaults; seconds: what it took to plan it."""
        optuna = import_optuna()
        storage = _storage(optuna, path)
        study = optuna.create_study(study_name="xpcnn", storage=storage, direction="maximize")
        study.set_user_attr("plan", dict(plan))
        study.set_user_attr("seconds", seconds)
        study.enqueue_trial(plan["default"])
        storage.engine.dispose()

    @contextmanager
    def naming_file(self, *others: type[Exception]) -> Iterator[None]:
        """Turn the errors of reading and writing the file, and others, into one that names it."""
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except (sqlite3.Error, SQLAlchemyError, self._optuna.exceptions.OptunaError, *others) as error:
            told = (str(error) or type(error).__name__).splitlines()[0][:200]
            raise ValueError(
                f"{str(self.path)!r} cannot be used ({told}). Start a new run, without --resume."
            ) from error

    @property
    def trials(self) -> list[FrozenTrial]:
        """All trials so far."""
        return list(self.study.get_trials(deepcopy=False))

    @property
    def seconds(self) -> float:
        """The seconds that the search has taken, in this process and those before."""
        return self._before + time.monotonic() - self._started

    def judge(self, history: Mapping[str, Any], epoch: int) -> tuple[float, float]:
        """Return the accuracy or macro F1 on the validation part after an epoch, from 0 on, and the score."""
        of_labels = self.metric != "accuracy"
        reached = float(history[f"val_{self.metric}"][epoch])
        return reached, score(reached, history["val_loss"][epoch], STEPS if of_labels else self.plan["validation"])

    def note_time(self) -> None:
        """Keep the seconds."""
        self.study.set_user_attr("seconds", self.seconds)

    def complete(self) -> list[FrozenTrial]:
        """Return the trials that were trained to the end."""
        return [one for one in self.trials if one.state == self._optuna.trial.TrialState.COMPLETE]

    def ended(self) -> list[FrozenTrial]:
        """Return the trials that are over, trained to the end or stopped."""
        return [one for one in self.trials if one.state.is_finished()]

    def is_interrupted(self) -> bool:
        """Whether a trial has begun and is not over."""
        return any(one.state == self._optuna.trial.TrialState.RUNNING for one in self.trials)

    def best(self) -> FrozenTrial | None:
        """Return the best trial, the earliest of equals, or None."""
        return max(self.complete(), key=lambda one: (one.value, -one.number), default=None)

    def is_exhausted(self) -> bool:
        """Whether every combination was tried."""
        return "lr" not in self.plan["space"] and not self._untried()

    def _untried(self) -> list[dict[str, Any]]:
        """Return the combinations that were not tried, if they can be counted, without a learning rate."""
        space, tried = self.plan["space"], [one.params for one in self.ended()]
        if "lr" in space:
            return []
        every = (dict(zip(space, values, strict=True)) for values in itertools.product(*space.values()))
        return [one for one in every if one not in tried]

    def next(self) -> tuple[Trial, dict[str, Any]]:
        """Return the trial that was interrupted, if any, or a new one, and its arguments."""
        running = [one for one in self.trials if one.state == self._optuna.trial.TrialState.RUNNING]
        if running:
            trial = self._optuna.trial.Trial(self.study, running[0]._trial_id)
        else:
            drawn = random.generator(self._seed, "tune", len(self.ended()))
            untried = self._untried()
            if self.ended() and untried:
                self.study.enqueue_trial(untried[drawn.integers(len(untried))])
            self.study.sampler = self._optuna.samplers.TPESampler(
                n_startup_trials=DRAWN, seed=int(drawn.integers(2**32))
            )
            trial = self.study.ask()
        return trial, self._suggested(trial)

    def _suggested(self, trial: Trial) -> dict[str, Any]:
        """Return the arguments of a trial."""
        found: dict[str, Any] = {}
        for name, choices in self.plan["space"].items():
            if name == "lr":
                found["lr"] = float(f"{trial.suggest_float('lr', *choices, log=True):.3g}")
            else:
                found[name] = trial.suggest_categorical(name, choices)
        trial.set_user_attr("settings", found)
        return found

    def reported(self, trial: Trial) -> list[int]:
        """Return the epochs of a trial that it has reported."""
        return [*self.trials[trial.number].intermediate_values]

    def tell(self, trial: Trial, value: float | None) -> None:
        """End a trial with its value, or, without one, as stopped."""
        state = self._optuna.trial.TrialState
        self.study.tell(trial, value, state.PRUNED if value is None else state.COMPLETE)


def score(reached: float, loss: float, steps: int) -> float:
    """Return what a trial is judged by: the accuracy or macro F1 that it reached, and of equal ones, the smaller loss.

    steps: how many values of it can be told apart, such as the number of images.

    >>> score(0.9, 0.3, 10) > score(0.9, 0.4, 10) > score(0.8, 0.1, 10)
    True
    """
    doubt = 1 / (2 + loss) if math.isfinite(loss) else 0.0
    return (round(reached * steps) + doubt) / (steps + 1)


def _storage(optuna: Any, path: Path) -> Any:
    """Return Optuna's storage in a file; no URL, in which some characters of a path would mean something."""

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(path, timeout=60, check_same_thread=False)

    return optuna.storages.RDBStorage("sqlite://", engine_kwargs={"creator": connect})


def _check_file(path: Path) -> None:
    """Raise sqlite3.Error for a file that is damaged, which SQLite would notice late."""
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise sqlite3.DatabaseError(found)
