"""Changes of contrast and brightness, on the host or on the device that holds the images."""

from __future__ import annotations

from xpcnn.backend import Array, ArrayModule


def adjust_contrast_brightness(xp: ArrayModule, images: Array, changes: Array) -> Array:
    """Return images with their contrast and brightness changed, each relative to its own.

    images: (n, channels, height, width). changes: (n, 2), the fraction c by which an image's contrast grows, and the
    number b of its standard deviations by which it becomes brighter: y = (1 + c) (x - m) + m + b s, where m and s are
    the image's mean and standard deviation. Integers are rounded and clipped to the range of their dtype.
    """
    if images.size == 0:
        return images
    dtype = images.dtype if images.dtype.kind == "f" else xp.float32
    x = images.astype(dtype, copy=False)
    mean = x.mean(axis=(1, 2, 3), keepdims=True)
    x = x - mean
    std = xp.sqrt(xp.square(x).mean(axis=(1, 2, 3), keepdims=True))
    contrast, brightness = (changes[:, i].astype(dtype)[:, None, None, None] for i in range(2))
    x *= 1.0 + contrast
    x += mean + brightness * std
    if images.dtype.kind == "f":
        return x
    limits = xp.iinfo(images.dtype)
    return xp.clip(xp.rint(x), limits.min, limits.max).astype(images.dtype)
