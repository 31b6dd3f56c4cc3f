"""Predicting the labels of images from any source, decoded and normalised as in training."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from xpcnn.backend import host_array
from xpcnn.data import Folder, Normalized, Preprocessing, UndecodableImage
from xpcnn.data.augmentation import View, views
from xpcnn.data.decode import from_array
from xpcnn.data.left_out import left_out
from xpcnn.data.picture import Facts, Picture
from xpcnn.data.ranges import warn_of_lost_values
from xpcnn.data.reading import read_images
from xpcnn.losses import Loss
from xpcnn.model.state import check_thresholds
from xpcnn.program.memory_bound import images_at_once
from xpcnn.program.network import Network
from xpcnn.training import evaluation

HostArray = np.ndarray[Any, Any]
#: The number of pictures that are decoded and then predicted together.
TOGETHER = 64


class Model(Protocol):
    """The interface that image prediction needs from a model."""

    class_names: tuple[str, ...] | None
    preprocessing: Preprocessing | None

    @property
    def network(self) -> Network:
        """The built stack."""

    loss: Loss | None
    temperature: float
    thresholds: tuple[float, ...] | None


@dataclass(frozen=True, eq=False)
class Predictions:
    """A model's predictions for pictures, in the order in which they were given.

    labels: the most probable class of each picture, None if it could not be read; from a model that gives several
    labels, a tuple of those above their thresholds, the most probable first. probabilities: float32 (n, classes),
    NaN for a picture that could not be read. errors: why a picture could not be read, or None if it could.
    """

    labels: list[Any]
    probabilities: HostArray
    errors: list[str | None]

    def __len__(self) -> int:
        return len(self.labels)


def views_of(model: Model, augment: str) -> list[View]:
    """Return the views of an augmentation for the input shape; only the identity for inputs that are not images."""
    size = model.network.input_shape[1:]
    return views(augment, (size[0], size[1])) if len(size) == 2 else views("none", (1, 1))


def outputs(
    model: Model, x: Any, batch_size: int, threads: int | None, augment: str, images: int | None = None
) -> HostArray:
    """Return a model's outputs for normalised images; images: how many there are in all, if these are a part."""
    chosen = views_of(model, augment)
    xp = model.network.for_run((len(x) if images is None else images) * len(chosen))
    return evaluation.predict(model.network, x, batch_size, threads, chosen, model.temperature, model.loss, xp)


def predict_images(model: Model, images: Any, threads: int | None, augment: str, progress: bool) -> Predictions:
    """Return a model's predictions for pictures; see :meth:`xpcnn.Sequential.predict_images`."""
    preprocessing, names = _known(model)
    sources = _sources(images, preprocessing)
    errors: list[str | None] = []
    facts: list[Facts] = []
    count = max(2, model.network.output_shape[0])
    probabilities = np.full((len(sources), count), np.nan, np.float32)
    together = images_at_once(model.network, TOGETHER)
    for start in _with_bar(range(0, len(sources), together), len(sources), together, progress):
        read = list(_pictures(sources[start : start + together], preprocessing, threads))
        errors += [one.reason if isinstance(one, UndecodableImage) else None for one in read]
        pictures = [one for one in read if isinstance(one, Picture)]
        facts += [one.facts for one in pictures]
        if pictures:
            x = Normalized(np.stack([one.image for one in pictures]), np.arange(len(pictures)), preprocessing)
            answers = outputs(model, x, together, threads, augment, len(sources))
            rows = [start + row for row, one in enumerate(read) if isinstance(one, Picture)]
            probabilities[rows] = np.concatenate((1 - answers, answers), axis=1) if answers.shape[1] == 1 else answers
    warn_of_lost_values(facts, preprocessing.decoding)
    for line in left_out(facts, preprocessing.decoding):
        warnings.warn(line, stacklevel=3)
    labels = [
        None if error else _label(one, names, model.thresholds)
        for error, one in zip(errors, probabilities, strict=True)
    ]
    return Predictions(labels, probabilities, errors)


def _label(probabilities: HostArray, names: Sequence[str], thresholds: Sequence[float] | None) -> Any:
    """Return the name of the most probable class or, given thresholds, a tuple of the labels above them."""
    if thresholds is None:
        return names[int(np.where(np.isnan(probabilities), -1, probabilities).argmax())]
    above = probabilities > np.array(thresholds)  # in 64 bits, as evaluation compares
    return tuple(names[index] for index in np.argsort(-probabilities, kind="stable").tolist() if above[index])


