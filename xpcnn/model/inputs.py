"""Checks of the arrays that users pass, on the host, before they are copied to a device."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from xpcnn.backend import host_array
from xpcnn.parameters import Shape
from xpcnn.registry import check_float
from xpcnn.targets import check_weights

if TYPE_CHECKING:
    from xpcnn.data import Preprocessing

HostArray = np.ndarray[Any, Any]

DATA_FORMATS = ("channels_first", "channels_last")
#: The number of rows that are checked together for NaN and infinite values.
_ROWS = 1024


def images(x: Any, input_shape: Shape, data_format: str = "channels_first") -> Any:
    """Return images as an array (n, channels, height, width) or its equivalent; a single image gets a batch axis.

    x: anything that :func:`xpcnn.backend.host_array` takes; a generator of images or of batches, which is exhausted; or
    an object that is not an array but has ``shape``, ``dtype`` and rows by index, such as
    :class:`xpcnn.data.Normalized`, which is read one batch at a time. Raises ValueError if the shape is not the
    model's, if values are NaN or infinite, or if there are no images, and TypeError for anything but numeric arrays.
    """
    if data_format not in DATA_FORMATS:
        raise ValueError(f"data_format must be one of {', '.join(DATA_FORMATS)}. Received: {data_format!r}.")
    if isinstance(x, Iterator):
        x = _joined([host_array(part) for part in x], len(input_shape))
    elif not _gives_rows(x):
        x = host_array(x)
    received = tuple(x.shape)
    if x.dtype.kind not in "biuf":
        first = f", with {reprlib.repr(x.flat[0])} as its first value" if isinstance(x, np.ndarray) and x.size else ""
        raise TypeError(
            f"Images must be arrays of numbers. Received an array of dtype {x.dtype}{first}. "
            "Read files with data.load_folder, and drop the non-numeric columns of a table."
        )
    if isinstance(x, np.ndarray):
        if x.ndim == len(input_shape):
            x = x[np.newaxis]
        if data_format == "channels_last" and x.ndim == 4:
            x = x.transpose(0, 3, 1, 2)
    if tuple(x.shape[1:]) != tuple(input_shape):
        raise ValueError(
            f"The model takes images of shape {tuple(input_shape)}, (channels, height, width). "
            f"Received an array of shape {received}.{_advice(received, data_format, input_shape)}"
        )
    if len(x) == 0:
        raise ValueError(f"There are no images: received an array of shape {tuple(x.shape)}.")
    if isinstance(x, np.ndarray) and x.dtype.kind == "f":
        largest = np.finfo(np.float32).max
        for start in range(0, len(x), _ROWS):
            rows = x[start : start + _ROWS]
            if not -largest <= rows.min() <= rows.max() <= largest:  # false for NaN
                finite = np.abs(rows) <= largest
                bad = start + int(np.argmin(finite.reshape(len(finite), -1).all(axis=1)))
                raise ValueError(
                    f"Images must be finite in float32. Received NaN, infinite or larger values, first in image {bad}."
                )
    return x


def refuse_raw(x: Any) -> None:
    """Raise ValueError for integers, which a model that takes normalised images cannot use."""
    if x.dtype.kind in "biu":
        raise ValueError(
            f"The model takes normalised images, but these are raw pixels ({x.dtype}). Pass pictures to "
            "model.predict_images(…), or arrays of its size to model.predict(model.preprocessing.normalize(x))."
        )


#: The warning for images that look like raw pixels.
RAW = (
    "The images do not look normalised by the model's preprocessing. Pass raw pixels to "
    "model.predict_images(…), or normalise arrays of its size with model.preprocessing.normalize(x) first."
)


def look_raw(x: Any, preprocessing: Preprocessing) -> bool:
    """Whether the values of images lie outside the range of normalised bytes, or all from 0 to 1."""
    if not isinstance(x, np.ndarray) or preprocessing.per_image:
        return False
    some = x[:_ROWS]
    least, greatest = float(some.min()), float(some.max())
    means, stds = np.array(preprocessing.mean), np.array(preprocessing.std)
    low, high = float((-means / stds).min()), float(((255 - means) / stds).max())
    slack = 0.01 * (high - low)
    scaled = 0 <= least < greatest <= 1 and low < -0.25
    return scaled or least < low - slack or greatest > high + slack


def pairs(batches: Any, rank: int) -> tuple[HostArray, HostArray]:
    """Return the images and labels of (image, label) pairs or of pairs of batches, such as those of a DataLoader.

    rank: the number of axes of one image. All pairs are read into memory. Raises TypeError for anything but pairs.
    """
    given = [] if isinstance(batches, np.ndarray) or not isinstance(batches, Iterable) else [*batches]
    if not given or not all(isinstance(pair, tuple | list) and len(pair) == 2 for pair in given):
        raise TypeError(
            "Without y, x must contain pairs of images and labels, such as zip(x, y) or a DataLoader. "
            f"Received: {type(batches).__name__}{' of ' + type(given[0]).__name__ if given else ''}."
        )
    x, y = ([host_array(pair[part]) for pair in given] for part in (0, 1))
    together = x[0].ndim > rank
    return _joined(x, rank), np.concatenate(y) if together else np.stack(y)


def samples(x: Any, y: Any, input_shape: Shape, data_format: str = "channels_first") -> tuple[Any, HostArray]:
    """Return images and their labels, checked together; if y is None, x contains pairs of both."""
    if y is None:
        x, y = pairs(x, len(input_shape))
    x = images(x, input_shape, data_format)
    return x, labels(y, len(x))


def _joined(parts: Sequence[HostArray], rank: int) -> HostArray:
    """Return single images, or batches of them, as one array."""
    if not parts:
        return np.empty(0)
    if len({part.shape[-rank:] for part in parts}) > 1:
        shapes = sorted({part.shape[-rank:] for part in parts})
        raise ValueError(f"All images must have the same shape. Received: {shapes[0]} and {shapes[1]}.")
    return np.concatenate(parts) if parts[0].ndim > rank else np.stack(parts)


def _gives_rows(x: Any) -> bool:
    """Whether this is read one batch at a time: it has a shape and rows, but is not an array of any kind."""
    protocols = ("__array__", "__dlpack__", "__cuda_array_interface__")
    return all(hasattr(x, name) for name in ("shape", "dtype", "__getitem__")) and not any(
        hasattr(x, name) for name in protocols
    )


def labels(y: Any, n: int) -> HostArray:
    """Return targets as an array with one row per image, or raise ValueError if there are not n."""
    array = host_array(y)
    if array.ndim == 0 or len(array) != n:
        raise ValueError(f"There are {n} images, so {n} labels are needed. Received an array of shape {array.shape}.")
    return array


def sample_weights(
    weights: Any,
    class_weight: Mapping[int, float] | Sequence[float] | None,
    labels: HostArray | None,
    n: int,
    width: int,
) -> HostArray | None:
    """Return one weight per sample, its sample weight times its class weight, or None if there are no weights.

    class_weight: {class: weight, …} (1 for a missing class) or one weight per class. labels: int64 (n,), or None if the
    targets are not classes. Raises ValueError for weights that are negative, NaN, infinite or not one per sample, and
    for class weights that do not match the classes of the model's ``width`` outputs, or if there are no classes.
    """
    combined = None if weights is None else check_weights(weights, n)
    if class_weight is None:
        return combined
    if labels is None:
        raise ValueError("The targets are not classes, so class_weight does not apply. Use sample_weight instead.")
    classes = max(width, 2)  # a single output distinguishes two classes
    if isinstance(class_weight, str):
        raise ValueError(
            "class_weight must contain numbers. To weight all classes equally, use "
            f"class_weight=xpcnn.recipe.balanced(y, {classes}). Received: {class_weight!r}."
        )
    by_class = np.ones(classes)
    given = class_weight if isinstance(class_weight, Mapping) else dict(enumerate(class_weight))
    complete = isinstance(class_weight, Mapping) or len(given) == classes
    if not complete or not all(isinstance(c, int | np.integer) and 0 <= c < classes for c in given):
        raise ValueError(
            "class_weight must be {class: weight} or one weight for each of the "
            f"{classes} classes, 0 to {classes - 1}. "
            f"Received: {reprlib.repr(class_weight)}."
        )
    for label, weight in given.items():
        by_class[label] = check_float("A class weight", weight, "[0, inf)")
    of_class: HostArray = by_class[labels]
    return of_class if combined is None else combined * of_class


def look_channels_last(shape: Shape) -> bool:
    """Whether the shape of an image looks like (height, width, channels), which as (channels, height, width) is odd."""
    if len(shape) != 3 or min(shape[:2]) < 8:
        return False
    return shape[2] in (3, 4) or (shape[2] == 1 and shape[0] == shape[1])


def _advice(shape: Shape, data_format: str, input_shape: Shape) -> str:
    """Return advice on images that do not fit, if the cause is clear, or ""."""
    channels = input_shape[0]
    if data_format == "channels_last" or len(input_shape) != 3:
        return ""
    if shape[-3:] == (*input_shape[1:], channels):
        return ' Use data_format="channels_last".'
    if len(shape) == 4 and shape[1] != channels:
        return f" It has {shape[1]} channels, not {channels}."
    if len(shape) == 3 and shape[1:] == input_shape[1:] and channels == 1:
        return " Add a channel axis to grey images: x[:, None]."
    return ""
