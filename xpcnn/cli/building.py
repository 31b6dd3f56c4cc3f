"""The images and the model of a run: a preset's network, one that is resumed, or pretrained weights."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from xpcnn.cli import datasets

if TYPE_CHECKING:
    from xpcnn.backend import ArrayModule
    from xpcnn.cli.loading import Loaded
    from xpcnn.communicator import Communicator
    from xpcnn.data import Decoding
    from xpcnn.model import Sequential


def build(
    options_: argparse.Namespace,
    xp: ArrayModule,
    communicator: Communicator,
    decoding: Decoding | None,
    built: list[Any] | None,
    load: Callable[..., Loaded],
) -> tuple[Sequential, Loaded]:
    """Load the images and build the model, not compiled. decoding, built: those of a resumed run, else None."""
    import numpy as np

    from xpcnn import Sequential, data, presets, recipe
    from xpcnn.data.digests import with_digests
    from xpcnn.data.labels import are_several
    from xpcnn.layers.configs import from_plain, kinds

    if options_.start:
        model, loaded = _pretrained(options_, xp, communicator, load)
    else:
        loaded = load(options_, communicator, decoding, None)
    images, split = loaded.images, loaded.split
    if options_.balance and are_several(images.y):
        raise ValueError("--balance is for images of one label each, and the table lists several. Omit --balance.")
    if options_.patience and len(split.validation) == 0:
        raise ValueError(
            f"--patience {options_.patience} needs validation images, and there are none. "
            "Use a larger --validation-fraction, or omit --patience."
        )
    datasets.refuse_one_colour(images, split)
    if not options_.start:
        shape = images.x.shape[1:]
        if built is not None:
            layers = from_plain(built, kinds())
        else:
            wide = {} if options_.width is None else {"width": options_.width}
            layers = presets.get(options_.model)(shape, len(images.classes), **wide)
            if are_several(images.y):
                layers = presets.for_several_labels(layers)
        model = Sequential(layers, input_shape=shape, xp=xp, seed=options_.seed)
        model.class_names = images.classes
        model.thresholds = (0.5,) * len(images.classes) if are_several(images.y) else None
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


def _pretrained(
    options_: argparse.Namespace, xp: ArrayModule, communicator: Communicator, load: Callable[..., Loaded]
) -> tuple[Sequential, Loaded]:
    """Load pretrained weights, and the images as they take them; classes that they do not know get a new last layer."""
    from dataclasses import replace

    from xpcnn import pretrained, recipe
    from xpcnn.cli.models import load_for_images
    from xpcnn.data.labels import are_several

    if pretrained.is_of_another_library(options_.start):
        weights = pretrained.read(options_.start, options_.image_size)
        loaded = load(options_, communicator, weights.preprocessing.decoding, None)
        classes = loaded.images.classes
        several = are_several(loaded.images.y)
        return weights.model(classes, len(classes), xp, options_.seed, several), loaded
    model, preprocessing, names = load_for_images(str(pretrained.find(options_.start)), xp)
    decoding = preprocessing.decoding
    if options_.image_size is not None:
        decoding = replace(decoding, height=options_.image_size, width=options_.image_size)
    replaces = datasets.has_other_classes(options_, names)
    if model.thresholds is not None and not replaces:
        try:
            recipe.layer_of_labels(model)
        except ValueError as error:
            raise ValueError(
                f"{options_.start!r} does not end in a dense layer and a sigmoid, so its labels cannot be calibrated. "
                "Start --from another model; of an average of folds, from that of a fold."
            ) from error
    loaded = load(options_, communicator, decoding, None if replaces else names)
    if are_several(loaded.images.y) != (model.thresholds is not None):
        gives = "a class" if model.thresholds is None else "several labels"
        raise ValueError(
            f"{options_.start!r} gives an image {gives}, and these images have "
            f"{'several labels' if model.thresholds is None else 'one label each'}. Start --from another, or omit it."
        )
    if replaces:
        loaded.notes.append(f"{options_.start} has other classes, so its last layer is replaced by a new one")
    if replaces or decoding != preprocessing.decoding:
        classes = loaded.images.classes
        model = pretrained.adapted(model, classes, len(classes), options_.image_size, options_.seed)
    return model, loaded