def _known(model: Model) -> tuple[Preprocessing, Sequence[str]]:
    preprocessing, names = model.preprocessing, model.class_names
    if preprocessing is None or len(model.network.output_shape) != 1:
        raise ValueError(
            "Predicting pictures needs a model with a preprocessing and one vector of probabilities per picture. "
            f"Received: {'no preprocessing' if preprocessing is None else f'outputs {model.network.output_shape}'}. "
            "Use a model that `xpcnn train` wrote, or set model.preprocessing = data.Preprocessing.measure(…); for "
            "normalised arrays, use model.predict."
        )
    if preprocessing.decoding.shape != model.network.input_shape:
        raise ValueError(
            f"The model's layers take images of shape {model.network.input_shape}, but its preprocessing produces "
            f"{preprocessing.decoding.shape}. Set a preprocessing that fits."
        )
    check_thresholds(model.thresholds, model.network.output_shape)
    return preprocessing, names or [str(label) for label in range(max(2, model.network.output_shape[0]))]


def _sources(images: Any, preprocessing: Preprocessing) -> Sequence[Any]:
    """Return one source per picture: a path, bytes, a file object or an array (height, width, channels)."""
    if isinstance(images, Folder):
        return images.paths
    if isinstance(images, str | os.PathLike | bytes | bytearray | memoryview) or hasattr(images, "read"):
        return [images]
    if isinstance(images, list | tuple | Iterator):
        return [_one(image) for image in images]
    if not hasattr(images, "__array__") and not hasattr(images, "__dlpack__") and isinstance(images, Iterable):
        return [_one(image) for image in images]
    if _is_pillow(images):
        return [_one(images)]
    array = host_array(images)
    if array.dtype.kind in "OUS":
        return [_one(image) for image in array.ravel().tolist()]
    if array.ndim != 4 or array.shape[1] not in (1, 3, 4, preprocessing.decoding.channels):
        raise ValueError(
            "Give raw pixels as an array (n, channels, height, width), or as a list of arrays (height, width) or "
            "(height, width, channels), also for a single picture. "
            f"Received an array of shape {array.shape}."
        )
    return [image.transpose(1, 2, 0) for image in array]


def _one(image: Any) -> Any:
    if isinstance(image, str | os.PathLike | bytes | bytearray | memoryview) or hasattr(image, "read"):
        return image
    array = _upright(image) if _is_pillow(image) else host_array(image)
    if array.ndim not in (2, 3):
        raise ValueError(
            "A picture must be a path, the bytes of a file, a file object, or an array (height, width) or (height, "
            f"width, channels). Received: {type(image).__name__} of shape {array.shape}."
        )
    return array[:, :, np.newaxis] if array.ndim == 2 else array


def _is_pillow(image: Any) -> bool:
    """Whether this is a Pillow image, without importing Pillow: if it is not imported, no image can be one."""
    pillow = sys.modules.get("PIL.Image")
    return pillow is not None and isinstance(image, pillow.Image)


def _upright(image: Any) -> HostArray:
    """Return the pixels of a Pillow image as if read from its file: rotated upright, palettes and inks as colours."""
    from PIL import ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode in ("1", "LA", "La"):
        image = image.convert("L")
    elif image.mode not in ("L", "RGB", "RGBA", "I", "F") and not image.mode.startswith("I;16"):
        image = image.convert("RGB")
    return np.asarray(image)


def _pictures(
    sources: Sequence[Any], preprocessing: Preprocessing, threads: int | None
) -> Iterator[Picture | UndecodableImage]:
    """Yield the pictures of sources in their order, decoding files on threads."""
    files = [source for source in sources if not isinstance(source, np.ndarray)]
    with closing(read_images(files, preprocessing.decoding, threads=threads)) as decoded:
        for source in sources:
            if not isinstance(source, np.ndarray):
                yield next(decoded)
                continue
            try:
                yield from_array(source, preprocessing.decoding)
            except UndecodableImage as error:
                yield error


def _with_bar(starts: range, total: int, together: int, progress: bool) -> Iterator[int]:
    from tqdm import tqdm

    hidden = None if progress else True
    with tqdm(total=total, desc="Predicting", unit="image", file=sys.stderr, disable=hidden, leave=False) as bar:
        for start in starts:
            yield start
            bar.update(min(together, total - start))
