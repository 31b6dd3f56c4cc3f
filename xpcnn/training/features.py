"""What a network's frozen first layers give for the images of a fit: computed once, not in every epoch."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from xpcnn.backend import is_host
from xpcnn.data.augmentation import GeometricAugmentation, OneOfViews, View, ViewedImages
from xpcnn.data.rows import Rows
from xpcnn.program.network import Network
from xpcnn.training import evaluation
from xpcnn.training.engine.base import Samples, Work
from xpcnn.training.feature_file import FeatureFile, digest_of, maker_of
from xpcnn.training.fit import Fit

HostArray = np.ndarray[Any, Any]
#: Features of more bytes, and of more numbers than the images have, are not kept in memory.
MOST_BYTES = 2**30
#: The number of views that a process computes before it looks whether the fit was interrupted.
_AT_ONCE = 256


@dataclass(frozen=True)
class FeatureSamples(Samples):
    """Samples with the features of every view in place of images: x (rows, views, …), for ``rows``, which are sorted.

    drawn: called with a seed, an epoch and rows; returns the view of each that is shown. None: there is one.
    """

    drawn: Callable[[int, int, HostArray], HostArray] | None = None

    def images(self, rows: HostArray, seed: int, epoch: int, dtype: Any) -> HostArray:
        """Return the features of some rows, of the views that are shown in an epoch."""
        views = 0 if self.drawn is None else self.drawn(seed, epoch, rows)
        return np.asarray(self.x[np.searchsorted(self.rows, rows), views], dtype=dtype)


class FrozenPart:
    """The frozen first layers of a fit's network, and the rest of it, whose images are what these give.

    held: the images evaluated after every epoch, if any. views: those of each image to train on; of the others there is
    one. threads: of the fit.
    """

    def __init__(self, fit: Fit, first: Network, rest: Network, held: Any, views: Sequence[View], threads: int | None):
        self.first, self.rest, self.views = first, rest, views
        self._fit, self._threads = fit, threads
        samples = fit.work.samples
        self._images = {"train": ViewedImages(Rows(samples.x, samples.rows), views)}
        if held is not None:
            self._images["held"] = ViewedImages(held, evaluation.ONE_VIEW)
        self._features: dict[str, HostArray] = {}

    def compute(self, verbose: int, ended: Callable[[], bool]) -> bool:
        """Find the features, unless the fit has ended meanwhile; return whether there are all of them.

        They are computed, or read if an earlier fit has kept them.
        """
        work, together = self._fit.work, self._fit.communicator
        size = max(work.batch_size, 64)
        file = self._file(size)
        shapes = {name: (len(viewed), *self.rest.input_shape) for name, viewed in self._images.items()}
        read = together.broadcast(None if file is None else file.read(shapes, self.rest.dtype))
        if verbose:
            print(self._line(None if read is None else file), flush=True)
        if read is not None:
            self._features = read
            return True
        self._features = {name: np.empty(shape, self.rest.dtype) for name, shape in shapes.items()}
        at_once = max(1, _AT_ONCE // size) * size * together.size
        for name, viewed in self._images.items():
            for start in range(0, len(viewed), at_once):
                if ended():
                    return False
                some = np.arange(start, min(start + at_once, len(viewed)))
                self._features[name][some] = evaluation.infer(
                    self.first, Rows(viewed, some), size, self._threads, communicator=together, xp=work.xp
                )
        if file is not None:
            file.write(self._features)
        return True

    def _file(self, batch_size: int) -> FeatureFile | None:
        """Return where this process keeps the features, if it does."""
        folder, together = self._fit.features_folder, self._fit.communicator
        if not any(together.allgather(folder is not None)):
            return None
        key = digest_of(self.first, self._images, together.parallel_map)
        return None if folder is None else FeatureFile(folder, key, maker_of(self._fit.work.xp, batch_size))

    def _line(self, read: FeatureFile | None) -> str:
        """Say what is computed, or read, and why once."""
        images = sum(len(viewed.images) for viewed in self._images.values())
        views = sum(map(len, self._images.values()))
        what = f"{images} images" if views == images else f"{views} views of {images} images"
        after = [node.layer.name for node in self.rest.nodes if not node.layer.hidden]
        why = f"the layers before {after[0]!r} are frozen" if after else "all layers are frozen"
        if read is not None:
            return f"features of {what} read from {str(read.path)!r}: {why}"
        return f"computing features of {what}, once: {why}"

    @property
    def held(self) -> HostArray | None:
        """The features of the images that are evaluated."""
        return self._features.get("held")

    @property
    def work(self) -> Work:
        """The work of training the rest on the features."""
        work, features = self._fit.work, self._features["train"]
        samples, drawer = work.samples, _drawer(work.samples.augment)
        _, height, width = self.first.input_shape
        x = features.reshape(-1, len(self.views), *features.shape[1:])
        drawn = None if drawer is None else functools.partial(drawer.drawn, (height, width))
        shown = FeatureSamples(x, samples.y, samples.weights, samples.rows, drawn=drawn)
        return replace(work, network=self.rest, samples=shown)


def frozen_part(fit: Fit, held: Any, threads: int | None) -> FrozenPart | None:
    """Return the part of a fit's network that is computed once, or None if there is none.

    Images may be augmented by one of a few views, no more than there are epochs. Features of more than
    :data:`MOST_BYTES` must not have more numbers than the images. A device, whose kernels gather batches of images,
    computes everything.
    """
    work = fit.work
    network, samples = work.network, work.samples
    count = network.frozen_start()
    views = views_computed_once(network, samples.augment)
    if not 0 < len(views) <= fit.epochs - fit.first_epoch:
        return None
    first, rest = network.split(count)
    fits = fit_in_memory(network, len(views), len(samples.rows), 0 if held is None else len(held))
    worthwhile = rest.multiplications < network.multiplications
    return FrozenPart(fit, first, rest, held, views, threads) if fits and worthwhile else None


def fit_in_memory(network: Network, views: int, images: int, evaluated: int) -> bool:
    """Return whether what frozen layers compute of so many views of images, and of evaluated ones, may be kept."""
    _, rest = network.split(network.frozen_start())
    numbers = (views * images + evaluated) * math.prod(rest.input_shape)
    of_images = (images + evaluated) * math.prod(network.input_shape)
    return bool(numbers <= max(MOST_BYTES // network.dtype.itemsize, of_images))


def views_computed_once(network: Network, augment: Any) -> Sequence[View]:
    """Return the views of each image that frozen first layers compute once, in a fit of at least as many epochs.

    None of them without such layers, on a device, and if ``augment`` does not give one of a few views.
    """
    if network.frozen_start() == 0 or not is_host(network.xp):
        return []
    if augment is None:
        return evaluation.ONE_VIEW
    drawer, (_, height, width) = _drawer(augment), network.input_shape
    return [] if drawer is None else drawer.views((height, width))


def _drawer(augment: Any) -> OneOfViews | None:
    return augment.few_views if isinstance(augment, GeometricAugmentation) else None
