"""Contrast and brightness of images, wherever they lie: a device changes them there."""

from __future__ import annotations

from xpcnn.backend import Array, ArrayModule


def toned(xp: ArrayModule, images: Array, tones: Array) -> Array:
    """Return images with another contrast and brightness, each in the measure of its own.

    images: (n, channels, height, width). tones: (n, 2), by which part the contrast grows, and by how many standard
    deviations of the image it becomes brighter: y = (1 + t0) (x - m) + m + t1 s, with its mean m and deviation s.
    Integers are rounded and stay in the range of their dtype.
    """
    if images.size == 0:
        return images
    dtype = images.dtype if images.dtype.kind == "f" else xp.float32
    x = images.astype(dtype, copy=False)
    mean = x.mean(axis=(1, 2, 3), keepdims=True)
    x = x - mean
    deviation = xp.sqrt(xp.square(x).mean(axis=(1, 2, 3), keepdims=True))
    contrast, brightness = (tones[:, i].astype(dtype)[:, None, None, None] for i in range(2))
    x *= 1.0 + contrast
    x += mean + brightness * deviation
    if images.dtype.kind == "f":
        return x
    limits = xp.iinfo(images.dtype)
    return xp.clip(xp.rint(x), limits.min, limits.max).astype(images.dtype)
