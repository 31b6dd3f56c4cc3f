"""The plan of a search: what its trials vary, the default, their epochs, and the images that they are judged by."""

from __future__ import annotations

import argparse
import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xpcnn import presets, pretrained
from xpcnn.cli import study, train
from xpcnn.cli.fitting import Fitting
from xpcnn.cli.run_directory import NewRun, RunDirectory
from xpcnn.cli.study import Study
from xpcnn.cli.train_arguments import DEFAULTS, SCALABLE
from xpcnn.data import labels
from xpcnn.layers import Layer
from xpcnn.layers.configs import from_plain, kinds, to_plain
from xpcnn.parameters import Shape
from xpcnn.program.program import walk
from xpcnn.version import __version__

if TYPE_CHECKING:
    #: Carries out a run: its directory, what returns its arguments, and what is done with the compiled fitting.
    Recall = Callable[[RunDirectory], train.Recalled]
    CarryOut = Callable[[RunDirectory, Recall, Callable[[Fitting, bool], int]], int]

#: The values to choose from; the learning rate and the size of the images are varied around their defaults.
WIDTHS = (0.5, 1.0, 1.5, 2.0)
AUGMENTATIONS = ("none", "shift", "light", "microscopy")
#: Those whose views of an image are so few that frozen layers see each once.
AUGMENTATIONS_OF_FROZEN = ("none", "flip", "dihedral")
TIMES_THE_RATE, TIMES_THE_SIZE = 8, (0.5, 1, 1.5)
#: The least size of an image to try, unless it is the default.
LEAST_SIZE = 16
#: Trials for which there is time, if none is stopped early and all take as long as the first.
TRIALS = 16
#: The fraction of the minutes that is kept for evaluating the best trial.
KEPT = 0.05


class _Survey(NewRun):
    """A directory for looking at the images, which nothing is left of."""

    @property
    def can_be_resumed(self) -> bool:
        """Never: a search that ends here begins again."""
        return False

    @property
    def skipped(self) -> Path:
        """Where it will be when this directory is gone."""
        assert self.whole is not None
        return self.whole.skipped


def seconds(given: Mapping[str, Any]) -> float:
    """Return the seconds for trials."""
    return 60 * (1 - KEPT) * float(given["minutes"])


def shared(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that all trials have been given."""
    return train.with_part({key: value for key, value in given.items() if key != "minutes"})


def prepare(whole: RunDirectory, given: Mapping[str, Any], carry_out: CarryOut) -> None:
    """Look at the images, time an epoch, and write the study's file and the arguments; ``given`` are those of the run.

    Raises ValueError for images that no trials can be compared on.
    """
    plan: dict[str, Any] = {}
    begun = time.monotonic()

    def look(fitting: Fitting, resumed: bool) -> int:
        if len(fitting.split.validation) == 0:
            raise ValueError("Trials are compared on validation images, and there are none. Use more images.")
        rows = fitting.images.y[fitting.split.validation]
        if rows.ndim == 2 and not rows.any():
            raise ValueError("Trials are compared by validation images, and none has any label. Use more images.")
        plan.update(_planned(fitting, given))
        return 0

    with tempfile.TemporaryDirectory(dir=whole.path) as folder:
        survey = _Survey(os.path.join(folder, "survey"))
        survey.whole = whole
        arguments = train.completed(shared(given))
        carry_out(survey, lambda directory: (arguments, None, None), look)
        made = Path(folder, study.NAME)
        Study.create(made, plan, time.monotonic() - begun)
        about = {"command": "tune", "version": __version__, "working_directory": os.getcwd()}
        whole.write_arguments({"copies": DEFAULTS["copies"], **given, **about})
        os.replace(survey.path / "skipped.csv", whole.skipped)
        os.replace(made, whole.path / study.NAME)


def _planned(fitting: Fitting, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the plan of the study: what is varied, the default, the epochs, the metric, and which images they are."""
    arguments = fitting.options
    size = fitting.images.x.shape[2]
    space = space_around(given, arguments, _sizes(fitting, size))
    if not space:
        raise argparse.ArgumentError(None, "all settings that a search varies are given; use xpcnn train")
    default = {"lr": arguments.lr, "width": 1.0, "augment": arguments.augment, "image_size": size}
    epochs = arguments.epochs
    if "epochs" not in given:
        timed = argparse.Namespace(**{**vars(arguments), "minutes": seconds(given) / 60 / TRIALS})
        with redirect_stdout(None):
            fit = replace(fitting, options=timed).epochs_in_minutes(time.monotonic())
        epochs = min(epochs, fit)
    return {
        "space": space,
        "default": {name: default[name] for name in space},
        "epochs": epochs,
        "validation": len(fitting.split.validation),
        "metric": fitting.model.metrics[0].name,
        "images": fingerprint(fitting),
    }


def fingerprint(fitting: Fitting) -> str:
    """Return a digest of the content, class and part of all images, whatever their size."""
    images, digest = fitting.images, hashlib.blake2b(digest_size=16)
    assert images.digests is not None
    for rows in (fitting.split.train, fitting.split.validation, fitting.split.test):
        for row in rows.tolist():
            told = labels.text(images.y[row], images.classes)
            digest.update(images.digests[row].tobytes() + told.encode(errors="replace"))
        digest.update(b"\0")
    return digest.hexdigest()


def sizes_around(size: int) -> list[int]:
    """Return the sizes of images to try, given the default.

    >>> sizes_around(64), sizes_around(8)
    ([32, 64, 96], [8, 12])
    """
    found = [round(times * size) for times in TIMES_THE_SIZE]
    return [one for one in found if one >= min(size, LEAST_SIZE)]


def space_around(given: Mapping[str, Any], arguments: argparse.Namespace, sizes: list[int]) -> dict[str, list[Any]]:
    """Return what the trials vary: whatever was not given.

    arguments: of the first trial, with all defaults. sizes: of images that the network takes.
    """
    frozen = arguments.fine_tune == "head"
    space: dict[str, list[Any]] = {
        "lr": [float(f"{arguments.lr / TIMES_THE_RATE:.3g}"), float(f"{arguments.lr * TIMES_THE_RATE:.3g}")],
        "width": [*WIDTHS] if arguments.model in SCALABLE else [],
        "augment": [*(AUGMENTATIONS_OF_FROZEN if frozen else AUGMENTATIONS)],
        "image_size": sizes,
    }
    return {name: choices for name, choices in space.items() if name not in given and len(choices) > 1}


def _sizes(fitting: Fitting, size: int) -> list[int]:
    """Return the sizes of images to try, of those that the network takes."""
    given, model = fitting.options, fitting.model

    def fits(side: int) -> bool:
        shape: Any = (fitting.images.x.shape[1], side, side)
        try:
            if given.start and pretrained.is_of_another_library(given.start):
                pretrained.read(given.start, side)
            layers = (
                from_plain([to_plain(layer) for layer in model.layers], kinds())
                if given.start
                else presets.get(given.model)(shape, len(fitting.images.classes))
            )
            for layer in layers:
                shape = layer.connect(shape)
        except ValueError:
            return False
        return not given.start or _arrays(layers) == _arrays(model.layers)

    return [side for side in sizes_around(size) if side == size or fits(side)]


def _arrays(layers: Sequence[Layer]) -> list[Shape]:
    """Return the shapes of the trainable arrays."""
    return [declaration.shape for layer in walk(layers) for declaration in layer.declarations]
