"""Advice on a finished run: what makes its figures uncertain, or its model worse than it could be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xpcnn.report.run import Epochs, Run

#: A validation part with fewer images is small: of 100, the 95 % interval of an accuracy of 0.5 is 19 points wide.
FEW_IMAGES = 100
#: A model is overfitting if it is better by more than this on training images than on validation images.
OVERFITTING = 0.15


def of_run(run: Run, epochs: Epochs, best: int) -> list[str]:
    """Return what to know and do about a run, one sentence or two each; best: the number of the best epoch."""
    found = (few_images(run.part("validation")), overfitting(epochs, best, run.arguments))
    return [text for text in found if text is not None]


def few_images(count: int) -> str | None:
    """Return that the best epoch was chosen by few validation images, None if they are enough or there are none.

    >>> few_images(40)
    'few validation images: 40, so that the best epoch and the temperature are partly chosen by chance. Add images.'
    """
    if not 0 < count < FEW_IMAGES:
        return None
    return (
        f"few validation images: {count}, so that the best epoch and the temperature are partly chosen by chance. "
        "Add images."
    )


def overfitting(epochs: Epochs, best: int, arguments: Mapping[str, Any]) -> str | None:
    """Return that the best epoch overfits, and which remedies its arguments leave to try; None if it does not."""
    if best not in epochs.numbers or not {"accuracy", "val_accuracy"} <= epochs.columns.keys():
        return None
    place = epochs.numbers.index(best)
    training, validation = (epochs.columns[name][place] for name in ("accuracy", "val_accuracy"))
    if not training - validation > OVERFITTING:
        return None
    remedies = ["more images"]
    if arguments.get("augment") != "microscopy":
        remedies.append("--augment microscopy (if flipped and rotated images keep their class)")
    if not arguments.get("start"):
        remedies.append("--from efficientnet-lite0 --fine-tune all")
    return (
        f"overfitting: in the best epoch, accuracy is {training:.2f} on training images and {validation:.2f} on "
        f"validation images. Try {', or '.join(remedies)}."
    )
