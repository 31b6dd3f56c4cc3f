"""The images of a fit in the memory of a device, which gathers, augments and normalises batches itself."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpcnn.backend import Array
from xpcnn.data.augmentation import GeometricAugmentation
from xpcnn.data.contrast_brightness import adjust_contrast_brightness
from xpcnn.data.preprocessing import Normalized
from xpcnn.ops.batches import gather
from xpcnn.ops.workspace import Workspace
from xpcnn.training.engine.base import Work

HostArray = np.ndarray[Any, Any]

#: Images stay on the device if they take at most this fraction of its free memory.
PART_FOR_IMAGES = 0.5
#: Bytes of images copied to the device at once.
BYTES_SENT = 64 * 2**20


class DeviceImages:
    """Images to train on, on the device, as bytes if they are bytes.

    stored, rows: raw images, and which of them to train on. augment, normalized: how a batch is changed, if at all.
    """

    def __init__(
        self,
        work: Work,
        stored: HostArray,
        rows: HostArray,
        augment: GeometricAugmentation | None,
        normalized: Normalized | None,
    ) -> None:
        self._work, self._augment = work, augment
        xp, dtype = work.network.xp, work.network.dtype
        self.images = xp.empty((len(rows), *stored.shape[1:]), dtype=_stored_dtype(work, stored))
        at_once = max(1, BYTES_SENT // max(1, self.images[:1].nbytes))
        for start in range(0, len(rows), at_once):  # one copy of all would double the host memory
            some = slice(start, start + at_once)
            self.images[some] = xp.asarray(np.ascontiguousarray(stored[rows[some]], dtype=self.images.dtype))
        self._mean = self._std = self._transforms = self._contrast_brightness = None
        if normalized is not None:
            self._mean = xp.asarray(np.array(normalized.preprocessing.mean, dtype))
            self._std = xp.asarray(np.array(normalized.preprocessing.std, dtype))
        if augment is not None:
            self._transforms = xp.zeros((len(rows), 5), dtype=np.int32)
            if augment.contrast_brightness is not None:
                self._contrast_brightness = xp.zeros((len(rows), 2), dtype=np.float32)

    def begin_epoch(self, epoch: int) -> None:
        """Send the transforms that are drawn for an epoch."""
        if self._augment is None or self._transforms is None:
            return
        xp, seed, rows = self._work.network.xp, self._work.seed, self._work.samples.rows
        _, height, width = self._work.network.input_shape
        self._transforms[...] = xp.asarray(self._augment.transforms((height, width), seed, epoch, rows))
        if self._contrast_brightness is not None and self._augment.contrast_brightness is not None:
            self._contrast_brightness[...] = xp.asarray(self._augment.contrast_brightness(seed, epoch, rows))

    def batch(self, indices: Array, workspace: Workspace) -> Array:
        """Return the images at some positions among those to train on, an array on the device."""
        network = self._work.network
        xp = network.xp
        transforms = None if self._transforms is None else xp.take(self._transforms, indices, axis=0)
        x = gather(xp, self.images, indices, transforms, self._mean, self._std, network.dtype, workspace)
        if self._contrast_brightness is not None:
            x[...] = adjust_contrast_brightness(xp, x, xp.take(self._contrast_brightness, indices, axis=0))
        return x


def place(work: Work) -> DeviceImages | None:
    """Return the images of a fit on its device, or None if they do not fit, or need preprocessing on the host."""
    xp, samples = work.network.xp, work.samples
    x, rows, augment = samples.x, samples.rows, samples.augment
    normalized = x if isinstance(x, Normalized) and not x.preprocessing.per_image else None
    if normalized is None and not isinstance(x, np.ndarray):
        return None
    if not isinstance(augment, GeometricAugmentation | None):
        return None
    stored, stored_rows = (x, rows) if normalized is None else (normalized.images, normalized.rows[rows])
    xp.get_default_memory_pool().free_all_blocks()  # release the cached memory of earlier work
    room = xp.cuda.runtime.memGetInfo()[0] * PART_FOR_IMAGES
    if len(rows) * stored[0].size * _stored_dtype(work, stored).itemsize > room:
        return None
    return DeviceImages(work, stored, stored_rows, augment, normalized)


def _stored_dtype(work: Work, stored: HostArray) -> np.dtype[Any]:
    return np.dtype(np.uint8) if stored.dtype == np.uint8 else work.network.dtype
