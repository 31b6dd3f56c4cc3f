"""HEIC images, the format of many phones, by the package pillow-heif."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpcnn.data.opencv import MAX_PIXELS
from xpcnn.data.pixels import Page, Pixels, Refusal
from xpcnn.data.readers.containers import Content, damaged
from xpcnn.data.readers.stacks import require_page
from xpcnn.data.versions import remedy

_MODES = ("L", "LA", "RGB", "RGBA")


def read_heif(content: Content, page: Page = 0, *, channels_as_they_are: bool = False) -> Pixels:
    """Decode a HEIC, upright by the rotation and mirroring in its container, of which EXIF has a copy.

    10-bit and 12-bit values are kept (uint16, up to 1023 or 4095). Page 0 is the primary image, followed by the others
    in order. Raises Refusal, also if pillow-heif is not installed.
    """
    try:
        import pillow_heif
    except ImportError as error:
        raise Refusal(f"it is a HEIC, which needs pillow-heif: {remedy()}") from error
    try:
        # It reports unreadable files, hostile ones included, by exceptions of many classes.
        images = pillow_heif.open_heif(content.tobytes(), convert_hdr_to_8bit=False)
        first = images.primary_index
        ordered = [images[first], *(image for index, image in enumerate(images) if index != first)]
    except Exception as error:
        raise _refused(error) from error
    require_page(page, len(ordered))
    if isinstance(page, str):
        if len(ordered) > 1:
            raise Refusal(f"it contains {len(ordered)} independent images, of which no {page} can be taken")
        page = 0
    return _pixels(ordered[page], len(ordered), channels_as_they_are)


def _pixels(image: Any, pages: int, channels_as_they_are: bool) -> Pixels:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise Refusal(f"it claims {width} x {height} pixels, more than {MAX_PIXELS}")
    mode, _, _ = image.mode.partition(";")
    if mode not in _MODES:
        raise Refusal(f"it is a HEIC of the mode {image.mode}, which xpcnn does not read")
    try:
        values = np.asarray(image)
    except Exception as error:
        raise _refused(error) from error
    values = values.reshape(*values.shape[:2], -1)
    if values.shape != (height, width, len(mode)):  # its size differs from its header
        raise damaged("heif")
    if values.dtype == np.uint16:
        values = values >> (16 - int(image.info["bit_depth"]))  # pillow-heif scales them to 16 bits
    alpha = channels_as_they_are and mode.endswith("A")
    if mode.endswith("A") and not alpha:
        values = values[:, :, :-1]
    return Pixels(values, "rgb" if mode.startswith("RGB") else "grey", alpha, pages)


def _refused(error: Exception) -> Refusal:
    said = " ".join(str(error).split()).removeprefix("Memory allocation error: Security limit exceeded: ")
    return Refusal(f"it is a HEIC that is truncated or damaged (pillow-heif: {said[:200]})")
