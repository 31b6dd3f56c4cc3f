"""One call of OpenCV's decoders, with its two kinds of failure as refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpcnn.data.opencv import MAX_PIXELS, load_opencv
from xpcnn.data.pixels import Page, Pixels, Refusal
from xpcnn.data.readers.containers import NAMES, Content, damaged
from xpcnn.data.readers.stacks import project, require_page

# cv2.IMREAD_…, since cv2 is not imported until something is decoded. None of them converts colour to grey, for which
# libpng would apply a gamma that OpenCV does not set.
COLOUR = 1 | 2  # COLOR, ANYDEPTH
AS_IT_IS = 4 | 2  # ANYCOLOR, ANYDEPTH
WITH_ALPHA = -1  # UNCHANGED
NOT_TURNED = 128  # IGNORE_ORIENTATION

_DTYPES = frozenset(map(np.dtype, ("u1", "u2", "f4")))
_READ_IN_ALL_KINDS = {"gif", "pfm", "png", "pnm", "webp"}


def decode(content: Content, kind: str, flags: int) -> NDArray[Any]:
    """Return OpenCV's result: (height, width), or with 3 or 4 samples that start with blue, green, red."""
    cv2 = load_opencv()
    try:
        # From memory: imread accepts a truncated JPEG and fills the rest with grey.
        decoded = cv2.imdecode(content, flags)
    except cv2.error as error:
        raise _refused(error) from error
    if decoded is None:
        raise _undecoded(kind)
    return decoded  # type: ignore[no-any-return]


def pixels_of(decoded: NDArray[Any], pages: int = 1) -> Pixels:
    """Return decoded samples in the order red, green, blue."""
    if decoded.dtype not in _DTYPES:
        raise Refusal(f"its pixels are {decoded.dtype}")
    if decoded.ndim == 2:
        return Pixels(decoded[:, :, np.newaxis], "grey", pages=pages)
    if decoded.shape[2] == 3:
        return Pixels(decoded[:, :, ::-1], "rgb", pages=pages)
    return Pixels(decoded[:, :, [2, 1, 0, 3]], "rgb", alpha=True, pages=pages)


def decode_frames(content: Content, kind: str, flags: int, page: Page, pages: int) -> NDArray[Any]:
    """Return one of several frames, or a projection of them; raise Refusal if their number is not the expected one."""
    require_page(page, pages)
    first = decode(content, kind, flags)
    if page == 0 or pages == 1:
        return first
    if pages * first.shape[0] * first.shape[1] > MAX_PIXELS:  # all frames up to the requested one are decoded
        raise Refusal(f"its {pages} frames have more than {MAX_PIXELS} pixels in total")
    cv2 = load_opencv()
    try:
        done, frames = cv2.imdecodemulti(content, flags)
    except cv2.error as error:
        raise _refused(error) from error
    if not done or len(frames) != pages or len({(frame.shape, frame.dtype) for frame in frames}) != 1:
        raise damaged(kind)
    return project(frames, page)


def _refused(error: Any) -> Refusal:
    return Refusal(f"OpenCV refuses it ({' '.join(error.err.split())})")


def _undecoded(kind: str) -> Refusal:
    # Checks what it can write, since it can't tell which formats it reads from memory.
    if not load_opencv().haveImageWriter(f"image.{kind}"):
        return Refusal(f"it is {NAMES[kind]}, which this build of OpenCV does not decode")
    if kind in _READ_IN_ALL_KINDS:
        return damaged(kind)
    return Refusal(f"it is {NAMES[kind]} that is truncated, damaged, or of a kind that OpenCV does not read")
