"""Resizing images of any shape: stretched, cropped or padded."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpcnn.data.decoding import Resizing
from xpcnn.data.opencv import load_opencv

#: Channels that OpenCV resizes in one call.
_TOGETHER = 4


def resized(image: NDArray[Any], height: int, width: int, resizing: Resizing = "stretch") -> NDArray[Any]:
    """Return (h, w, channels) of uint8, uint16 or floats as (height, width, channels) of the same dtype.

    resizing: see :class:`xpcnn.data.Decoding`.
    """
    if image.shape[:2] == (height, width):
        return image
    if resizing == "crop":
        return _stretched(_cropped(image, height, width), height, width)
    if resizing == "pad":
        return _padded(image, height, width)
    return _stretched(image, height, width)


def resize(images: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Stretch uint8 images (n, channels, h, w) to (n, channels, height, width), like :func:`read_image`."""
    result = np.empty((*images.shape[:2], height, width), dtype=np.uint8)
    for image, target in zip(images, result, strict=True):
        target[...] = resized(image.transpose(1, 2, 0), height, width).transpose(2, 0, 1)
    return result


def _stretched(image: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    """Shrink by area interpolation where the image is too large, then enlarge linearly where it is too small."""
    if image.shape[:2] == (height, width):
        return image
    cv2 = load_opencv()
    h, w, channels = image.shape
    if channels > _TOGETHER:
        channel_groups = (image[:, :, start : start + _TOGETHER] for start in range(0, channels, _TOGETHER))
        return np.concatenate([_stretched(group, height, width) for group in channel_groups], axis=2)
    image = np.ascontiguousarray(image)
    shrunk = cv2.resize(image, (min(w, width), min(h, height)), interpolation=cv2.INTER_AREA)
    stretched = cv2.resize(shrunk, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(stretched, dtype=image.dtype).reshape(height, width, channels)


def _cropped(image: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    """Return the largest centred region with the aspect ratio width : height, to the nearest pixel."""
    h, w = image.shape[:2]
    rows = min(h, max(1, round(w * height / width)))
    columns = min(w, max(1, round(h * width / height)))
    top, left = (h - rows) // 2, (w - columns) // 2
    return image[top : top + rows, left : left + columns]


def _padded(image: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    """Return the image as large as it fits, centred, with its edge repeated around it."""
    h, w = image.shape[:2]
    rows = min(height, max(1, round(h * width / w)))
    columns = min(width, max(1, round(w * height / h)))
    inner = _stretched(image, rows, columns)
    above, before = (height - rows) // 2, (width - columns) // 2
    return np.pad(inner, ((above, height - rows - above), (before, width - columns - before), (0, 0)), mode="edge")
